#include "service/delivery/delivery_fixture.h"
#include "telemetry/metrics.h"

namespace clarion::delivery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SubscribeTest : public DeliveryTest {};

TEST_F(SubscribeTest, AnswersWithTheEndOfTheLogAndGoesOnLive) {
  Append("t", "ann", {"one", "two"});
  auto gateway = AttachSubscribed("ann", "t");
  Append("t", "ann", {"three"});
  EXPECT_THAT(gateway->Heard(), ElementsAre("started 1 last=e1:2 from=1", "live t e1:3 three"));
}

TEST_F(SubscribeTest, SaysNothingBeforeTheLogHasAnswered) {
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->Subscribe("c", 1, "t");
  EXPECT_THAT(gateway->Heard(), IsEmpty());
}

TEST_F(SubscribeTest, EventsCommittedWhileItWaitsAreInTheAnswerOrLive) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    FakeLog log(seed);
    auto delivery = Delivery::Create(options_, &log, &scheduler_);
    log.GiveTo(ThreadId("t"), UserId("ann"));
    log.RunAll();
    TestGateway gateway(*delivery, "g");
    gateway.Heard();
    gateway.Open("c", "ann");
    log.AppendText(ThreadId("t"), UserId("ann"), "one");
    gateway.Subscribe("c", 1, "t");
    log.AppendText(ThreadId("t"), UserId("ann"), "two");
    log.RunAll();
    EXPECT_THAT(gateway.Heard(), ElementsAre("started 1 last=e1:1 from=1", "live t e1:2 two"));
    delivery->Stop();
    log.RunAll();
  }
}

TEST_F(SubscribeTest, ASecondSubscriberIsAnsweredAtItsPlaceInTheStream) {
  Append("t", "ann", {"one"});
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->Open("d", "ann");
  Subscribed(*gateway, "c", 1, "t");
  Append("t", "ann", {"two"});
  Subscribed(*gateway, "d", 2, "t");
  Append("t", "ann", {"three"});
  EXPECT_THAT(gateway->Heard(), ElementsAre("started 1 last=e1:1 from=1", "live t e1:2 two",
                                            "started 2 last=e1:2 from=1", "live t e1:3 three"));
}

TEST_F(SubscribeTest, EachAttachmentGetsEachEventOnce) {
  Append("t", "ann", {"one"});
  auto a = Attach("a");
  auto b = Attach("b");
  a->Open("c1", "ann");
  a->Open("c2", "ann");
  b->Open("c3", "ann");
  Subscribed(*a, "c1", 1, "t", v1::START_FROM_LIVE);
  Subscribed(*a, "c2", 2, "t", v1::START_FROM_LIVE);
  Subscribed(*b, "c3", 1, "t", v1::START_FROM_LIVE);
  a->Heard();
  b->Heard();
  Append("t", "ann", {"two"});
  EXPECT_THAT(a->Heard(), ElementsAre("live t e1:2 two"));
  EXPECT_THAT(b->Heard(), ElementsAre("live t e1:2 two"));
}

TEST_F(SubscribeTest, NamesOpenRunsAndBeginsWithTheUnfinishedOne) {
  Append("t", "ann", {"zero"});
  log_.AppendText(ThreadId("t"), UserId("ann"), "start", log::RunStep::kStart, RunId("r1"));
  Append("t", "ann", {"delta"});
  auto gateway = Attach();
  gateway->Open("c", "ann");
  Subscribed(*gateway, "c", 1, "t", v1::START_FROM_LIVE);
  gateway->Ack(1, PositionOf("e1", 3), 3);
  Subscribed(*gateway, "c", 2, "t", v1::START_FROM_UNFINISHED);
  EXPECT_THAT(gateway->Heard(), ElementsAre("started 1 last=e1:3 from=4 run=r1@2", "acked 1 ok 0",
                                            "started 2 last=e1:3 from=1 run=r1@2"));
}

TEST_F(SubscribeTest, ALostTailIsSaidWithTheAnswer) {
  Append("t", "ann", {"one", "two", "three"});
  log_.LoseTail(ThreadId("t"), Offset(1));
  Append("t", "ann", {"2nd"});
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->SubscribeAfter("c", 1, "t", PositionOf("e1", 3));
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("started 1 last=e2:2 from=2 missed=2..3 keep 1"));
}

TEST_F(SubscribeTest, ANewEpochUnderALiveSubscriptionComesAsALiveOfItsOwn) {
  Append("t", "ann", {"one", "two", "three"});
  auto gateway = AttachSubscribed("ann", "t");
  log_.LoseTail(ThreadId("t"), Offset(1));
  Append("t", "ann", {"2nd", "3rd"});
  EXPECT_THAT(gateway->Heard(),
              ElementsAre("started 1 last=e1:3 from=1", "live t e2:2 2nd", "live t e2:3 3rd"));
}

TEST_F(SubscribeTest, ARaisedFloorIsForwarded) {
  Append("t", "ann", {"one", "two"});
  auto gateway = AttachSubscribed("ann", "t");
  log_.RaiseFloor(ThreadId("t"), Offset(2), log::FloorReason::kExpired,
                  [](absl::StatusOr<Offset>) {});
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("started 1 last=e1:2 from=1", "floor t 2"));
}

TEST_F(SubscribeTest, TheLogIsUnfollowedWithTheLastSubscription) {
  Append("t", "ann", {"one"});
  auto gateway = AttachSubscribed("ann", "t");
  Subscribed(*gateway, "c", 2, "t");
  gateway->Unsubscribe(1);
  log_.RunAll();
  EXPECT_EQ(log_.followed(), 1u);
  gateway->Unsubscribe(2);
  log_.RunAll();
  EXPECT_EQ(log_.followed(), 0u);
}

TEST_F(SubscribeTest, SubscribingWhileTheLogIsBeingUnfollowedFollowsAgain) {
  Append("t", "ann", {"one"});
  auto gateway = AttachSubscribed("ann", "t");
  gateway->Unsubscribe(1);
  gateway->Subscribe("c", 2, "t");
  log_.RunAll();
  Append("t", "ann", {"two"});
  EXPECT_THAT(gateway->Heard(), ElementsAre("started 1 last=e1:1 from=1",
                                            "started 2 last=e1:1 from=1", "live t e1:2 two"));
}

TEST_F(SubscribeTest, UnsubscribedBeforeTheAnswerIsForgotten) {
  Append("t", "ann", {"one"});
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->Subscribe("c", 1, "t");
  gateway->Unsubscribe(1);
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), IsEmpty());
  EXPECT_EQ(log_.followed(), 0u);
}

TEST_F(SubscribeTest, RefusesUnknownConnectionsAndBadThreadIds) {
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->Subscribe("d", 1, "t");
  gateway->Subscribe("c", 2, "has space");
  EXPECT_THAT(gateway->Heard(), ElementsAre("refused 1 NOT_FOUND", "refused 2 CONTEXT_INVALID"));
}

TEST_F(SubscribeTest, RefusesWithTheLogsReasonWhenTheLogFails) {
  auto gateway = Attach();
  gateway->Open("c", "ann");
  log_.FailFollow(MakeError(Reason::kBufferOverflow, "queue full", {.operation = "Follow"}));
  ::testing::internal::CaptureStderr();
  Subscribed(*gateway, "c", 1, "t");
  EXPECT_THAT(gateway->Heard(), ElementsAre("refused 1 BUFFER_OVERFLOW"));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("operation=subscribe"));
}

TEST_F(SubscribeTest, AfterAnInterruptionItFollowsAgainAndSaysWhatIsNotLive) {
  Append("t", "ann", {"one"});
  auto gateway = AttachSubscribed("ann", "t");
  log_.Interrupt(ThreadId("t"));
  log_.AppendText(ThreadId("t"), UserId("ann"), "two");  // nobody follows just then
  log_.RunAll();
  Append("t", "ann", {"three"});
  EXPECT_THAT(gateway->Heard(), ElementsAre("started 1 last=e1:1 from=1", "lagging t e1:2"));
}

class ClaimTest : public DeliveryTest {};

TEST_F(ClaimTest, NobodysAndSomebodyElsesThreadAnswerTheSame) {
  Append("his", "bob", {"secret"});
  auto gateway = AttachSubscribed("ann", "his");
  Subscribed(*gateway, "c", 2, "nobodys");
  Append("his", "bob", {"more"});
  gateway->Ack(1, PositionOf("e1", 1), 1, 7);
  gateway->Ack(2, PositionOf("e1", 1), 1, 8);
  EXPECT_THAT(gateway->Heard(),
              ElementsAre("claim 1", "claim 2", "acked 7 ACK_INVALID 0", "acked 8 ACK_INVALID 0"));
}

TEST_F(ClaimTest, GoesLiveWhenTheThreadBecomesTheUsers) {
  auto gateway = Attach();
  gateway->Open("c", "ann");
  Subscribed(*gateway, "c", 1, "t", v1::START_FROM_UNFINISHED);
  GiveTo("t", "ann");
  Append("t", "ann", {"one"});
  EXPECT_THAT(gateway->Heard(),
              ElementsAre("claim 1", "started 1 last=:0 from=1", "live t e1:1 one"));
}

TEST_F(ClaimTest, FromLiveMissesNothingOfAThreadThatBecomesTheUsers) {
  auto gateway = Attach();
  gateway->Open("c", "ann");
  Subscribed(*gateway, "c", 1, "t", v1::START_FROM_LIVE);
  Append("t", "ann", {"one"});  // assigns and appends in one commit
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 1", "started 1 last=e1:1 from=1"));
}

TEST_F(ClaimTest, StaysAClaimWhenTheThreadBecomesSomebodyElses) {
  auto gateway = AttachSubscribed("ann", "t");
  Append("t", "bob", {"one", "two"});
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 1"));
}

TEST_F(ClaimTest, OverTheLimitIsRefusedAndASlotComesBackWithUnsubscribeAndDisconnect) {
  options_.claims_per_user = 2;
  Append("his", "bob", {"secret"});
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->Open("d", "ann");
  Subscribed(*gateway, "c", 1, "x");
  Subscribed(*gateway, "d", 2, "his");
  Subscribed(*gateway, "c", 3, "y");
  Subscribed(*gateway, "c", 4, "his");
  gateway->Unsubscribe(1);
  Subscribed(*gateway, "c", 5, "y");
  gateway->CloseConnection("d");
  Subscribed(*gateway, "c", 6, "z");
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 1", "claim 2", "refused 3 RATE_LIMITED",
                                            "refused 4 RATE_LIMITED", "claim 5", "claim 6"));
}

TEST_F(ClaimTest, ASlotComesBackWhenTheClaimGoesLive) {
  options_.claims_per_user = 1;
  auto gateway = AttachSubscribed("ann", "x");
  GiveTo("x", "ann");
  Subscribed(*gateway, "c", 2, "y");
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 1", "started 1 last=:0 from=1", "claim 2"));
}

TEST_F(ClaimTest, CanariesHoldNoSlots) {
  options_.claims_per_user = 0;
  auto gateway = Attach();
  gateway->Open("c", "_clarion");
  Subscribed(*gateway, "c", 1, "_clarion-x");
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 1"));
}

class LaggingTest : public DeliveryTest {
 protected:
  LaggingTest() {
    Append("t", "ann", {"one"});
    gateway_ = Attach();
    gateway_->Open("c", "ann");
    Subscribed(*gateway_, "c", 1, "t");
    gateway_->Heard();
  }
  std::unique_ptr<TestGateway> gateway_;
};

TEST_F(LaggingTest, IsSaidOnceWhenTheQueueIsFullAndThenNothingIsLive) {
  gateway_->carrier().set_live_room(1);
  Append("t", "ann", {"two", "three", "four"});
  EXPECT_THAT(gateway_->Heard(), ElementsAre("live t e1:2 two", "lagging t e1:3"));
}

TEST_F(LaggingTest, FollowFromTheEndGoesOnExactlyThere) {
  gateway_->carrier().set_live_room(0);
  Append("t", "ann", {"two", "three"});
  gateway_->carrier().set_live_room(100);
  gateway_->Follow("t", PositionOf("e1", 3));
  Append("t", "ann", {"four"});
  EXPECT_THAT(gateway_->Heard(), ElementsAre("lagging t e1:2", "live t e1:4 four"));
}

TEST_F(LaggingTest, FollowFromALittleBehindGetsWhatLiesBetween) {
  gateway_->carrier().set_live_room(0);
  Append("t", "ann", {"two", "three", "four"});
  gateway_->carrier().set_live_room(100);
  gateway_->Follow("t", PositionOf("e1", 2));
  Append("t", "ann", {"five"});
  EXPECT_THAT(gateway_->Heard(), ElementsAre("lagging t e1:2", "live t e1:3 three",
                                             "live t e1:4 four", "live t e1:5 five"));
}

TEST_F(LaggingTest, FollowFromFurtherBehindThanIsKeptLagsAgain) {
  gateway_->carrier().set_live_room(0);
  Append("t", "ann", {"two", std::string(300'000, 'x'), "four"});
  gateway_->carrier().set_live_room(100);
  gateway_->Follow("t", PositionOf("e1", 1));
  gateway_->Follow("t", PositionOf("e1", 3));
  EXPECT_THAT(gateway_->Heard(),
              ElementsAre("lagging t e1:2", "lagging t e1:2", "live t e1:4 four"));
}

TEST_F(LaggingTest, FollowFromALostPositionLagsFromWhatSurvived) {
  gateway_->carrier().set_live_room(0);
  Append("t", "ann", {"two", "three"});
  log_.LoseTail(ThreadId("t"), Offset(2));
  Append("t", "ann", {"3rd"});
  gateway_->carrier().set_live_room(100);
  gateway_->Follow("t", PositionOf("e1", 3));
  gateway_->Follow("t", PositionOf("e2", 3));
  Append("t", "ann", {"4th"});
  EXPECT_THAT(gateway_->Heard(),
              ElementsAre("lagging t e1:2", "lagging t e2:3", "live t e2:4 4th"));
}

// A page may hold a commit of which delivery has not been told yet.
TEST_F(LaggingTest, FollowFromBeyondWhatWasPassedGoesOnThere) {
  gateway_->carrier().set_live_room(0);
  Append("t", "ann", {"two"});
  gateway_->carrier().set_live_room(100);
  log_.AppendText(ThreadId("t"), UserId("ann"), "three");
  log_.RunReaders(ThreadId("t"));
  gateway_->Follow("t", PositionOf("e1", 3));
  Append("t", "ann", {"four"});
  EXPECT_THAT(gateway_->Heard(), ElementsAre("lagging t e1:2", "live t e1:4 four"));
}

TEST_F(LaggingTest, FollowFromALostPositionIsTakenBackByTheNextEpoch) {
  gateway_->carrier().set_live_room(0);
  Append("t", "ann", {"two", "three"});
  gateway_->carrier().set_live_room(100);
  log_.LoseTail(ThreadId("t"), Offset(2));
  log_.Interrupt(ThreadId("t"));
  log_.RunAll();
  gateway_->Follow("t", PositionOf("e1", 3));
  Append("t", "ann", {"3rd"});
  EXPECT_THAT(gateway_->Heard(), ElementsAre("lagging t e1:2", "live t e2:3 3rd"));
}

TEST_F(LaggingTest, AnotherGatewayIsNotHeldUp) {
  auto other = Attach("other");
  other->Open("d", "ann");
  Subscribed(*other, "d", 1, "t");
  other->Heard();
  gateway_->carrier().set_live_room(0);
  Append("t", "ann", {"two"});
  EXPECT_THAT(other->Heard(), ElementsAre("live t e1:2 two"));
}

TEST_F(LaggingTest, ANewSubscriptionIsAnsweredAndTheLagStands) {
  gateway_->carrier().set_live_room(0);
  Append("t", "ann", {"two"});
  gateway_->carrier().set_live_room(100);
  gateway_->Open("d", "ann");
  Subscribed(*gateway_, "d", 2, "t");
  Append("t", "ann", {"three"});
  EXPECT_THAT(gateway_->Heard(), ElementsAre("lagging t e1:2", "started 2 last=e1:2 from=1"));
}

class AckTest : public DeliveryTest {
 protected:
  AckTest() {
    Append("t", "ann", {"one", "two", "three", "four", "five"});
    gateway_ = Attach();
    gateway_->Open("c", "ann");
  }
  std::string Answer() {
    log_.RunAll();
    const auto heard = gateway_->Heard();
    return heard.empty() ? "" : heard.back();
  }
  std::unique_ptr<TestGateway> gateway_;
};

TEST_F(AckTest, MovesTheAcknowledgedOffset) {
  Subscribed(*gateway_, "c", 1, "t");
  gateway_->Ack(1, PositionOf("e1", 3), 5, 9);
  EXPECT_EQ(Answer(), "acked 9 ok 3");
  EXPECT_EQ(log_.StateOf(ThreadId("t")).acknowledged, Offset(3));
}

TEST_F(AckTest, AnOlderOneChangesNothingAndDoesNotAskTheLog) {
  Subscribed(*gateway_, "c", 1, "t");
  gateway_->Ack(1, PositionOf("e1", 3), 5);
  Answer();
  gateway_->Ack(1, PositionOf("e1", 2), 5, 2);
  EXPECT_EQ(Answer(), "acked 2 ok 3");
  EXPECT_EQ(log_.acks(), 1u);
}

TEST_F(AckTest, BeyondWhatWasSentIsInvalid) {
  Subscribed(*gateway_, "c", 1, "t");
  gateway_->Ack(1, PositionOf("e1", 4), 3);
  EXPECT_EQ(Answer(), "acked 1 ACK_INVALID 0");
  gateway_->Ack(1, PositionOf("e1", 40), 3, 2);
  EXPECT_EQ(Answer(), "acked 2 ACK_INVALID 0");
}

TEST_F(AckTest, UpToTheSubscriptionsStartCountsAlthoughNothingWasSent) {
  gateway_->SubscribeAfter("c", 1, "t", PositionOf("e1", 4));
  log_.RunAll();
  gateway_->Ack(1, PositionOf("e1", 4), 0);
  EXPECT_EQ(Answer(), "acked 1 ok 4");
}

TEST_F(AckTest, OfALostOrUnknownPositionSaysEpochChanged) {
  Subscribed(*gateway_, "c", 1, "t");
  log_.LoseTail(ThreadId("t"), Offset(3));
  Append("t", "ann", {"4th"});
  gateway_->Ack(1, PositionOf("e1", 5), 5);
  EXPECT_EQ(Answer(), "acked 1 EPOCH_CHANGED 0");
  gateway_->Ack(1, PositionOf("z", 1), 5, 2);
  EXPECT_EQ(Answer(), "acked 2 EPOCH_CHANGED 0");
  gateway_->Ack(1, PositionOf("e1", 2), 5, 3);
  EXPECT_EQ(Answer(), "acked 3 ok 2");
  gateway_->Ack(1, PositionOf("z", 1), 5, 4);
  EXPECT_EQ(Answer(), "acked 4 EPOCH_CHANGED 2") << "also where the offset is acknowledged already";
}

// A page may hold a commit of which delivery has not been told yet.
TEST_F(AckTest, OfWhatAPageShowedBeforeFollowersWereToldCounts) {
  Subscribed(*gateway_, "c", 1, "t");
  log_.AppendText(ThreadId("t"), UserId("ann"), "six");
  log_.RunReaders(ThreadId("t"));
  gateway_->Ack(1, PositionOf("e1", 6), 6);
  EXPECT_EQ(Answer(), "acked 1 ok 6");
}

TEST_F(AckTest, OfAnEpochThatAPageShowedBeforeFollowersWereToldCounts) {
  Subscribed(*gateway_, "c", 1, "t");
  log_.NewEpoch(ThreadId("t"));
  log_.AppendText(ThreadId("t"), UserId("ann"), "six");
  log_.RunReaders(ThreadId("t"));
  gateway_->Ack(1, PositionOf("e2", 6), 6);
  EXPECT_EQ(Answer(), "acked 1 ok 6");
}

TEST_F(AckTest, OfASurvivingPositionInAnOldEpochCounts) {
  Subscribed(*gateway_, "c", 1, "t");
  log_.LoseTail(ThreadId("t"), Offset(3));
  Append("t", "ann", {"4th"});
  gateway_->Ack(1, PositionOf("e1", 3), 5);
  EXPECT_EQ(Answer(), "acked 1 ok 3");
}

TEST_F(AckTest, FromALiveSubscriptionThatLeftSomethingOutChangesNothing) {
  Subscribed(*gateway_, "c", 1, "t", v1::START_FROM_LIVE);
  Append("t", "ann", {"six"});
  gateway_->Ack(1, PositionOf("e1", 6), 6);
  EXPECT_EQ(Answer(), "acked 1 ok 0");
}

TEST_F(AckTest, FromALiveSubscriptionThatLeftNothingOutCounts) {
  Subscribed(*gateway_, "c", 1, "t");
  gateway_->Ack(1, PositionOf("e1", 5), 5);
  Answer();
  Subscribed(*gateway_, "c", 2, "t", v1::START_FROM_LIVE);
  Append("t", "ann", {"six"});
  gateway_->Ack(2, PositionOf("e1", 6), 6);
  EXPECT_EQ(Answer(), "acked 1 ok 6");
}

TEST_F(AckTest, BeforeTheSubscriptionRunsWaitsForIt) {
  gateway_->SubscribeAfter("c", 1, "t", PositionOf("e1", 2), true);
  gateway_->Ack(1, PositionOf("e1", 2), 2);
  EXPECT_THAT(gateway_->Heard(), IsEmpty());
  EXPECT_EQ(Answer(), "acked 1 ok 2");
}

// The gateway keeps every ack until it is answered.
TEST_F(AckTest, WhoseSubscriptionEndsBeforeItRunsIsAnswered) {
  gateway_->Subscribe("c", 1, "t");
  gateway_->Ack(1, PositionOf("e1", 2), 2, 1);
  gateway_->Ack(1, PositionOf("e1", 3), 3, 2);
  gateway_->Unsubscribe(1);
  EXPECT_THAT(gateway_->Heard(), ElementsAre("acked 1 NOT_FOUND 0", "acked 2 NOT_FOUND 0"));
  log_.RunAll();

  log_.FailFollow(MakeError(Reason::kLogUnavailable, "not now"));
  gateway_->Subscribe("c", 2, "t");
  gateway_->Ack(2, PositionOf("e1", 2), 2, 3);
  log_.RunAll();
  EXPECT_THAT(gateway_->Heard(),
              ElementsAre("refused 2 LOG_UNAVAILABLE", "acked 3 LOG_UNAVAILABLE 0"));

  gateway_->Subscribe("c", 3, "t");
  gateway_->Ack(3, PositionOf("e1", 2), 2, 4);
  gateway_->CloseConnection("c");
  EXPECT_THAT(gateway_->Heard(), ElementsAre("acked 4 NOT_FOUND 0"));
}

TEST_F(AckTest, OfAnUnknownSubscriptionIsNotFound) {
  gateway_->Ack(77, PositionOf("e1", 2), 2);
  EXPECT_EQ(Answer(), "acked 1 NOT_FOUND 0");
}

class PageTest : public DeliveryTest {};

std::vector<std::string> Texts(const link::Page& page) {
  std::vector<std::string> texts;
  texts.reserve(page.runs.size() + page.missed.size());
  for (const v1::Missed& missed : page.missed) texts.push_back("missed " + Describe(missed));
  for (const link::Live& run : page.runs) texts.push_back(Describe(link::ToGateway(run)));
  return texts;
}

TEST_F(PageTest, HoldsWhatIsNewerThanThePosition) {
  Append("t", "ann", {"one", "two", "three"});
  const link::Page page = Page("t", PositionOf("e1", 1));
  EXPECT_THAT(Texts(page), ElementsAre("live t e1:2 two three"));
  EXPECT_EQ(page.last, (Position{Epoch("e1"), Offset(3)}));
}

TEST_F(PageTest, EndsAtUntil) {
  Append("t", "ann", {"one", "two", "three"});
  EXPECT_THAT(Texts(Page("t", PositionOf("", 0), 2)), ElementsAre("live t e1:1 one two"));
  EXPECT_THAT(Texts(Page("t", PositionOf("e1", 2), 2)), IsEmpty());
}

TEST_F(PageTest, SaysWhatTheFloorTook) {
  Append("t", "ann", {"one", "two", "three"});
  log_.RaiseFloor(ThreadId("t"), Offset(3), log::FloorReason::kExpired,
                  [](absl::StatusOr<Offset>) {});
  EXPECT_THAT(Texts(Page("t", PositionOf("", 0))), ElementsAre("missed 1..2", "live t e1:3 three"));
}

TEST_F(PageTest, SaysWhatWasLostAndHoldsWhatCameInstead) {
  Append("t", "ann", {"one", "two", "three"});
  log_.LoseTail(ThreadId("t"), Offset(1));
  Append("t", "ann", {"2nd"});
  EXPECT_THAT(Texts(Page("t", PositionOf("e1", 3))),
              ElementsAre("missed 2..3 keep 1", "live t e2:2 2nd"));
  EXPECT_THAT(Texts(Page("t", PositionOf("", 0))),
              ElementsAre("live t e1:1 one", "live t e2:2 2nd"));
}

TEST_F(PageTest, JudgesThePositionAgainWhenTheEpochChangedMeanwhile) {
  Append("t", "ann", {"one", "two", "three"});
  auto gateway = AttachSubscribed("ann", "t");
  v1::ReadPageRequest request;
  request.set_thread_id("t");
  *request.mutable_after() = PositionOf("e1", 2);
  log_.LoseTail(ThreadId("t"), Offset(1));
  log_.AppendText(ThreadId("t"), UserId("ann"), "2nd");
  link::Page page;
  delivery().ReadPage(request, [&](absl::StatusOr<link::Page> got) { page = *got; });
  log_.RunAll();
  EXPECT_THAT(Texts(page), ElementsAre("missed 2..2 keep 1", "live t e2:2 2nd"));
}

TEST_F(PageTest, AfterAPageThatWasNewerThanWhatFollowersKnowNothingIsMissed) {
  Append("t", "ann", {"one", "two"});
  auto gateway = AttachSubscribed("ann", "t");
  uint64_t last = 2;
  for (const char* epoch : {"e1", "e2"}) {
    log_.AppendText(ThreadId("t"), UserId("ann"), absl::StrCat("event", ++last));
    log_.RunReaders(ThreadId("t"));
    v1::ReadPageRequest request;
    request.set_thread_id("t");
    *request.mutable_after() = PositionOf(epoch, last);
    link::Page page;
    delivery().ReadPage(request, [&](absl::StatusOr<link::Page> got) { page = *got; });
    log_.RunReaders(ThreadId("t"));
    EXPECT_THAT(Texts(page), IsEmpty());
    EXPECT_EQ(page.last, (Position{Epoch(epoch), Offset(last)}));
    log_.NewEpoch(ThreadId("t"));
  }
}

TEST_F(PageTest, ThatCannotBeReadIsLoggedAndCounted) {
  Append("t", "ann", {"one"});
  log_.FailRead(MakeError(Reason::kLogUnavailable, "a block is damaged", {.operation = "Read"}));
  const Counter& failures =
      GetCounter("clarion_failures_total", "", {{"reason", "LOG_UNAVAILABLE"}});
  const uint64_t before = failures.value();
  v1::ReadPageRequest request;
  request.set_thread_id("t");
  absl::Status status;
  ::testing::internal::CaptureStderr();
  delivery().ReadPage(request, [&](absl::StatusOr<link::Page> got) { status = got.status(); });
  log_.RunAll();
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(ReasonOf(status), Reason::kLogUnavailable);
  EXPECT_THAT(log, HasSubstr("a block is damaged"));
  EXPECT_THAT(log, HasSubstr("user_id=ann"));
  EXPECT_THAT(log, HasSubstr("thread_id=t"));
  EXPECT_THAT(log, HasSubstr("operation=ReadPage"));
  EXPECT_EQ(failures.value(), before + 1);
}

TEST_F(PageTest, OfAThreadWithoutEventsIsEmpty) {
  EXPECT_THAT(Texts(Page("t", PositionOf("", 0))), IsEmpty());
}

}  // namespace
}  // namespace clarion::delivery
