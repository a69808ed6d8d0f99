#include "service/log/run_rules.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::log {
namespace {

using enum RunStep;

// A run to which things happen.
class RunRulesTest : public testing::Test {
 protected:
  // What stands against it; it is taken if nothing does.
  RunRule Say(RunStep step, const std::string& key = "") {
    const RunRule rule = CheckStep(started_ ? &run_ : nullptr, step, key);
    if (rule == RunRule::kNone) Take(step, key);
    return rule;
  }
  void Take(RunStep step, const std::string& key = "") {
    started_ = true;
    AppendItem item;
    item.run_step = step;
    item.run_key = key;
    item.run_outcome = 7;
    item.suspended_until = WallTime(std::chrono::milliseconds(5));
    last_ = last_.next();
    TakeStep(run_, item, last_);
  }

  bool started_ = false;
  Offset last_;
  RunRecord run_;
};

TEST_F(RunRulesTest, NothingComesBeforeTheStart) {
  for (const RunStep step : {kInside, kOpenTool, kUseTool, kCloseTool, kOpenStep, kCloseStep,
                             kSuspend, kComplete, kStop, kAftermath}) {
    EXPECT_EQ(Say(step), RunRule::kNotStarted);
  }
  EXPECT_EQ(Say(kStart), RunRule::kNone);
  EXPECT_EQ(Say(kStart), RunRule::kStarted);
}

TEST_F(RunRulesTest, ToolsAndStepsOpenAndCloseInPairsSeveralAtOnce) {
  Say(kStart);
  EXPECT_EQ(Say(kUseTool, "a"), RunRule::kNotOpen);
  EXPECT_EQ(Say(kCloseTool, "a"), RunRule::kNotOpen);
  EXPECT_EQ(Say(kCloseStep, "a"), RunRule::kNotOpen);
  EXPECT_EQ(Say(kOpenTool, "a"), RunRule::kNone);
  EXPECT_EQ(Say(kOpenTool, "b"), RunRule::kNone);
  EXPECT_EQ(Say(kOpenStep, "a"), RunRule::kNone);  // a step may be called like a tool's call
  EXPECT_EQ(Say(kOpenTool, "a"), RunRule::kOpenAlready);
  EXPECT_EQ(Say(kOpenStep, "a"), RunRule::kOpenAlready);
  EXPECT_EQ(Say(kUseTool, "b"), RunRule::kNone);
  EXPECT_EQ(Say(kCloseTool, "a"), RunRule::kNone);
  EXPECT_EQ(Say(kUseTool, "a"), RunRule::kNotOpen);
  EXPECT_EQ(Say(kOpenTool, "a"), RunRule::kNone);  // once more
}

TEST_F(RunRulesTest, CompletionWantsEverythingClosed) {
  Say(kStart);
  Say(kOpenTool, "a");
  EXPECT_EQ(Say(kComplete), RunRule::kStillOpen);
  Say(kCloseTool, "a");
  Say(kOpenStep, "s");
  EXPECT_EQ(Say(kComplete), RunRule::kStillOpen);
  Say(kCloseStep, "s");
  EXPECT_EQ(Say(kComplete), RunRule::kNone);
  EXPECT_EQ(run_.end, last_);
  EXPECT_EQ(run_.outcome, 7);
}

TEST_F(RunRulesTest, AnyOtherEndEndsWhatIsOpen) {
  Say(kStart);
  Say(kOpenTool, "a");
  EXPECT_EQ(Say(kStop), RunRule::kNone);
  EXPECT_EQ(run_.end, last_);
  EXPECT_TRUE(run_.open.empty());
}

TEST_F(RunRulesTest, AfterTheEndOnlyTheAftermath) {
  Say(kStart);
  Say(kStop);
  const Offset end = last_;
  for (const RunStep step : {kInside, kOpenTool, kUseTool, kCloseTool, kOpenStep, kCloseStep,
                             kSuspend, kComplete, kStop}) {
    EXPECT_EQ(Say(step), RunRule::kEnded);
  }
  EXPECT_EQ(Say(kStart), RunRule::kStarted);
  EXPECT_EQ(Say(kAftermath), RunRule::kNone);
  EXPECT_EQ(run_.end, end);
  EXPECT_EQ(run_.last, end);
}

TEST_F(RunRulesTest, ASuspendedRunGoesOnWithItsNextEvent) {
  Say(kStart);
  Say(kOpenTool, "a");
  EXPECT_EQ(Say(kSuspend), RunRule::kNone);
  EXPECT_TRUE(run_.suspended);
  EXPECT_EQ(run_.suspended_until, WallTime(std::chrono::milliseconds(5)));
  EXPECT_EQ(run_.end, Offset{});
  EXPECT_EQ(Say(kUseTool, "a"), RunRule::kNone);
  EXPECT_FALSE(run_.suspended);
  EXPECT_EQ(run_.suspended_until, WallTime{});
}

TEST_F(RunRulesTest, OnlySoManyAreOpenAtATime) {
  Say(kStart);
  for (size_t n = 0; n < kMaxOpenParts; ++n) {
    EXPECT_EQ(Say(kOpenTool, std::to_string(n)), RunRule::kNone);
  }
  EXPECT_EQ(Say(kOpenStep, "one more"), RunRule::kTooManyOpen);
  Say(kCloseTool, "0");
  EXPECT_EQ(Say(kOpenStep, "one more"), RunRule::kNone);
}

// What CheckStep has something against, taken all the same (RunRules::kLenient), leaves the run as
// it makes sense.
TEST_F(RunRulesTest, WhatMakesNoSenseChangesNothing) {
  Say(kStart);
  Say(kOpenTool, "a");
  Take(kOpenTool, "a");
  Take(kCloseTool, "b");
  Take(kCloseStep, "a");
  EXPECT_THAT(run_.open, testing::ElementsAre(OpenPart{OpenPart::Kind::kTool, "a"}));
  Say(kStop);
  const Offset end = run_.end;
  Take(kStop);
  Take(kOpenTool, "c");
  EXPECT_EQ(run_.end, end);
  EXPECT_TRUE(run_.open.empty());
}

// The rules once more, said another way: sets of names, and a word for where the run stands.
class Reference {
 public:
  bool Allows(RunStep step, const std::string& key) const {
    if (state_ == State::kNone) return step == kStart;
    if (step == kStart) return false;
    if (state_ == State::kOver) return step == kAftermath;
    switch (step) {
      case kOpenTool:
        return !tools_.contains(key) && tools_.size() + steps_.size() < kMaxOpenParts;
      case kOpenStep:
        return !steps_.contains(key) && tools_.size() + steps_.size() < kMaxOpenParts;
      case kUseTool:
      case kCloseTool:
        return tools_.contains(key);
      case kCloseStep:
        return steps_.contains(key);
      case kComplete:
        return tools_.empty() && steps_.empty();
      default:
        return true;
    }
  }
  void Take(RunStep step, const std::string& key) {
    if (step == kOpenTool) tools_.insert(key);
    if (step == kOpenStep) steps_.insert(key);
    if (step == kCloseTool) tools_.erase(key);
    if (step == kCloseStep) steps_.erase(key);
    if (state_ == State::kOver) return;
    state_ = step == kSuspend ? State::kSuspended : State::kOn;
    if (step != kComplete && step != kStop) return;
    state_ = State::kOver;
    tools_.clear();
    steps_.clear();
  }
  bool over() const { return state_ == State::kOver; }
  bool suspended() const { return state_ == State::kSuspended; }
  size_t open() const { return tools_.size() + steps_.size(); }

 private:
  enum class State { kNone, kOn, kSuspended, kOver };
  State state_ = State::kNone;
  std::set<std::string> tools_, steps_;
};

TEST_F(RunRulesTest, ThousandsOfRandomRunsAreJudgedAsTheReferenceDoes) {
  std::mt19937_64 random(20260613);
  const auto pick = [&random](uint64_t below) { return random() % below; };
  uint64_t accepted = 0, refused = 0;
  for (int n = 0; n < 5'000; ++n) {
    started_ = false;
    run_ = RunRecord{};
    Reference reference;
    // Some runs are long and hold much open, so that the bound is met.
    const uint64_t names = pick(4) == 0 ? 400 : 3;
    const uint64_t steps = names > 3 ? 400 : 40;
    for (uint64_t i = 0; i < steps; ++i) {
      auto step = static_cast<RunStep>(pick(static_cast<uint64_t>(kAftermath) + 1));
      const bool ends = step == kComplete || step == kStop;
      if (i == 0 && pick(10) != 0)
        step = kStart;
      else if (ends && pick(10) != 0)
        step = names > 3 ? kOpenTool : kInside;
      const std::string key = std::to_string(pick(names));
      const bool allowed = reference.Allows(step, key);
      ASSERT_EQ(Say(step, key) == RunRule::kNone, allowed)
          << "run " << n << ", step " << i << ": " << static_cast<int>(step) << " " << key;
      if (allowed) reference.Take(step, key);
      ++(allowed ? accepted : refused);
      ASSERT_EQ(run_.end != Offset{}, reference.over());
      ASSERT_EQ(run_.suspended, reference.suspended());
      ASSERT_EQ(run_.open.size(), reference.open());
    }
  }
  EXPECT_GT(accepted, 50'000u);
  EXPECT_GT(refused, 50'000u);
}

}  // namespace
}  // namespace clarion::log
