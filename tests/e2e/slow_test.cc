// Browsers that do not take what is sent to them, among others that do.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/support/crowd.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"
#include "tests/e2e/support/raw_socket.h"

namespace clarion::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kKiB = 1024;

std::string ThreadOf(int number) {
  return "t" + std::to_string(number);
}

class SlowTest : public ::testing::TestWithParam<Form> {
 protected:
  // Deltas of one message that say when they were published.
  std::vector<v1::Event> Now(const std::string& thread, int count, size_t padding) {
    std::vector<v1::Event> events;
    events.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) {
      events.push_back(Thinking("ada", thread, "e" + std::to_string(++made_),
                                std::to_string(NowNanos()) + " " + std::string(padding, 'x')));
    }
    return events;
  }
  static double Metric(const Deployment& deployment, const std::string& name) {
    return MetricValue(deployment.gateway_admin_port(), name);
  }

  int made_ = 0;
};

TEST_P(SlowTest, OneInAHundredThatNeverReadsCostsTheOthersNothing) {
  constexpr int kReaders = 198, kSleepers = 2, kThreads = 20, kWindows = 10;
  constexpr int kRounds = 50, kBacklog = 30'000;
  Deployment deployment(GetParam(), {}, {"--max-connections-per-user", "1000"});
  deployment.Start();
  BulkPublisher publisher(deployment);
  publisher.Publish(Now("backlog", kBacklog, 400));
  Crowd readers(deployment.stream_port());
  std::vector<CrowdMember> members;
  members.reserve(kReaders);
  for (int i = 0; i < kReaders; ++i) {
    members.push_back({deployment.Token("ada"), ThreadOf(i % kThreads), "live"});
  }
  for (int i = 0; i < kThreads; ++i) publisher.Publish(Now(ThreadOf(i), 1, 0));
  readers.Join(members);
  ASSERT_TRUE(readers.WaitFor([&] { return readers.caught_up() == kReaders; }, seconds(60)));

  std::vector<double> with, without;
  for (int window = 0; window < kWindows; ++window) {
    const bool asleep = window % 2 == 1;
    std::unique_ptr<Crowd> sleepers;
    if (asleep) {
      sleepers = std::make_unique<Crowd>(deployment.stream_port());
      const CrowdMember sleeper{deployment.Token("ada"), "backlog", "start", "full",
                                /*reads=*/false};
      sleepers->Join(std::vector<CrowdMember>(kSleepers, sleeper));
      ASSERT_TRUE(readers.WaitFor(
          [&] { return Metric(deployment, "clarion_queued_connections") == kSleepers; },
          seconds(30)))
          << "they are not asleep";
    }
    readers.TakeDelays();
    MetricWatch waiting({{deployment.gateway_admin_port(), "clarion_queued_connections"}});
    for (int round = 0; round < kRounds; ++round) {
      for (int i = 0; i < kThreads; ++i) publisher.Publish(Now(ThreadOf(i), 2, 200));
    }
    publisher.Publish(Now("backlog", 100, 400));
    waiting.Stop();
    EXPECT_LE(waiting.most(0), asleep ? kSleepers : 0) << "somebody else's queue was not empty";
    ASSERT_TRUE(
        readers.WaitForOffset(1 + static_cast<uint64_t>(2 * kRounds * (window + 1)), seconds(30)))
        << readers.fault();
    std::vector<double> delays = readers.TakeDelays();
    ASSERT_FALSE(delays.empty());
    std::sort(delays.begin(), delays.end());
    (asleep ? with : without).push_back(delays[delays.size() * 99 / 100]);
    sleepers.reset();
    ASSERT_TRUE(readers.WaitFor(
        [&] { return Metric(deployment, "clarion_queued_connections") == 0; }, seconds(30)));
  }
  EXPECT_EQ(readers.closed(), 0u);
  const auto median = [](std::vector<double>& values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  };
  std::printf(
      "[ FIGURE   ] %s: p99 of the others, median of %d windows each: %.2f ms with %d sleepers, "
      "%.2f ms without\n",
      NameOf(GetParam()).c_str(), kWindows / 2, median(with), kSleepers, median(without));
}

TEST_P(SlowTest, WhoTakesNothingIsClosedAndWhoComesBackGetsTheRest) {
  Deployment deployment(GetParam(), {},
                        {"--stall-timeout-ms", "1000", "--max-queued-bytes", "131072"});
  deployment.Start();
  BulkPublisher publisher(deployment);
  publisher.Publish(Now("t", 30'000, 400));
  Crowd sleeper(deployment.stream_port());
  sleeper.Join({{deployment.Token("ada"), "t", "start", "full", /*reads=*/false}});
  ASSERT_TRUE(sleeper.WaitFor(
      [&] { return Metric(deployment, "clarion_slow_connections_closed_total") == 1; },
      seconds(30)));
  Crowd back(deployment.stream_port());
  back.Join({{deployment.Token("ada"), "t"}});
  EXPECT_TRUE(back.WaitForOffset(30'000, seconds(60))) << back.fault();
}

// Live events faster than its socket takes them: dropped here, compacted there, nothing lost.
TEST_P(SlowTest, AQueueThatOverflowsIsReplayedCompacted) {
  Deployment deployment(GetParam(), {}, {"--max-queued-bytes", std::to_string(64 * kKiB)});
  deployment.Start();
  BulkPublisher publisher(deployment);
  publisher.Publish(Now("t", 1, 0));
  Crowd crowd(deployment.stream_port());
  CrowdMember slow{deployment.Token("ada"), "t", "live"};
  slow.pause_after_caught_up = true;
  crowd.Join({slow});
  ASSERT_TRUE(crowd.WaitFor([&] { return crowd.caught_up() == 1; }, seconds(30)));
  uint64_t last = 1;
  while (Metric(deployment, "clarion_slow_connections_relieved_total") < 1) {
    publisher.Publish(Now("t", 1'000, 400));
    last += 1'000;
    ASSERT_LT(last, 1'000'000u) << "its queue never overflows";
  }
  publisher.Publish(Now("t", 5'000, 10));
  last += 5'000;
  crowd.Resume();
  EXPECT_TRUE(crowd.WaitForOffset(last, seconds(60))) << crowd.fault();
  EXPECT_EQ(crowd.closed(), 0u);
  EXPECT_LT(crowd.frames(), last) << "compacted";
  EXPECT_EQ(Metric(deployment, "clarion_slow_connections_closed_total"), 0);
}

INSTANTIATE_TEST_SUITE_P(Forms, SlowTest, ::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace clarion::testing
