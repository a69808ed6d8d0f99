// Publishers for measurements: unary calls with many in flight, and streams of batches.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/e2e/support/deployment.h"

namespace clarion::bench {

struct Load {
  std::string user = "bench";
  std::vector<std::string> threads;
  uint64_t events = 0;
  size_t batch = 1;            // events in one request
  size_t in_flight = 1024;     // events without an answer at most
  double rate = 0;             // events per second; 0: as fast as it goes
  size_t payload_bytes = 256;  // of the whole event as JSON, about
  // Streams: called before each batch with the number of events made; may block.
  std::function<void(uint64_t made)> hold;
};

// Both return the seconds from the first event to the last answer.
double PublishUnary(const testing::Deployment& deployment, const Load& load);
double PublishStreamed(const testing::Deployment& deployment, const Load& load);

// User and system seconds of a process so far, and its resident memory in KiB.
double CpuSeconds(pid_t pid);
uint64_t ResidentKiB(pid_t pid);

}  // namespace clarion::bench
