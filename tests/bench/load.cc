#include "tests/bench/load.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "proto/base/text.h"
#include "tests/e2e/support/producer.h"
#include "tests/e2e/support/raw_socket.h"

namespace clarion::bench {
namespace {

// Makes the events of a load; `delta` begins with the time of making.
class Maker {
 public:
  explicit Maker(const Load& load)
      : load_(load),
        run_(Concat("b", testing::NowNanos())),
        padding_(load.payload_bytes > 230 ? load.payload_bytes - 230 : 0, '.') {}

  v1::Event Next() {
    const std::string& thread = load_.threads[made_ % load_.threads.size()];
    return testing::Thinking(load_.user, thread, Concat(run_, "-", made_++),
                             std::to_string(testing::NowNanos()) + padding_);
  }
  uint64_t made() const { return made_; }

 private:
  const Load& load_;
  std::string run_;
  std::string padding_;
  uint64_t made_ = 0;
};

// Waits until event number `index` is due at the load's rate.
class Pace {
 public:
  explicit Pace(double rate) : rate_(rate), start_(std::chrono::steady_clock::now()) {}
  void Wait(uint64_t index) const {
    if (rate_ <= 0) return;
    std::this_thread::sleep_until(
        start_ + std::chrono::nanoseconds(static_cast<int64_t>(index / rate_ * 1e9)));
  }

 private:
  double rate_;
  std::chrono::steady_clock::time_point start_;
};

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

double PublishUnary(const testing::Deployment& deployment, const Load& load) {
  struct Call {
    grpc::ClientContext context;
    v1::PublishRequest request;
    v1::PublishResponse response;
  };
  auto stub = deployment.Stub();
  std::mutex mutex;
  std::condition_variable answered;
  uint64_t in_flight = 0;
  Maker maker(load);
  const Pace pace(load.rate);
  const auto start = std::chrono::steady_clock::now();
  while (maker.made() < load.events) {
    pace.Wait(maker.made());
    {
      std::unique_lock lock(mutex);
      answered.wait(lock, [&] { return in_flight < load.in_flight; });
      ++in_flight;
    }
    auto* call = new Call;
    *call->request.mutable_event() = maker.Next();
    stub->async()->Publish(
        &call->context, &call->request, &call->response, [&, call](grpc::Status status) {
          if (!status.ok()) std::fprintf(stderr, "publish: %s\n", status.error_message().c_str());
          delete call;
          std::lock_guard lock(mutex);
          --in_flight;
          answered.notify_one();
        });
  }
  std::unique_lock lock(mutex);
  answered.wait(lock, [&] { return in_flight == 0; });
  return SecondsSince(start);
}

double PublishStreamed(const testing::Deployment& deployment, const Load& load) {
  auto stub = deployment.Stub();
  grpc::ClientContext context;
  auto stream = stub->PublishStream(&context);
  std::mutex mutex;
  std::condition_variable answered;
  uint64_t in_flight = 0;
  std::thread reader([&] {
    v1::PublishStreamResponse response;
    while (stream->Read(&response)) {
      for (const v1::PublishResult& result : response.results()) {
        if (result.has_refused())
          std::fprintf(stderr, "refused: %s\n", result.refused().message().c_str());
      }
      std::lock_guard lock(mutex);
      in_flight -= response.results_size();
      answered.notify_one();
    }
  });
  Maker maker(load);
  const Pace pace(load.rate);
  const auto start = std::chrono::steady_clock::now();
  while (maker.made() < load.events) {
    pace.Wait(maker.made() + load.batch - 1);
    if (load.hold) load.hold(maker.made());
    v1::PublishStreamRequest request;
    const uint64_t size = std::min<uint64_t>(load.batch, load.events - maker.made());
    for (uint64_t i = 0; i < size; ++i) *request.add_events()->mutable_event() = maker.Next();
    {
      std::unique_lock lock(mutex);
      answered.wait(lock,
                    [&] { return in_flight + size <= std::max<uint64_t>(load.in_flight, size); });
      in_flight += size;
    }
    if (!stream->Write(request)) break;
  }
  {
    std::unique_lock lock(mutex);
    answered.wait_for(lock, std::chrono::seconds(30), [&] { return in_flight == 0; });
  }
  const double seconds = SecondsSince(start);
  stream->WritesDone();
  reader.join();
  stream->Finish();
  return seconds;
}

double CpuSeconds(pid_t pid) {
  std::ifstream file(Concat("/proc/", pid, "/stat"));
  std::string line;
  std::getline(file, line);
  std::istringstream fields(line.substr(line.rfind(')') + 2));
  std::string skip;
  for (int i = 0; i < 11; ++i) fields >> skip;
  double user = 0, system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

uint64_t ResidentKiB(pid_t pid) {
  std::ifstream file(Concat("/proc/", pid, "/status"));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmRSS:")) return std::strtoull(line.c_str() + 6, nullptr, 10);
  }
  return 0;
}

}  // namespace clarion::bench
