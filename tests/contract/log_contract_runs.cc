// The life of a run, judged in the commit (service/log/run_rules.h).
#include <chrono>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/contract/log_contract.h"

namespace clarion::log {
namespace {

using enum AppendOutcome;
using enum RunStep;
using testing::ElementsAre;
using testing::IsEmpty;

AppendItem Step(std::string_view id, RunStep step, std::string_view key = "",
                std::string_view run = "r") {
  AppendItem item = Item(id, {.effect = step, .run = std::string(run)});
  item.run_key = std::string(key);
  return item;
}

std::vector<std::string> Names(const std::vector<OpenPart>& open) {
  std::vector<std::string> names;
  for (const OpenPart& part : open) {
    names.push_back((part.kind == OpenPart::Kind::kTool ? "tool " : "step ") + part.name);
  }
  return names;
}

TEST_P(LogRunsTest, StrictRulesRefuseInTheCommitAndSayWhy) {
  const auto result = Append({Step("early", kInside), Start("s", "r"), Step("p", kUseTool, "a"),
                              Step("o", kOpenTool, "a"), Step("e", kComplete)});
  EXPECT_THAT(Outcomes(*result),
              ElementsAre(kRunProtocol, kAppended, kRunProtocol, kAppended, kRunProtocol));
  EXPECT_EQ(result->items[0].rule, RunRule::kNotStarted);
  EXPECT_FALSE(result->items[0].run.has_value());
  EXPECT_EQ(result->items[2].rule, RunRule::kNotOpen);
  EXPECT_EQ(result->items[4].rule, RunRule::kStillOpen);
  ASSERT_TRUE(result->items[4].run.has_value());
  EXPECT_THAT(result->items[4].run->open, ElementsAre(OpenPart{OpenPart::Kind::kTool, "a"}));
}

TEST_P(LogRunsTest, LenientRulesTakeWhatCanStand) {
  Append({Start("s", "r")}).status().IgnoreError();
  const auto result =
      Append({Step("p", kUseTool, "a"), Step("c", kCloseTool, "a"), Step("o", kOpenTool, "b"),
              Step("o2", kOpenTool, "b"), Step("e", kComplete), Step("q", kInside, "", "other")},
             RunRules::kLenient);
  EXPECT_THAT(Outcomes(*result),
              ElementsAre(kAppended, kAppended, kAppended, kAppended, kRunProtocol, kRunProtocol));
  EXPECT_EQ(result->items[4].rule, RunRule::kStillOpen);
  EXPECT_EQ(result->items[5].rule, RunRule::kNotStarted);
  EXPECT_THAT(Names(client().Run("t", "r")->open), ElementsAre("tool b"));
}

// The tool calls that are open are closed; of a run that nobody started, its start.
TEST_P(LogRunsTest, WhatMendsARunIsAppendedInFrontInTheSameCommit) {
  AppendRequest request;
  request.run_rules = RunRules::kLenient;
  request.mend = [](const AppendItem& item, RunRule rule, const std::optional<RunRecord>& run) {
    std::vector<AppendItem> front;
    const std::string id = "mend" + item.event_id.str();
    if (rule == RunRule::kNotStarted) front.push_back(Start(id, item.run_id.str()));
    if (rule == RunRule::kStillOpen) {
      for (const OpenPart& part : run->open)
        front.push_back(Step(id + part.name, kCloseTool, part.name));
    }
    return front;
  };
  request.items = {Step("1", kInside),   Step("2", kOpenTool, "a"), Step("3", kOpenTool, "b"),
                   Step("4", kComplete), Step("5", kInside),        Step("1", kInside)};
  const auto result = Append(request);
  EXPECT_THAT(Outcomes(*result),
              ElementsAre(kAppended, kAppended, kAppended, kAppended, kRunProtocol, kDuplicate));
  EXPECT_EQ(result->mends, 3u);
  EXPECT_EQ(result->items[4].rule, RunRule::kEnded);
  ForEachPlace([&](int) {
    EXPECT_THAT(client().ReadAll("t"),
                ElementsAre("1:text of mend1", "2:text of 1", "3:text of 2", "4:text of 3",
                            "5:text of mend4a", "6:text of mend4b", "7:text of 4"));
    EXPECT_EQ(client().Run("t", "r")->end, Offset(7));
    EXPECT_THAT(Outcomes(*Append(request)), ElementsAre(kDuplicate, kDuplicate, kDuplicate,
                                                        kDuplicate, kRunProtocol, kDuplicate));
  });
}

// More open runs than there may be: mending helps nobody.
TEST_P(LogRunsTest, WhatCannotBeMendedIsRefusedWithTheReason) {
  std::vector<AppendItem> many;
  for (size_t n = 0; n < under_test().max_open_runs(); ++n)
    many.push_back(Start("s" + std::to_string(n), "r" + std::to_string(n)));
  Append(many).status().IgnoreError();
  AppendRequest request;
  request.run_rules = RunRules::kLenient;
  request.items = {Step("1", kInside, "", "one more")};
  request.mend = [](const AppendItem& item, RunRule, const std::optional<RunRecord>&) {
    return std::vector<AppendItem>{Start("mend", item.run_id.str())};
  };
  EXPECT_THAT(Outcomes(*Append(request)), ElementsAre(kTooManyRuns));
}

TEST_P(LogRunsTest, WhatIsOpenIsKeptWithTheRun) {
  Append({Start("s", "r"), Step("1", kOpenTool, "a"), Step("2", kOpenStep, "a"),
          Step("3", kOpenTool, "b"), Step("4", kCloseTool, "a")})
      .status()
      .IgnoreError();
  ForEachPlace([this](int place) {
    EXPECT_THAT(Names(client().Run("t", "r")->open), ElementsAre("step a", "tool b"));
    const std::string id = "p" + std::to_string(place);
    EXPECT_THAT(Outcomes(*Append({Step(id, kUseTool, "b"), Step(id + "x", kUseTool, "a")})),
                ElementsAre(kAppended, kRunProtocol));
  });
}

TEST_P(LogRunsTest, ARunKnowsItsLastEvent) {
  Append({Start("s", "r"), Step("1", kInside), Start("s2", "q"), Step("2", kInside)})
      .status()
      .IgnoreError();
  const WallTime at = Append({Step("3", kInside, "", "q")})->committed_at;
  ForEachPlace([&](int) {
    EXPECT_EQ(client().Run("t", "r")->last, Offset(4));
    EXPECT_EQ(client().Run("t", "q")->last, Offset(5));
    EXPECT_EQ(client().Run("t", "q")->last_at, at);
  });
  Append({Step("e", kStop), Step("a", kAftermath)}).status().IgnoreError();
  EXPECT_EQ(client().Run("t", "r")->last, Offset(6)) << "what follows the end is not the run's";
}

TEST_P(LogRunsTest, AnEndIsFinal) {
  AppendItem end = Step("e", kStop);
  end.run_outcome = 9;
  Append({Start("s", "r"), end}).status().IgnoreError();
  ForEachPlace([this](int place) {
    EXPECT_EQ(client().Run("t", "r")->outcome, 9);
    const std::string id = std::to_string(place);
    for (const RunRules rules : {RunRules::kStrict, RunRules::kLenient}) {
      EXPECT_THAT(Outcomes(*Append({Step("i" + id, kInside), Step("c" + id, kComplete)}, rules)),
                  ElementsAre(kRunProtocol, kRunProtocol));
    }
    EXPECT_THAT(Outcomes(*Append({Step("a" + id, kAftermath)})), ElementsAre(kAppended));
  });
}

TEST_P(LogRunsTest, ASuspendedRunIsOpenAndGoesOn) {
  AppendItem wait = Step("w", kSuspend);
  wait.suspended_until = WallTime(std::chrono::seconds(1'800'000'000));
  Append({Start("s", "r"), wait}).status().IgnoreError();
  ForEachPlace([this](int) {
    const auto run = client().Run("t", "r");
    EXPECT_TRUE(run->suspended);
    EXPECT_EQ(run->suspended_until, WallTime(std::chrono::seconds(1'800'000'000)));
    EXPECT_EQ(run->end, Offset{});
  });
  EXPECT_THAT(Outcomes(*Append({Step("on", kInside)})), ElementsAre(kAppended));
  ForEachPlace([this](int) { EXPECT_FALSE(client().Run("t", "r")->suspended); });
}

TEST_P(LogRunsTest, AParentIsKeptWithTheRun) {
  AppendItem child = Start("c", "child");
  child.parent = RunId("r");
  Append({Start("s", "r"), child}).status().IgnoreError();
  ForEachPlace([this](int) { EXPECT_EQ(client().Run("t", "child")->parent, RunId("r")); });
}

// Who has looked at a run may end it only if nobody has gone on with it since.
TEST_P(LogRunsTest, AnAppendUnlessMovedIsAllOrNothing) {
  const Digest fence = Digest::Of("producer");
  AppendItem start = Start("s", "r");
  start.fence = fence;
  Append({start, Step("1", kInside)}).status().IgnoreError();
  const auto end = [&](std::string id, Digest named, uint64_t last) {
    AppendRequest request;
    request.items = {Step("partial" + id, kInside), Step(id, kStop)};
    request.items.back().next_fence = Digest::Of("lost");
    request.unless_moved = RunMark{RunId("r"), named, Offset(last)};
    return Outcomes(*Append(std::move(request)));
  };
  EXPECT_THAT(end("e1", fence, 1), ElementsAre(kRunMoved, kRunMoved));
  EXPECT_THAT(end("e2", Digest::Of("older"), 2), ElementsAre(kRunMoved, kRunMoved));
  // Another run's events move it not.
  Append({Start("s2", "q")}).status().IgnoreError();
  EXPECT_THAT(end("e3", fence, 2), ElementsAre(kAppended, kAppended));
  EXPECT_THAT(end("e4", fence, 5), ElementsAre(kRunMoved, kRunMoved)) << "it has ended";
  // Its producer is told that somebody else has ended it.
  AppendItem late = Step("late", kInside);
  late.fence = fence;
  ForEachPlace([&](int) { EXPECT_THAT(Outcomes(*Append({late})), ElementsAre(kFenced)); });
}

// Whatever the call: before its answer, and only what begins, ends, suspends or goes on.
TEST_P(LogRunsTest, AWatcherLearnsOfEveryTurnOfARun) {
  struct Watcher : RunWatcher {
    void OnRun(const ThreadId& thread, const RunRecord& run) override {
      MutexLock lock(mutex);
      const std::string state = run.end != Offset{} ? "ended" : run.suspended ? "waits" : "runs";
      turns.push_back(thread.str() + " " + run.run_id.str() + " " + state);
    }
    std::vector<std::string> Take() {
      MutexLock lock(mutex);
      return std::exchange(turns, {});
    }
    Mutex mutex;
    std::vector<std::string> turns ABSL_GUARDED_BY(mutex);
  } watcher;
  under_test().log()->WatchRuns(&watcher);
  Append({Start("s", "r"), Start("c", "child")}).status().IgnoreError();
  EXPECT_THAT(watcher.Take(), ElementsAre("t r runs", "t child runs"));
  Append({Step("1", kInside), Step("2", kOpenTool, "a"), Step("3", kCloseTool, "a"),
          Step("x", kUseTool, "no")})
      .status()
      .IgnoreError();
  EXPECT_THAT(watcher.Take(), IsEmpty());
  Append({Step("4", kSuspend)}).status().IgnoreError();
  EXPECT_THAT(watcher.Take(), ElementsAre("t r waits"));
  Append({Step("5", kInside), Step("6", kInside)}).status().IgnoreError();
  EXPECT_THAT(watcher.Take(), ElementsAre("t r runs"));
  Append({Step("7", kStop), Step("8", kAftermath), Start("s", "r"), Start("s9", "whole"),
          Step("9", kComplete, "", "whole")})
      .status()
      .IgnoreError();
  EXPECT_THAT(watcher.Take(), testing::UnorderedElementsAre("t r ended", "t whole ended"));
  under_test().log()->WatchRuns(nullptr);
}

TEST_P(LogRunsTest, ARunThatIsTakenOverFencesItsFormerProducer) {
  AppendItem start = Start("s", "r", "first");
  start.fence = Digest::Of("first");
  Append({start, Step("w", kSuspend)}).status().IgnoreError();
  const auto take = [this](std::string_view owner, std::string_view run, std::string_view who) {
    return Await<RunRecord>([&](Log::Callback<RunRecord> done) {
      under_test().log()->TakeOver(ThreadId("t"), UserId(owner),
                                   {RunId(run), Digest::Of(who), std::string(who)},
                                   std::move(done));
    });
  };
  const auto taken = take("u", "r", "second");
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->data, "second");
  EXPECT_FALSE(taken->suspended);
  ForEachPlace([&](int place) {
    EXPECT_EQ(client().Run("t", "r")->data, "second");
    AppendItem former = Step("f" + std::to_string(place), kInside);
    former.fence = Digest::Of("first");
    AppendItem present = Step("p" + std::to_string(place), kInside);
    present.fence = Digest::Of("second");
    EXPECT_THAT(Outcomes(*Append({former, present})), ElementsAre(kFenced, kAppended));
  });
  EXPECT_EQ(ReasonOf(take("v", "r", "eve").status()), Reason::kThreadOwnership);
  EXPECT_EQ(ReasonOf(take("u", "no", "second").status()), Reason::kNotFound);
  Append({Step("e", kStop)}).status().IgnoreError();
  EXPECT_EQ(ReasonOf(take("u", "r", "third").status()), Reason::kRunProtocol);
}

TEST_P(LogRunsTest, WhatMovedTheRunIsARepetitionTheSecondTime) {
  Append({Start("s", "r")}).status().IgnoreError();
  AppendRequest request;
  request.items = {Step("e", kStop)};
  request.unless_moved = RunMark{RunId("r"), Digest{}, Offset(1)};
  EXPECT_THAT(Outcomes(*Append(request)), ElementsAre(kAppended));
  EXPECT_THAT(Outcomes(*Append(request)), ElementsAre(kDuplicate));
}

}  // namespace
}  // namespace clarion::log
