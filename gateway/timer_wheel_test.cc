#include "gateway/timer_wheel.h"

#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

using namespace std::chrono_literals;

class TimerWheelTest : public ::testing::Test {
 protected:
  class Alarm final : public TimerWheel::Entry {
   public:
    explicit Alarm(std::function<void(TimerWheel::Time)> task) : task_(std::move(task)) {}

   private:
    void OnTimer(TimerWheel::Time now) override { task_(now); }
    std::function<void(TimerWheel::Time)> task_;
  };

  void Advance(std::chrono::milliseconds by) {
    now_ += by;
    wheel_.Advance(now_);
  }

  TimerWheel::Time now_{1h};
  TimerWheel wheel_{now_};
  int fired_ = 0;
  Alarm alarm_{[this](TimerWheel::Time) { ++fired_; }};
};

TEST_F(TimerWheelTest, FiresOnceNotBeforeItsDeadlineAndAtMostTwoTicksAfter) {
  wheel_.Arm(alarm_, now_ + 1s);
  Advance(999ms);
  EXPECT_EQ(fired_, 0);
  Advance(2 * TimerWheel::kTick + 1ms);
  EXPECT_EQ(fired_, 1);
  Advance(1h);
  EXPECT_EQ(fired_, 1);
}

TEST_F(TimerWheelTest, NeverFiresAfterDisarm) {
  wheel_.Arm(alarm_, now_ + 1s);
  alarm_.Disarm();
  Advance(10s);
  EXPECT_EQ(fired_, 0);
}

TEST_F(TimerWheelTest, RearmingReplacesTheDeadline) {
  wheel_.Arm(alarm_, now_ + 1s);
  wheel_.Arm(alarm_, now_ + 5s);
  Advance(4s);
  EXPECT_EQ(fired_, 0);
  Advance(2s);
  EXPECT_EQ(fired_, 1);
}

TEST_F(TimerWheelTest, DeadlineFurtherThanARoundWaitsItsRounds) {
  wheel_.Arm(alarm_, now_ + 2h);
  for (int i = 0; i < 119; ++i) Advance(1min);
  EXPECT_EQ(fired_, 0);
  Advance(2min);
  EXPECT_EQ(fired_, 1);
}

TEST_F(TimerWheelTest, DeadlineInThePastFiresWithTheNextTick) {
  wheel_.Arm(alarm_, now_ - 1h);
  EXPECT_EQ(fired_, 0);
  Advance(TimerWheel::kTick);
  EXPECT_EQ(fired_, 1);
}

TEST_F(TimerWheelTest, TaskMayRearmItselfAndDestroyOthersThatAreDue) {
  auto other =
      std::make_unique<Alarm>([](TimerWheel::Time) { FAIL() << "destroyed before its turn"; });
  Alarm first([&](TimerWheel::Time now) {
    ++fired_;
    other.reset();
    wheel_.Arm(first, now + 1s);
  });
  wheel_.Arm(first, now_ + 1s);
  wheel_.Arm(*other, now_ + 1s);
  Advance(1100ms);
  EXPECT_EQ(fired_, 1);
  Advance(1100ms);
  EXPECT_EQ(fired_, 2);
}

TEST_F(TimerWheelTest, RandomDeadlinesAllFireInTheirWindow) {
  std::mt19937 random(1);
  std::vector<std::unique_ptr<Alarm>> alarms;
  for (int i = 0; i < 500; ++i) {
    const TimerWheel::Time due = now_ + std::chrono::milliseconds(random() % 100'000);
    alarms.push_back(std::make_unique<Alarm>([this, due](TimerWheel::Time now) {
      ++fired_;
      EXPECT_GE(now, due);
      EXPECT_LE(now, due + 2 * TimerWheel::kTick + 37ms);
    }));
    wheel_.Arm(*alarms.back(), due);
  }
  for (int i = 0; i < 3'000; ++i) Advance(37ms);
  EXPECT_EQ(fired_, 500);
}

}  // namespace
}  // namespace clarion::gateway
