// How far events have come: AwaitReceipt, WatchReceipts, MilestonesOf.
#include "proto/contract/error.h"
#include "service/delivery/delivery_fixture.h"
#include "service/delivery/progress.h"

namespace clarion::delivery {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

Scheduler::Wall Second(int n) {
  return Scheduler::Wall(std::chrono::seconds(n));
}

TEST(HistoryTest, SaysWhenAnOffsetWasPassed) {
  History history{Offset(2)};
  history.Reach(Offset(5), Second(1));
  history.Reach(Offset(9), Second(2));
  history.Reach(Offset(7), Second(3));  // no news
  EXPECT_EQ(history.When(Offset(2)), std::nullopt);
  EXPECT_EQ(history.When(Offset(3)), Second(1));
  EXPECT_EQ(history.When(Offset(5)), Second(1));
  EXPECT_EQ(history.When(Offset(6)), Second(2));
  EXPECT_EQ(history.When(Offset(10)), std::nullopt);
}

TEST(HistoryTest, ForgetsTheOldestTimes) {
  History history{Offset(0)};
  for (int i = 1; i <= 100; ++i) history.Reach(Offset(static_cast<uint64_t>(i)), Second(i));
  EXPECT_EQ(history.When(Offset(100 - History::kTimes)), std::nullopt);
  EXPECT_EQ(history.When(Offset(101 - History::kTimes)), Second(101 - History::kTimes));
  EXPECT_EQ(history.When(Offset(100)), Second(100));
}

TEST(HistoryTest, FallsBackToWhatSurvived) {
  History history{Offset(0)};
  history.Reach(Offset(5), Second(1));
  history.Reach(Offset(9), Second(2));
  history.Reach(Offset(12), Second(3));
  history.FallBack(Offset(7));
  EXPECT_EQ(history.furthest(), Offset(7));
  EXPECT_EQ(history.When(Offset(7)), Second(2));
  EXPECT_EQ(history.When(Offset(8)), std::nullopt);
  history.Reach(Offset(8), Second(4));
  EXPECT_EQ(history.When(Offset(8)), Second(4));
}

TEST(ProgressTest, RemembersTheThreadsThatMovedLast) {
  Progress progress(2);
  const auto state = [](const char* thread, uint64_t acknowledged) {
    return log::ThreadState{.thread = ThreadId(thread),
                            .epochs = {{Epoch("e"), Offset(1)}},
                            .acknowledged = Offset(acknowledged)};
  };
  const Position first{Epoch("e"), Offset(1)};
  progress.Sent(state("a", 0), {Offset(1), Offset(1)}, Second(1));
  progress.Sent(state("b", 0), {Offset(1), Offset(1)}, Second(1));
  progress.Acknowledged(state("a", 1), Offset(0), Second(2));
  progress.Sent(state("c", 0), {Offset(1), Offset(1)}, Second(3));
  EXPECT_FALSE(progress.WasSent(ThreadId("b"), first));
  EXPECT_EQ(progress.Of(ThreadId("a"), first).acknowledged, Second(2));
  EXPECT_EQ(progress.Of(ThreadId("c"), first).first_sent, Second(3));
}

class ProgressEpochsTest : public ::testing::Test {
 protected:
  // Epochs and where they begin.
  static log::ThreadState State(std::vector<std::pair<const char*, uint64_t>> epochs) {
    log::ThreadState state{.thread = ThreadId("t")};
    for (const auto& [epoch, first] : epochs) state.epochs.push_back({Epoch(epoch), Offset(first)});
    return state;
  }
  bool WasSent(const char* epoch, uint64_t offset) {
    return progress_.WasSent(ThreadId("t"), {Epoch(epoch), Offset(offset)});
  }
  Progress progress_{10};
};

TEST_F(ProgressEpochsTest, NothingIsSaidOfEventsOfEpochsThatWereNotSeen) {
  progress_.Sent(State({{"e", 1}}), {Offset(1), Offset(9)}, Second(1));
  EXPECT_TRUE(WasSent("e", 9));
  EXPECT_FALSE(WasSent("f", 6));
}

TEST_F(ProgressEpochsTest, WhatWasLostIsNotSaidOfWhatCameInItsPlace) {
  progress_.Sent(State({{"e", 1}}), {Offset(1), Offset(9)}, Second(1));
  // Twice it was lost: up to 5, then up to 7.
  progress_.Sent(State({{"e", 1}, {"f", 6}, {"g", 8}}), {Offset(8), Offset(8)}, Second(2));
  EXPECT_TRUE(WasSent("g", 8));
  EXPECT_FALSE(WasSent("f", 7));
  EXPECT_FALSE(WasSent("g", 9));
}

TEST_F(ProgressEpochsTest, WhatSurvivedIsRemembered) {
  progress_.Sent(State({{"e", 1}}), {Offset(1), Offset(9)}, Second(1));
  progress_.Sent(State({{"e", 1}, {"f", 6}}), {Offset(6), Offset(7)}, Second(2));
  EXPECT_TRUE(WasSent("e", 5));
  EXPECT_TRUE(WasSent("f", 7));
}

TEST_F(ProgressEpochsTest, WhereAllThatWasSeenIsGoneItBeginsAnew) {
  progress_.Sent(State({{"e", 1}}), {Offset(1), Offset(9)}, Second(1));
  progress_.Sent(State({{"f", 1}}), {Offset(1), Offset(2)}, Second(2));
  EXPECT_TRUE(WasSent("f", 2));
  EXPECT_FALSE(WasSent("f", 3));
}

class RememberingWatcher : public ReceiptWatcher {
 public:
  void OnReceipt(const Receipt& receipt) override {
    heard.push_back(absl::StrCat(receipt.first ? "first " : "", receipt.owner.str(), " ",
                                 receipt.acknowledged.value(), "/", receipt.last.offset.value()));
  }
  void OnEnded(const absl::Status& status) override {
    heard.push_back(std::string(NameOf(*ReasonOf(status))));
  }
  std::vector<std::string> heard;
};

class ReceiptsTest : public DeliveryTest {
 protected:
  std::unique_ptr<Cancellation> Await(uint64_t offset, v1::WaitFor wanted,
                                      std::chrono::seconds timeout = std::chrono::seconds(10),
                                      const char* epoch = "e1") {
    auto wait =
        delivery().AwaitReceipt(ThreadId("t"), {Epoch(epoch), Offset(offset)}, wanted, timeout,
                                [this](v1::WaitOutcome outcome) {
                                  outcomes_.push_back(v1::WaitOutcome_Name(outcome).substr(13));
                                });
    log_.RunAll();
    return wait;
  }
  // Ann's connection `c` follows `t`, which has so many events, and its browser knows.
  std::unique_ptr<TestGateway> Follows(int events) {
    GiveTo("t", "ann");
    for (int i = 0; i < events; ++i) Append("t", "ann", {absl::StrCat("event", i)});
    auto gateway = AttachSubscribed("ann", "t");
    gateway->Confirm(1);
    gateway->Heard();
    return gateway;
  }
  void Ack(TestGateway& gateway, uint64_t offset) {
    gateway.Ack(1, PositionOf("e1", offset), offset);
    log_.RunAll();
  }
  Milestones Of(const char* epoch, uint64_t offset) {
    return delivery().MilestonesOf(ThreadId("t"), {Epoch(epoch), Offset(offset)});
  }
  std::vector<std::string> outcomes_;
};

TEST_F(ReceiptsTest, SentIsReachedWhenTheGatewaySaysThatItWasWritten) {
  auto gateway = Follows(2);
  auto wait = Await(2, v1::WAIT_FOR_SENT);
  EXPECT_THAT(gateway->Heard(), ElementsAre("await t e1:2"));
  gateway->Sent("t", PositionOf("e1", 1));
  EXPECT_THAT(outcomes_, IsEmpty());
  gateway->Sent("t", PositionOf("e1", 2));
  EXPECT_THAT(outcomes_, ElementsAre("REACHED"));
}

TEST_F(ReceiptsTest, AcknowledgedIsReachedWithTheAcksCommitNotBefore) {
  auto gateway = Follows(2);
  auto wait = Await(2, v1::WAIT_FOR_ACKNOWLEDGED);
  gateway->Sent("t", PositionOf("e1", 2));
  gateway->Ack(1, PositionOf("e1", 2), 2);
  EXPECT_THAT(outcomes_, IsEmpty());
  log_.RunAll();
  EXPECT_THAT(outcomes_, ElementsAre("REACHED"));
}

TEST_F(ReceiptsTest, WhatIsAcknowledgedWasSent) {
  auto gateway = Follows(2);
  auto wait = Await(1, v1::WAIT_FOR_SENT);
  Ack(*gateway, 2);
  EXPECT_THAT(outcomes_, ElementsAre("REACHED"));
}

TEST_F(ReceiptsTest, WhatWasThereBeforeIsReachedAtOnceAlsoWithNobodyThere) {
  auto gateway = Follows(2);
  Ack(*gateway, 2);
  gateway->CloseConnection("c");
  log_.RunAll();  // nobody follows the thread
  auto wait = Await(2, v1::WAIT_FOR_ACKNOWLEDGED, std::chrono::seconds(0));
  EXPECT_THAT(outcomes_, ElementsAre("REACHED"));
}

TEST_F(ReceiptsTest, WithNobodyThereTheTimeIsWaitedForThenSaidSo) {
  GiveTo("t", "ann");
  Append("t", "ann", {"one"});
  auto wait = Await(1, v1::WAIT_FOR_SENT, std::chrono::seconds(3));
  scheduler_.Advance(std::chrono::seconds(2));
  EXPECT_THAT(outcomes_, IsEmpty());
  scheduler_.Advance(std::chrono::seconds(1));
  log_.RunAll();
  EXPECT_THAT(outcomes_, ElementsAre("NO_CONNECTION"));
}

TEST_F(ReceiptsTest, AnAckThatIsCommittedAfterTheLastSubscriberLeftIsReachedAtTheDeadline) {
  auto gateway = Follows(2);
  auto reached = Await(1, v1::WAIT_FOR_ACKNOWLEDGED, std::chrono::seconds(3));
  auto beyond = Await(2, v1::WAIT_FOR_ACKNOWLEDGED, std::chrono::seconds(3));
  gateway->CloseConnection("c");
  log_.RunAll();
  // The log had put it aside, until the thread was read from the disk.
  log_.Ack(ThreadId("t"), UserId("ann"), {Epoch("e1"), Offset(1)}, [](const auto&) {});
  log_.RunAll();
  EXPECT_THAT(outcomes_, IsEmpty());
  scheduler_.Advance(std::chrono::seconds(3));
  log_.RunAll();
  EXPECT_THAT(outcomes_, UnorderedElementsAre("REACHED", "NO_CONNECTION"));
}

TEST_F(ReceiptsTest, WhoComesWhileSomebodyWaitsIsAskedToo) {
  GiveTo("t", "ann");
  Append("t", "ann", {"one"});
  auto wait = Await(1, v1::WAIT_FOR_SENT);
  auto gateway = AttachSubscribed("ann", "t");
  EXPECT_THAT(gateway->Heard(), Contains("await t e1:1"));
  gateway->Sent("t", PositionOf("e1", 1));
  EXPECT_THAT(outcomes_, ElementsAre("REACHED"));
}

TEST_F(ReceiptsTest, WhatALiveConnectionLeftOutWasNotSent) {
  auto gateway = Follows(5);
  auto early = Await(3, v1::WAIT_FOR_SENT, std::chrono::seconds(1));
  auto late = Await(5, v1::WAIT_FOR_SENT);
  gateway->Sent("t", PositionOf("e1", 5), 5);
  EXPECT_THAT(outcomes_, ElementsAre("REACHED"));
  scheduler_.Advance(std::chrono::seconds(1));
  EXPECT_THAT(outcomes_, ElementsAre("REACHED", "SLOW"));
  EXPECT_EQ(Of("e1", 3).first_sent, std::nullopt);
  EXPECT_NE(Of("e1", 5).first_sent, std::nullopt);
}

TEST_F(ReceiptsTest, AWatchWhoseFirstPictureCannotBeHadIsToldWhy) {
  auto watcher = std::make_shared<RememberingWatcher>();
  log_.FailFollow(MakeError(Reason::kLogUnavailable, "the disk is gone"));
  auto watch = delivery().WatchReceipts(ThreadId("t"), watcher);
  log_.RunAll();
  EXPECT_THAT(watcher->heard, ElementsAre("LOG_UNAVAILABLE"));
  EXPECT_EQ(log_.followed(), 0u);
}

TEST_F(ReceiptsTest, AConnectionThatDoesNotTakeItIsSlow) {
  auto gateway = Follows(1);
  auto sent = Await(1, v1::WAIT_FOR_SENT, std::chrono::seconds(1));
  auto acknowledged = Await(1, v1::WAIT_FOR_ACKNOWLEDGED, std::chrono::seconds(1));
  scheduler_.Advance(std::chrono::seconds(1));
  EXPECT_THAT(outcomes_, ElementsAre("SLOW", "SLOW"));
}

TEST_F(ReceiptsTest, APageThatHasItAndDoesNotAcknowledgeTimesOut) {
  auto gateway = Follows(1);
  auto wait = Await(1, v1::WAIT_FOR_ACKNOWLEDGED, std::chrono::seconds(1));
  gateway->Sent("t", PositionOf("e1", 1));
  scheduler_.Advance(std::chrono::seconds(1));
  EXPECT_THAT(outcomes_, ElementsAre("TIMED_OUT"));
}

// The word of the one that it left comes behind that of the other.
TEST_F(ReceiptsTest, WhatAPageThatPollsWasSentCountsAlsoIfItIsAtAnotherGatewayByNow) {
  GiveTo("t", "ann");
  Append("t", "ann", {"event"});
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 1, "t");
  gateway->Confirm(1);
  auto wait = Await(1, v1::WAIT_FOR_SENT);
  auto other = Attach("g2");
  other->Poll("c", "ann");
  gateway->Sent("t", PositionOf("e1", 1));
  EXPECT_THAT(outcomes_, ElementsAre("REACHED"));
}

TEST_F(ReceiptsTest, WhatWasSentOfALostTailDoesNotCountForWhatCameInItsPlace) {
  auto gateway = Follows(3);
  log_.LoseTail(ThreadId("t"), Offset(1));
  Append("t", "ann", {"again two", "again three"});
  auto wait = Await(3, v1::WAIT_FOR_SENT);
  gateway->Sent("t", PositionOf("e1", 3));
  EXPECT_THAT(outcomes_, IsEmpty());
  gateway->Sent("t", PositionOf("e2", 3));
  EXPECT_THAT(outcomes_, ElementsAre("REACHED"));
}

TEST_F(ReceiptsTest, WhatWasLostWhileNobodyFollowedDoesNotCountForWhatCameInItsPlace) {
  auto gateway = Follows(3);
  gateway->Sent("t", PositionOf("e1", 3));
  gateway->CloseConnection("c");
  log_.RunAll();
  log_.LoseTail(ThreadId("t"), Offset(1));
  Append("t", "ann", {"again two", "again three"});
  auto wait = Await(3, v1::WAIT_FOR_SENT, std::chrono::seconds(0), "e2");
  EXPECT_THAT(outcomes_, ElementsAre("NO_CONNECTION"));
  EXPECT_EQ(Of("e2", 3).first_sent, std::nullopt);
  EXPECT_NE(Of("e1", 1).first_sent, std::nullopt);
}

TEST_F(ReceiptsTest, CancelledIsNeverAnsweredAndStoppingAnswersTheRest) {
  auto gateway = Follows(1);
  auto cancelled = Await(1, v1::WAIT_FOR_SENT);
  auto left = Await(1, v1::WAIT_FOR_ACKNOWLEDGED);
  cancelled.reset();
  delivery().Stop();
  EXPECT_THAT(outcomes_, ElementsAre("TIMED_OUT"));
  auto late = Await(1, v1::WAIT_FOR_SENT);
  EXPECT_THAT(outcomes_, ElementsAre("TIMED_OUT", "TIMED_OUT"));
}

TEST_F(ReceiptsTest, ItIsRememberedWhenWhatHappened) {
  auto gateway = Follows(2);
  gateway->Sent("t", PositionOf("e1", 1));
  const Scheduler::Wall sent = scheduler_.wall_now();
  scheduler_.Advance(std::chrono::seconds(5));
  gateway->Sent("t", PositionOf("e1", 2));
  Ack(*gateway, 1);
  const Milestones first = Of("e1", 1);
  EXPECT_EQ(first.first_sent, sent);
  EXPECT_EQ(first.acknowledged, sent + std::chrono::seconds(5));
  const Milestones second = Of("e1", 2);
  EXPECT_EQ(second.first_sent, sent + std::chrono::seconds(5));
  EXPECT_EQ(second.acknowledged, std::nullopt);
}

TEST_F(ReceiptsTest, AWatcherHearsAFirstPictureThenEachMoveOnce) {
  auto gateway = Follows(3);
  Ack(*gateway, 1);
  auto watcher = std::make_shared<RememberingWatcher>();
  auto watch = delivery().WatchReceipts(ThreadId("t"), watcher);
  log_.RunAll();
  EXPECT_THAT(watcher->heard, ElementsAre("first ann 1/3"));
  Ack(*gateway, 3);
  Ack(*gateway, 2);                   // moves nothing
  Subscribed(*gateway, "c", 2, "t");  // the log is asked again: no news
  EXPECT_THAT(watcher->heard, ElementsAre("first ann 1/3", "ann 3/3"));
}

TEST_F(ReceiptsTest, AWatcherOfAThreadThatNobodyFollowsHearsOfThoseWhoComeLater) {
  auto watcher = std::make_shared<RememberingWatcher>();
  auto watch = delivery().WatchReceipts(ThreadId("t"), watcher);
  log_.RunAll();
  EXPECT_THAT(watcher->heard, ElementsAre("first  0/0"));
  auto gateway = Follows(2);
  Ack(*gateway, 2);
  EXPECT_THAT(watcher->heard, ElementsAre("first  0/0", "ann 2/2"));
}

TEST_F(ReceiptsTest, AWatcherThatLeavesHearsNothingAndTheThreadIsLetGo) {
  auto watcher = std::make_shared<RememberingWatcher>();
  auto watch = delivery().WatchReceipts(ThreadId("t"), watcher);
  log_.RunAll();
  EXPECT_EQ(log_.followed(), 1u);
  watch.reset();
  log_.RunAll();
  EXPECT_EQ(log_.followed(), 0u);
  auto gateway = Follows(1);
  Ack(*gateway, 1);
  EXPECT_THAT(watcher->heard, ElementsAre("first  0/0"));
}

TEST_F(ReceiptsTest, ADeletedThreadEndsThoseWhoWaitAndWatchAndIsForgotten) {
  auto gateway = Follows(1);
  gateway->Sent("t", PositionOf("e1", 1));
  auto wait = Await(1, v1::WAIT_FOR_ACKNOWLEDGED);
  auto watcher = std::make_shared<RememberingWatcher>();
  auto watch = delivery().WatchReceipts(ThreadId("t"), watcher);
  log_.RunAll();
  log_.Delete(ThreadId("t"), UserId("ann"), [](const auto&) {});
  log_.RunAll();
  EXPECT_THAT(outcomes_, ElementsAre("TIMED_OUT"));
  EXPECT_THAT(watcher->heard, ElementsAre("first ann 0/1", "NOT_FOUND"));
  EXPECT_EQ(Of("e1", 1).first_sent, std::nullopt);
  EXPECT_EQ(log_.followed(), 0u);
  watch.reset();
}

TEST_F(ReceiptsTest, StoppingTellsWatchersAndThoseWhoComeTooLate) {
  auto watcher = std::make_shared<RememberingWatcher>();
  auto watch = delivery().WatchReceipts(ThreadId("t"), watcher);
  log_.RunAll();
  delivery().Stop();
  auto late = delivery().WatchReceipts(ThreadId("t"), watcher);
  EXPECT_THAT(watcher->heard, ElementsAre("first  0/0", "NOT_INITIALIZED", "NOT_INITIALIZED"));
}

}  // namespace
}  // namespace clarion::delivery
