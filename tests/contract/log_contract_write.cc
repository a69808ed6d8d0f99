// What every log engine must do with what is written: events, owners, runs, acks.
#include <algorithm>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/contract/log_contract.h"

namespace clarion::log {
namespace {

// --- Appending.

TEST_P(LogContractTest, OffsetsCountUpFromOneAcrossAppends) {
  const auto first = client().Append("t", "u", Items({"a", "b"}));
  const auto second = client().Append("t", "u", Items({"c"}));
  EXPECT_THAT(Offsets(*first), ElementsAre(1, 2));
  EXPECT_THAT(Offsets(*second), ElementsAre(3));
  EXPECT_THAT(client().ReadAll("t"), ElementsAre("1:text of a", "2:text of b", "3:text of c"));
}

TEST_P(LogContractTest, AppendsMadeWithoutWaitingAreCommittedInOrder) {
  constexpr int kAppends = 200;
  std::vector<std::future<uint64_t>> offsets;
  for (int n = 0; n < kAppends; ++n) {
    auto promise = std::make_shared<std::promise<uint64_t>>();
    offsets.push_back(promise->get_future());
    under_test().log()->Append({ThreadId("t"), UserId("u"), {Item("e" + std::to_string(n))}},
                               [promise](absl::StatusOr<AppendResult> result) {
                                 promise->set_value(result->items[0].offset.value());
                               });
  }
  for (int n = 0; n < kAppends; ++n) EXPECT_EQ(offsets[n].get(), uint64_t(n + 1));
}

TEST_P(LogContractTest, BothHalvesOfAnEventComeBackAsTheyWere) {
  AppendItem item = Item("a");
  item.event = std::make_shared<EncodedEvent>("json half", std::string_view("\0proto\xff", 7));
  ASSERT_TRUE(client().Append("t", "u", {item}).ok());
  under_test().Evict();
  const auto page = client().Read({.thread = ThreadId("t"), .from = Offset(1)});
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->runs.at(0).events.at(0)->json(), "json half");
  EXPECT_EQ(page->runs.at(0).events.at(0)->proto(), std::string_view("\0proto\xff", 7));
}

TEST_P(LogContractTest, RefusedItemTakesNoOffsetAndHoldsNobodyBack) {
  client().Append("t", "u", {Start("s", "r")}).status().IgnoreError();
  const auto result = client().Append("t", "u", {Item("a"), Start("s2", "r"), Item("b")});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(Outcomes(*result), ElementsAre(kAppended, kRunExists, kAppended));
  EXPECT_EQ(result->items[0].offset, Offset(2));
  EXPECT_EQ(result->items[2].offset, Offset(3));
}

TEST_P(LogContractTest, AfterARefusalTheRestIsSkippedIfAsked) {
  client().Append("t", "u", {Start("s", "r")}).status().IgnoreError();
  const auto result =
      client().Append("t", "u", {Item("a"), Start("s2", "r"), Item("b")}, /*stop_at_refusal=*/true);
  EXPECT_THAT(Outcomes(*result), ElementsAre(kAppended, kRunExists, kSkipped));
  EXPECT_EQ(client().State("t").last, Offset(2));
}

TEST_P(LogContractTest, CallbackSeesWhatWasAppended) {
  std::promise<absl::StatusOr<ReadResult>> seen;
  Log* log = under_test().log();
  log->Append({ThreadId("t"), UserId("u"), Items({"a"})}, [&](absl::StatusOr<AppendResult>) {
    log->Read({.thread = ThreadId("t"), .from = Offset(1)},
              [&](absl::StatusOr<ReadResult> page) { seen.set_value(std::move(page)); });
  });
  EXPECT_THAT(Texts(seen.get_future().get()->runs), ElementsAre("1:text of a"));
}

TEST_P(LogContractTest, UnfitIdsAreRefusedWithTheField) {
  const auto result = client().Append(std::string(129, 'x'), "u", Items({"a"}));
  EXPECT_THAT(result, HasReason(Reason::kContextInvalid));
  EXPECT_EQ(ViolationsOf(result.status()).at(0).field, "thread_id");
  EXPECT_THAT(client().Assign("t", ""), HasReason(Reason::kContextInvalid));
}

// --- Repetitions.

TEST_P(LogContractTest, RepetitionGetsTheFirstOffsetAndEpoch) {
  const auto first = client().Append("t", "u", Items({"a", "b"}));
  const auto again = client().Append("t", "u", Items({"b", "c"}));
  EXPECT_THAT(Outcomes(*again), ElementsAre(kDuplicate, kAppended));
  EXPECT_THAT(Offsets(*again), ElementsAre(2, 3));
  EXPECT_EQ(again->items[0].epoch, first->items[1].epoch);
}

TEST_P(LogContractTest, RepetitionInsideOneBatchIsADuplicate) {
  const auto result = client().Append("t", "u", Items({"a", "a", "b"}));
  EXPECT_THAT(Outcomes(*result), ElementsAre(kAppended, kDuplicate, kAppended));
  EXPECT_THAT(Offsets(*result), ElementsAre(1, 1, 2));
}

TEST_P(LogContractTest, RepetitionIsKnownAfterReopening) {
  client().Add("t", "u", {"a", "b"});
  under_test().Reopen();
  const auto again = client().Append("t", "u", Items({"a", "b", "c"}));
  EXPECT_THAT(Outcomes(*again), ElementsAre(kDuplicate, kDuplicate, kAppended));
}

TEST_P(LogContractTest, RepetitionIsKnownAfterTheThreadLeftMemory) {
  for (int n = 0; n < 40; ++n) client().Add("t", "u", {"e" + std::to_string(n)});
  under_test().Evict();
  for (int n = 0; n < 40; ++n) {
    const auto again = client().Append("t", "u", {Item("e" + std::to_string(n))});
    EXPECT_THAT(Outcomes(*again), ElementsAre(kDuplicate));
    EXPECT_THAT(Offsets(*again), ElementsAre(n + 1));
  }
}

TEST_P(LogContractTest, SameIdWithOtherContentIsAConflict) {
  client().Add("t", "u", {"a"});
  const auto other = client().Append("t", "u", {Item("a", {.text = "something else"})});
  EXPECT_THAT(Outcomes(*other), ElementsAre(kIdConflict));
  under_test().Evict();
  const auto later = client().Append("t", "u", {Item("a", {.text = "something else"})});
  EXPECT_THAT(Outcomes(*later), ElementsAre(kIdConflict));
  EXPECT_EQ(client().State("t").last, Offset(1));
}

TEST_P(LogContractTest, SameIdInAnotherThreadIsAnotherEvent) {
  client().Add("t1", "u", {"a"});
  const auto other = client().Append("t2", "u", {Item("a", {.text = "else"})});
  EXPECT_THAT(Outcomes(*other), ElementsAre(kAppended));
}

TEST_P(LogContractTest, IdIsFreeAgainOnceItsEventIsGone) {
  client().Add("t", "u", {"a", "b"});
  ASSERT_TRUE(client().RaiseFloor("t", 2).ok());
  const auto again = client().Append("t", "u", Items({"a", "b"}));
  EXPECT_THAT(Outcomes(*again), ElementsAre(kAppended, kDuplicate));
  EXPECT_THAT(Offsets(*again), ElementsAre(3, 2));
  under_test().Reopen();
  EXPECT_THAT(Offsets(*client().Append("t", "u", Items({"a"}))), ElementsAre(3));
}

// --- Owners.

TEST_P(LogContractTest, FirstAppendGivesTheThreadItsOwner) {
  under_test().log()->WatchOwners(&owners_);
  client().Add("t", "u", {"a"});
  EXPECT_THAT(owners_.owned(), ElementsAre("t u")) << "before the answer";
  client().Add("t", "u", {"b"});
  client().Append("t", "v", Items({"c"})).status().IgnoreError();
  EXPECT_TRUE(client().Assign("s", "v").ok());
  EXPECT_THAT(owners_.owned(), ElementsAre("t u", "s v"));
  EXPECT_EQ(client().State("t").owner, UserId("u"));
}

TEST_P(LogContractTest, AnotherUsersThreadTakesNothing) {
  client().Add("t", "u", {"a"});
  const auto result = client().Append("t", "v", Items({"a", "b"}));
  EXPECT_THAT(Outcomes(*result), ElementsAre(kNotOwner, kNotOwner));
  EXPECT_EQ(client().State("t").last, Offset(1));
}

TEST_P(LogContractTest, AssignGivesOnlyWhatIsNobodys) {
  EXPECT_TRUE(*client().Assign("t", "u"));
  EXPECT_FALSE(*client().Assign("t", "u"));
  EXPECT_THAT(client().Assign("t", "v"), HasReason(Reason::kThreadOwnership));
  under_test().Reopen();
  EXPECT_EQ(client().State("t").owner, UserId("u"));
}

// --- Runs.

TEST_P(LogContractTest, RunIsKeptFromItsStartToItsEnd) {
  client()
      .Append("t", "u", {Start("s", "r1", "facts"), Item("a"), End("e", "r1")})
      .status()
      .IgnoreError();
  client().Append("t", "u", {Start("s2", "r2")}).status().IgnoreError();
  under_test().Evict();
  const auto ended = client().Run("t", "r1");
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->data, "facts");
  EXPECT_EQ(ended->agent_name, "agent");
  EXPECT_EQ(ended->start, Offset(1));
  EXPECT_EQ(ended->end, Offset(3));
  const auto open = client().Run("t", "r2");
  ASSERT_TRUE(open.has_value());
  EXPECT_EQ(open->start, Offset(4));
  EXPECT_EQ(open->end, Offset(0));
  EXPECT_FALSE(client().Run("t", "r3").has_value());
  EXPECT_FALSE(client().Run("unknown", "r1").has_value());
}

TEST_P(LogContractTest, LastRunsAreThoseThatStartedLastWhicheverEndedWhen) {
  client()
      .Append("t", "u",
              {Start("s1", "r1"), Start("s2", "r2"), Start("s3", "r3"), End("e3", "r3"),
               End("e1", "r1")})
      .status()
      .IgnoreError();
  for (int round = 0; round < 2; ++round) {
    EXPECT_THAT(client().LastRuns("t", 1), ElementsAre("r3"));
    EXPECT_THAT(client().LastRuns("t", 2), ElementsAre("r2", "r3"));
    EXPECT_THAT(client().LastRuns("t", 9), ElementsAre("r1", "r2", "r3"));
    under_test().Evict();
  }
  EXPECT_THAT(client().LastRuns("unknown", 9), IsEmpty());
}

TEST_P(LogContractTest, StateHoldsNoMoreRunsThanTheCallSays) {
  // A run that was seen to its end, open ones around one that ends beyond W, in no order of ends.
  client()
      .Append("t", "u",
              {Start("s1", "open1"), Start("s2", "seen"), End("e2", "seen"), Start("s3", "unseen")})
      .status()
      .IgnoreError();
  ASSERT_TRUE(client().Ack("t", "u", 3).ok());
  client().Append("t", "u", {Start("s4", "open2"), End("e3", "unseen")}).status().IgnoreError();
  const auto names = [](const ThreadState& state) {
    std::vector<std::string> runs;
    runs.reserve(state.runs.size());
    for (const RunRecord& run : state.runs) runs.push_back(run.run_id.str());
    return runs;
  };
  for (int round = 0; round < 3; ++round) {
    RecordingFollower follower;
    EXPECT_THAT(names(*client().Follow("t", &follower)), ElementsAre("open1", "unseen", "open2"));
    client().Unfollow("t", &follower);
    EXPECT_THAT(names(client().State("t")), IsEmpty());
    EXPECT_THAT(names(client().List("u")->threads.at(0)), ElementsAre("open1", "open2"));
    round == 0 ? under_test().Evict() : under_test().Reopen();
  }
  ASSERT_TRUE(client().Ack("t", "u", 6).ok());
  RecordingFollower follower;
  EXPECT_THAT(names(*client().Follow("t", &follower)), ElementsAre("open1", "open2"));
  client().Unfollow("t", &follower);
}

TEST_P(LogContractTest, RunThatExistsIsRefusedAndSaid) {
  client().Append("t", "u", {Item("x"), Start("s", "r", "facts")}).status().IgnoreError();
  under_test().Reopen();
  const auto other = client().Append("t", "u", {Start("s2", "r", "other")});
  ASSERT_THAT(Outcomes(*other), ElementsAre(kRunExists));
  ASSERT_TRUE(other->items[0].run.has_value());
  EXPECT_EQ(other->items[0].run->data, "facts");
  EXPECT_EQ(other->items[0].run->start, Offset(2));
}

TEST_P(LogContractTest, EventWithAFenceThatIsNotTheRunsIsRefused) {
  const Digest fence = Digest::Of("producer");
  const Digest older = Digest::Of("older producer");
  const auto event = [](std::string_view id, const std::string& run, const Digest& fence) {
    return Item(id, {.run = run, .fence = fence});
  };
  // The start stands in the same commit, then in memory, then on the disk alone.
  EXPECT_THAT(Outcomes(*client().Append(
                  "t", "u",
                  {Item("s", {.effect = RunStep::kStart, .run = "r", .fence = fence}),
                   event("a", "r", fence), event("b", "r", older), event("c", "r", Digest{})})),
              ElementsAre(kAppended, kAppended, kFenced, kAppended));
  for (const char* id : {"d", "e"}) {
    EXPECT_THAT(
        Outcomes(*client().Append("t", "u", {event(id, "r", older), event(id, "r", fence)})),
        ElementsAre(kFenced, kAppended));
    under_test().Reopen();
  }
  EXPECT_THAT(
      Outcomes(*client().Append("t", "u", {event("a", "r", older), event("f", "q", fence)})),
      ElementsAre(kDuplicate, kFenced))
      << "what was accepted is a repetition; and the thread has no such run";
}

TEST_P(LogContractTest, RepeatedStartGetsTheRunAsItIsNow) {
  client().Append("t", "u", {Start("s", "r", "facts"), End("e", "r")}).status().IgnoreError();
  const auto again = client().Append("t", "u", {Start("s", "r", "facts")});
  ASSERT_THAT(Outcomes(*again), ElementsAre(kDuplicate));
  ASSERT_TRUE(again->items[0].run.has_value());
  EXPECT_EQ(again->items[0].run->end, Offset(2));
}

TEST_P(LogContractTest, OnlyTheFirstEndOfARunCounts) {
  client()
      .Append("t", "u", {Start("s", "r"), End("e1", "r"), End("e2", "r")})
      .status()
      .IgnoreError();
  EXPECT_EQ(client().Run("t", "r")->end, Offset(2));
}

TEST_P(LogContractTest, MoreOpenRunsThanAllowedAreRefusedUntilOneEnds) {
  const size_t most = under_test().max_open_runs();
  for (size_t n = 0; n < most; ++n) {
    const std::string run = "r" + std::to_string(n);
    EXPECT_THAT(Outcomes(*client().Append("t", "u", {Start("s" + run, run)})),
                ElementsAre(kAppended));
  }
  EXPECT_THAT(Outcomes(*client().Append("t", "u", {Start("s", "r")})), ElementsAre(kTooManyRuns));
  EXPECT_THAT(Outcomes(*client().Append("t", "u", {End("e", "r0"), Start("s", "r")})),
              ElementsAre(kAppended, kAppended));
}

TEST_P(LogContractTest, EndedRunBelowTheFloorIsForgottenAndAnOpenOneIsNot) {
  client()
      .Append("t", "u", {Start("s1", "ended"), End("e1", "ended"), Start("s2", "open"), Item("x")})
      .status()
      .IgnoreError();
  under_test().Evict();
  ASSERT_TRUE(client().RaiseFloor("t", 5).ok());
  under_test().Evict();
  EXPECT_TRUE(client().Run("t", "open").has_value());
  EXPECT_FALSE(client().Run("t", "ended").has_value());
  EXPECT_THAT(Outcomes(*client().Append("t", "u", {Start("s3", "ended")})), ElementsAre(kAppended));
}

// --- Acks and the ledger.

TEST_P(LogContractTest, AckMovesForwardOnly) {
  client().Add("t", "u", {"a", "b", "c"});
  EXPECT_TRUE(client().Ack("t", "u", 2)->moved);
  const auto back = client().Ack("t", "u", 1);
  EXPECT_FALSE(back->moved);
  EXPECT_EQ(back->acknowledged, Offset(2));
  EXPECT_EQ(client().State("t").acknowledged, Offset(2));
}

TEST_P(LogContractTest, AckOfNothingIsNone) {
  client().Add("t", "u", {"a"});
  const auto none = client().Ack("t", "u", Position{});
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_FALSE(none->moved);
}

TEST_P(LogContractTest, AckBeyondTheEndIsInvalid) {
  client().Add("t", "u", {"a"});
  EXPECT_THAT(client().Ack("t", "u", 2), HasReason(Reason::kAckInvalid));
}

TEST_P(LogContractTest, AckInAnUnknownEpochIsRefused) {
  client().Add("t", "u", {"a"});
  EXPECT_THAT(client().Ack("t", "u", Position{Epoch("other"), Offset(1)}),
              HasReason(Reason::kEpochChanged));
}

TEST_P(LogContractTest, AckBySomebodyElseIsRefused) {
  client().Add("t", "u", {"a"});
  EXPECT_THAT(client().Ack("t", "v", 1), HasReason(Reason::kThreadOwnership));
  EXPECT_THAT(client().Ack("unknown", "v", Position{}), HasReason(Reason::kThreadOwnership));
}

TEST_P(LogContractTest, LedgerCountsEveryEventOnce) {
  client().Add("t", "u", {"a", "b", "c", "d", "e", "f"});
  ASSERT_TRUE(client().Ack("t", "u", 2).ok());
  ASSERT_TRUE(client().RaiseFloor("t", 5).ok());  // 3 and 4 expire
  ASSERT_TRUE(client().Ack("t", "u", 5).ok());    // 5 is acknowledged; 3 and 4 stay expired
  under_test().Reopen();
  const ThreadState state = client().State("t");
  EXPECT_EQ(state.acknowledged_count, 3u);
  EXPECT_EQ(state.expired_count, 2u);
  EXPECT_EQ(state.pending(), 1u);
}

TEST_P(LogContractTest, WhatExpiredIsRememberedAfterTheEventsAreGone) {
  client().Add("t", "u", {"a", "b", "c", "d", "e", "f", "g"});
  ASSERT_TRUE(client().RaiseFloor("t", 2).ok());
  ASSERT_TRUE(client().RaiseFloor("t", 3).ok());  // goes on where the last one ended
  ASSERT_TRUE(client().Ack("t", "u", 4).ok());
  ASSERT_TRUE(client().RaiseFloor("t", 5).ok());  // nothing that was not acknowledged
  ASSERT_TRUE(client().RaiseFloor("t", 7).ok());
  ASSERT_TRUE(client().RaiseFloor("t", 8, FloorReason::kDeleted).ok());
  under_test().Evict();
  for (int round = 0; round < 2; ++round) {
    const ThreadState state = client().State("t");
    EXPECT_THAT(RangesOf(state), ElementsAre("1-2 2 expired", "5-6 2 expired", "7-7 1 deleted"));
    EXPECT_EQ(state.expired.at(0).epoch, state.end().epoch);
    under_test().Reopen();
  }
}

TEST_P(LogContractTest, TimeOfARangeIsThatOfItsNewestPart) {
  client().Add("t", "u", {"a", "b"});
  ASSERT_TRUE(client().RaiseFloor("t", 2).ok());
  const WallTime first = client().State("t").expired.at(0).at;
  under_test().Pass(std::chrono::seconds(5));
  ASSERT_TRUE(client().RaiseFloor("t", 3).ok());
  under_test().Reopen();
  EXPECT_EQ(client().State("t").expired.at(0).at - first, std::chrono::seconds(5));
}

TEST_P(LogContractTest, MoreRangesThanAreKeptAreDrawnTogetherAndTheirCountsStayExact) {
  constexpr uint64_t kRounds = kMaxExpiredRanges + 4;
  for (uint64_t n = 0; n < kRounds; ++n) {
    const std::string id = std::to_string(n);
    client().Add("t", "u", {"expires" + id, "seen" + id});
    ASSERT_TRUE(client().RaiseFloor("t", 2 * n + 2).ok());
    ASSERT_TRUE(client().Ack("t", "u", 2 * n + 2).ok());
  }
  under_test().Reopen();
  const ThreadState state = client().State("t");
  EXPECT_EQ(state.expired_count, kRounds);
  const std::vector<std::string> ranges = RangesOf(state);
  ASSERT_EQ(ranges.size(), kMaxExpiredRanges);
  EXPECT_EQ(ranges.front(), "1-9 5 expired");
  EXPECT_EQ(ranges.at(1), "11-11 1 expired");
  EXPECT_EQ(ranges.back(), "39-39 1 expired");
}

TEST_P(LogContractTest, LedgerOfAllThreadsIsTheSumAndOutlivesReopening) {
  const Ledger before = client().TheLedger();
  EXPECT_EQ(before, Ledger{});
  client().Add("t", "u", {"a", "b", "c", "d"});
  client().Append("t", "u", Items({"a"})).status().IgnoreError();  // a repetition
  client().Add("s", "v", {"a", "b"});
  client().Add("canary", kCanaryUser, {"a", "b", "c"});
  ASSERT_TRUE(client().RaiseFloor("canary", 3).ok());
  ASSERT_TRUE(client().Ack("t", "u", 1).ok());
  ASSERT_TRUE(client().RaiseFloor("t", 3).ok());
  ASSERT_TRUE(client().Ack("s", "v", 2).ok());
  const Ledger expected{.total = {.accepted = 6, .acknowledged = 3, .expired = 1}};
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(client().TheLedger(), expected) << round;
    EXPECT_EQ(client().TheLedger().total.pending(), 2u);
    round == 0 ? under_test().Evict() : under_test().Reopen();
  }
}

TEST_P(LogContractTest, LedgerOfAnErasedThreadIsErasedWithIt) {
  client().Add("t", "u", {"a", "b"});
  client().Add("s", "u", {"a"});
  ASSERT_TRUE(*client().Erase("t"));
  under_test().Reopen();
  EXPECT_EQ(client().TheLedger(), (Ledger{.total = {.accepted = 1}}));
}

TEST_P(LogContractTest, ExpiredEventNeverBecomesAcknowledged) {
  client().Add("t", "u", {"a", "b"});
  ASSERT_TRUE(client().RaiseFloor("t", 3).ok());
  ASSERT_TRUE(client().Ack("t", "u", 2).ok());
  const ThreadState state = client().State("t");
  EXPECT_EQ(state.acknowledged_count, 0u);
  EXPECT_EQ(state.expired_count, 2u);
}

TEST_P(LogContractTest, FloorStopsBehindTheLastEvent) {
  client().Add("t", "u", {"a", "b"});
  EXPECT_EQ(*client().RaiseFloor("t", 100), Offset(3));
  EXPECT_EQ(*client().RaiseFloor("t", 2), Offset(3));
  EXPECT_THAT(client().ReadAll("t"), IsEmpty());
  EXPECT_EQ(client().Add("t", "u", {"c"}), 3u);
}

// --- Deletion.

TEST_P(LogContractTest, DeletedThreadIsNobodysAndHasNothing) {
  client()
      .Append("t", "u", {Start("s", "r", "facts"), Item("a"), Item("b"), Item("c")})
      .status()
      .IgnoreError();
  ASSERT_TRUE(client().Ack("t", "u", 1).ok());
  ASSERT_TRUE(client().RaiseFloor("t", 3).ok());
  client().Add("other", "u", {"x"});
  under_test().Evict();
  const auto deleted = client().Delete("t", "u");
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_EQ(deleted->events, 2u);
  EXPECT_EQ(deleted->expired, 2u);
  EXPECT_FALSE(deleted->already_deleted);
  for (int round = 0; round < 3; ++round) {
    const ThreadState state = client().State("t");
    EXPECT_TRUE(state.deleted);
    EXPECT_TRUE(state.owner.empty());
    EXPECT_EQ(state.last, Offset(0));
    EXPECT_THAT(state.expired, IsEmpty());
    EXPECT_THAT(client().ReadAll("t"), IsEmpty());
    EXPECT_FALSE(client().Run("t", "r").has_value());
    EXPECT_THAT(client().Find("t", "a"), HasReason(Reason::kNotFound));
    EXPECT_THAT(*client().ListIds("u"), ElementsAre("other"));
    EXPECT_EQ(client().List("")->threads.size(), 1u);
    EXPECT_FALSE(client().State("other").deleted);
    round == 0 ? under_test().Evict() : under_test().Reopen();
  }
}

TEST_P(LogContractTest, WhoFollowsWhileTheThreadIsDeletedIsToldThatItIs) {
  client().Add("t", "u", {"a"});
  RecordingFollower follower;
  std::promise<ThreadState> followed;
  std::promise<bool> deleted;
  // Inside the engine's callback: both reach it together.
  under_test().log()->Append(
      {ThreadId("t"), UserId("u"), Items({"b"})}, [&](const absl::StatusOr<AppendResult>&) {
        Log& log = *under_test().log();
        log.Follow(ThreadId("t"), &follower,
                   [&](absl::StatusOr<ThreadState> state) { followed.set_value(*state); });
        log.Delete(ThreadId("t"), UserId("u"), [&](const absl::StatusOr<DeletedThread>& done) {
          deleted.set_value(done.ok());
        });
      });
  EXPECT_TRUE(deleted.get_future().get());
  const ThreadState state = followed.get_future().get();
  client().Unfollow("t", &follower);
  const std::vector<std::string> calls = follower.calls();
  EXPECT_TRUE(state.deleted || std::count(calls.begin(), calls.end(), "deleted 2") == 1);
}

TEST_P(LogContractTest, LedgerOfADeletedThreadStaysInTheSums) {
  client().Add("t", "u", {"a", "b", "c", "d"});
  client().Add("s", "v", {"a", "b"});
  ASSERT_TRUE(client().Ack("t", "u", 1).ok());
  ASSERT_TRUE(client().RaiseFloor("t", 3).ok());
  ASSERT_TRUE(client().Delete("t", "u").ok());
  const Ledger expected{.total = {.accepted = 6, .acknowledged = 1, .expired = 3},
                        .deleted_threads = {.accepted = 4, .acknowledged = 1, .expired = 3}};
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(client().TheLedger(), expected) << round;
    round == 0 ? under_test().Evict() : under_test().Reopen();
  }
}

TEST_P(LogContractTest, DeletedThreadRefusesWhateverComesLate) {
  client().Append("t", "u", {Start("s", "r"), Item("a")}).status().IgnoreError();
  const Epoch epoch = client().State("t").end().epoch;
  ASSERT_TRUE(client().Delete("t", "u").ok());
  for (int round = 0; round < 3; ++round) {
    const auto late = client().Append("t", "u", {Item("a"), Item("b"), End("e", "r")});
    ASSERT_TRUE(late.ok()) << late.status();
    EXPECT_THAT(Outcomes(*late), ElementsAre(kDeleted, kDeleted, kDeleted));
    EXPECT_THAT(Outcomes(*client().Append("t", "v", Items({"c", "d"}), /*stop_at_refusal=*/true)),
                ElementsAre(kDeleted, kSkipped));
    EXPECT_THAT(client().Assign("t", "u"), HasReason(Reason::kEventDropped));
    EXPECT_THAT(client().Ack("t", "u", Position{epoch, Offset(1)}),
                HasReason(Reason::kThreadOwnership));
    EXPECT_EQ(*client().RaiseFloor("t", 5), Offset(1));
    const auto again = client().Delete("t", "u");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(again->already_deleted);
    EXPECT_EQ(again->events, 0u);
    round == 0 ? under_test().Evict() : under_test().Reopen();
  }
  EXPECT_EQ(client().TheLedger().total, (LedgerCounts{.accepted = 2, .expired = 2}));
}

TEST_P(LogContractTest, OnlyItsOwnerDeletesAThread) {
  client().Add("t", "u", {"a"});
  EXPECT_THAT(client().Delete("t", "v"), HasReason(Reason::kThreadOwnership));
  EXPECT_THAT(client().Delete("unknown", "u"), HasReason(Reason::kNotFound));
  EXPECT_THAT(client().Delete("t", ""), HasReason(Reason::kContextInvalid));
  EXPECT_THAT(client().ReadAll("t"), ElementsAre("1:text of a"));
  ASSERT_TRUE(client().Assign("empty", "u").ok());
  EXPECT_EQ(client().Delete("empty", "u")->events, 0u);
  EXPECT_TRUE(client().State("empty").deleted);
}

TEST_P(LogContractTest, FollowerOfADeletedThreadIsTold) {
  client().Add("t", "u", {"a", "b"});
  RecordingFollower follower;
  ASSERT_TRUE(client().Follow("t", &follower).ok());
  ASSERT_TRUE(client().Delete("t", "u").ok());
  ASSERT_TRUE(client().Append("t", "u", Items({"late"})).ok());
  EXPECT_THAT(follower.calls(), ElementsAre("deleted 2"));
  const auto state = client().Follow("t", &follower);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_TRUE(state->deleted);
  client().Unfollow("t", &follower);
}

}  // namespace
}  // namespace clarion::log
