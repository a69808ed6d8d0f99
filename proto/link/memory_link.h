// The link inside one process: a bounded queue of shared pointers each way.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

#include "boost/asio/io_context.hpp"
#include "proto/link/link.h"

namespace clarion::link {

struct MemoryLinkOptions {
  // Live bytes (of events) that may wait for the loop before SendLive answers false.
  size_t live_bytes = 4 * 1024 * 1024;
  // Control messages that may wait besides.
  size_t control_messages = 100'000;
  // After GATEWAY_DISPLACED.
  std::chrono::milliseconds displaced_first{1'000};
  std::chrono::milliseconds displaced_most{30'000};
};

// The gateway's end, for the loop that runs `loop`. `service` outlives it.
std::unique_ptr<Link> MakeMemoryLink(boost::asio::io_context& loop, Service* service,
                                     MemoryLinkOptions options = {});

}  // namespace clarion::link
