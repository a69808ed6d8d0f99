// The figures of Clarion on this machine, load generator included: run by `./dev bench [NAME ...]`.
//
// Absolute figures depend on the machine; compare those of one run.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "proto/base/text.h"
#include "tests/bench/followers.h"
#include "tests/bench/load.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/raw_socket.h"

namespace clarion::bench {
namespace {

using testing::Deployment;
using testing::Form;
using testing::NowNanos;

std::vector<std::string> Threads(size_t count) {
  std::vector<std::string> threads;
  threads.reserve(count);
  for (size_t i = 0; i < count; ++i) threads.push_back(Concat("thread-", i));
  return threads;
}

double Quantile(std::vector<double>& values, double q) {
  if (values.empty()) return 0;
  const size_t index =
      std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())));
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(index), values.end());
  return values[index];
}

double ServerCpu(Deployment& deployment) {
  const double service = CpuSeconds(deployment.service().pid());
  return deployment.one_process() ? service : service + CpuSeconds(deployment.gateway().pid());
}

uint64_t ServerKiB(Deployment& deployment) {
  const uint64_t service = ResidentKiB(deployment.service().pid());
  return deployment.one_process() ? service : service + ResidentKiB(deployment.gateway().pid());
}

const std::vector<std::string> kServiceArguments = {"--max-user-connections", "15000"};
const std::vector<std::string> kGatewayArguments = {"--max-connections", "15000",
                                                    "--max-connections-per-user", "15000"};

void Ingest(Form form) {
  Deployment deployment(form);
  deployment.Start();
  const auto report = [&](const char* what, double seconds, const Load& load, double cpu) {
    std::printf("  %-34s %9.0f events/s  %6.1f us CPU of the service each\n", what,
                static_cast<double>(load.events) / seconds,
                cpu * 1e6 / static_cast<double>(load.events));
  };
  Load load;
  load.threads = Threads(1000);
  const auto run = [&](const char* what, bool unary) {
    const double before = CpuSeconds(deployment.service().pid());
    const double seconds =
        unary ? PublishUnary(deployment, load) : PublishStreamed(deployment, load);
    report(what, seconds, load, CpuSeconds(deployment.service().pid()) - before);
  };
  load.events = 100'000;
  run("Publish, 1,024 in flight", true);
  run("PublishStream, one an item", false);
  load.events = 1'000'000;
  load.batch = 32;
  load.in_flight = 8192;
  run("PublishStream, batches of 32", false);
}

// Says so if they do not come.
void AwaitEvents(Followers& followers, uint64_t events) {
  if (followers.WaitForEvents(events)) return;
  std::printf("  %lu events are missing; %lu connections ended\n", events - followers.events(),
              followers.closed());
}

bool Ready(Followers& followers) {
  if (followers.WaitReady()) return true;
  std::printf("  followers did not get ready; %lu of their connections ended\n",
              followers.closed());
  return false;
}

void Latency(Form form) {
  Deployment deployment(form, kServiceArguments, kGatewayArguments);
  deployment.Start();
  Followers followers(deployment.stream_port());
  Load load;
  load.threads = Threads(1000);
  // The thread must be the user's before it can be followed live.
  load.events = 1000;
  load.batch = 32;
  PublishStreamed(deployment, load);
  for (const std::string& thread : load.threads) followers.Add(deployment.Token("bench"), thread);
  followers.Start();
  if (!Ready(followers)) return;
  for (const double rate : {1000.0, 10'000.0, 20'000.0}) {
    for (const size_t batch : {size_t{1}, size_t{32}}) {
      followers.TakeDelays();
      const uint64_t before = followers.events();
      const double cpu = ServerCpu(deployment);
      load.rate = rate;
      load.batch = batch;
      load.events = static_cast<uint64_t>(rate * 5);
      PublishStreamed(deployment, load);
      AwaitEvents(followers, before + load.events);
      std::vector<double> delays = followers.TakeDelays();
      std::printf("  %6.0f events/s by %2zu: p50 %.2f ms, p99 %.2f ms, %.1f CPU s per million\n",
                  rate, batch, Quantile(delays, 0.5), Quantile(delays, 0.99),
                  (ServerCpu(deployment) - cpu) * 1e6 / static_cast<double>(load.events));
    }
  }
}

void Fanout(Form form) {
  Deployment deployment(form, kServiceArguments, kGatewayArguments);
  deployment.Start();
  Load load;
  load.threads = Threads(1);
  load.events = 1;
  PublishStreamed(deployment, load);
  Followers followers(deployment.stream_port());
  constexpr uint64_t kFollowers = 1000;
  for (uint64_t i = 0; i < kFollowers; ++i)
    followers.Add(deployment.Token("bench"), load.threads[0]);
  followers.Start();
  if (!Ready(followers)) return;
  const auto run = [&](const char* what) {
    const uint64_t before = followers.events();
    // A closed loop: nobody is so far behind that its queue overflows.
    load.hold = [&](uint64_t made) {
      constexpr uint64_t kAhead = 512;
      if (made > kAhead) followers.WaitForEvents(before + (made - kAhead) * kFollowers);
    };
    const double cpu = ServerCpu(deployment);
    const auto start = NowNanos();
    PublishStreamed(deployment, load);
    AwaitEvents(followers, before + load.events * kFollowers);
    const double seconds = static_cast<double>(NowNanos() - start) / 1e9;
    const double deliveries = static_cast<double>(load.events * kFollowers);
    std::printf("  %-26s %9.0f deliveries/s, %.2f CPU s per million\n", what, deliveries / seconds,
                (ServerCpu(deployment) - cpu) * 1e6 / deliveries);
    followers.TakeDelays();
  };
  load.events = 250;
  load.rate = 50;
  run("50 events/s");
  load.events = 5000;
  load.rate = 0;
  load.batch = 32;
  run("as fast as it goes");
}

void Idle(Form form) {
  Deployment deployment(form, kServiceArguments, kGatewayArguments);
  deployment.Start();
  constexpr uint64_t kConnections = 10'000;
  const uint64_t before = ServerKiB(deployment);
  Followers followers(deployment.stream_port());
  for (uint64_t i = 0; i < kConnections; ++i) {
    followers.Add(deployment.Token("bench"), Concat("thread-", i));
  }
  Load load;
  load.threads = Threads(kConnections);
  load.events = kConnections;
  load.batch = 32;
  PublishStreamed(deployment, load);
  const uint64_t with_threads = ServerKiB(deployment);
  const double cpu_threads = ServerCpu(deployment);
  followers.Start();
  if (!Ready(followers)) return;
  std::printf(
      "  %lu subscribed connections: %.1f KiB each (threads of one event: %.1f KiB each); "
      "connect, authenticate, subscribe: %.0f CPU ms per 1,000\n",
      kConnections, static_cast<double>(ServerKiB(deployment) - with_threads) / kConnections,
      static_cast<double>(with_threads - before) / kConnections,
      (ServerCpu(deployment) - cpu_threads) * 1e6 / kConnections);
}

}  // namespace
}  // namespace clarion::bench

int main(int argc, char** argv) {
  using clarion::testing::Form;
  const std::vector<std::pair<std::string, std::function<void(Form)>>> all = {
      {"ingest", clarion::bench::Ingest},
      {"latency", clarion::bench::Latency},
      {"fanout", clarion::bench::Fanout},
      {"idle", clarion::bench::Idle},
  };
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  const std::vector<std::string> wanted(argv + 1, argv + argc);
  for (const auto& [name, run] : all) {
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), name) == wanted.end()) continue;
    for (const Form form : {Form::kOneProcess, Form::kTwoProcesses}) {
      std::printf("%s, %s\n", name.c_str(), clarion::testing::NameOf(form).c_str());
      std::fflush(stdout);
      run(form);
      std::fflush(stdout);
    }
  }
}
