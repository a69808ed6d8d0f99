#include "gateway/drain.h"

#include <chrono>
#include <deque>
#include <string>
#include <vector>

#include "gateway/timer_wheel.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

class FakeConnection : public ConnectionListHook {
 public:
  FakeConnection(std::string name, bool busy, std::vector<std::string>* told)
      : name_(std::move(name)), busy_(busy), told_(told) {}
  void GoAway(uint32_t reconnect_after_ms) override {
    told_->push_back(name_ + " " + std::to_string(reconnect_after_ms));
  }
  bool FollowsOpenRun() const override { return busy_; }

 private:
  const std::string name_;
  const bool busy_;
  std::vector<std::string>* const told_;
};

class DrainTest : public testing::Test {
 protected:
  void Add(const std::string& name, bool busy = false) {
    made_.emplace_back(name, busy, &told_);
    connections_.push_back(made_.back());
  }
  Drain Begin(double per_second, seconds time = seconds(20)) {
    return Drain({.begin = now_, .end = now_ + time, .per_second = per_second}, connections_);
  }
  // `time` goes by, tick after tick.
  std::vector<std::string> After(Drain& drain, milliseconds time) {
    told_.clear();
    for (const auto end = now_ + time; now_ < end;) {
      now_ += TimerWheel::kTick;
      drain.Advance(now_);
    }
    return told_;
  }

  std::chrono::steady_clock::time_point now_{std::chrono::hours(1)};
  std::vector<std::string> told_;
  ConnectionList connections_;
  std::deque<FakeConnection> made_;
};

TEST_F(DrainTest, SendsAsManyAwayAsItMayEachSecond) {
  for (const char* name : {"a", "b", "c", "d", "e"}) Add(name);
  Drain drain = Begin(10);
  EXPECT_THAT(After(drain, milliseconds(50)), IsEmpty());
  EXPECT_THAT(After(drain, milliseconds(50)), ElementsAre("a 150"));
  EXPECT_THAT(After(drain, milliseconds(250)), ElementsAre("b 150", "c 150"));
  EXPECT_FALSE(drain.done());
  EXPECT_THAT(After(drain, milliseconds(5000)), ElementsAre("d 150", "e 150"));
  EXPECT_TRUE(drain.done());
}

TEST_F(DrainTest, ALoopThatStoodStillDoesNotMakeUpForIt) {
  for (const char* name : {"a", "b", "c", "d", "e"}) Add(name);
  Drain drain = Begin(20);
  EXPECT_THAT(After(drain, milliseconds(50)), ElementsAre("a 150"));
  now_ += seconds(10);
  EXPECT_THAT(After(drain, milliseconds(50)), ElementsAre("b 125"));
  EXPECT_THAT(After(drain, milliseconds(50)), ElementsAre("c 125"));
}

TEST_F(DrainTest, ThoseThatFollowAnOpenRunGoLast) {
  Add("a", true);
  Add("b");
  Add("c", true);
  Add("d");
  Drain drain = Begin(1000);
  EXPECT_THAT(After(drain, seconds(1)), ElementsAre("b 101", "d 102", "a 103", "c 104"));
}

TEST_F(DrainTest, WhoIsLeftAtTheEndComesBackAtTheSameRate) {
  for (const char* name : {"a", "b", "c"}) Add(name);
  Add("d", true);
  Drain drain = Begin(2, seconds(1));
  EXPECT_THAT(After(drain, milliseconds(500)), ElementsAre("a 150"));
  EXPECT_THAT(After(drain, milliseconds(500)), ElementsAre("b 150", "c 650", "d 1150"));
  EXPECT_TRUE(drain.done());
}

TEST_F(DrainTest, WhoWasToldStaysInTheListUntilItHasGoneAndWhoLeavesIsForgotten) {
  Add("a");
  Add("b");
  Drain drain = Begin(1);
  After(drain, seconds(1));
  EXPECT_FALSE(connections_.empty());
  made_.pop_back();  // b leaves by itself
  EXPECT_TRUE(drain.done());
  made_.pop_back();
  EXPECT_TRUE(connections_.empty());
}

}  // namespace
}  // namespace clarion::gateway
