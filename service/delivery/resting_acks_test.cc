// What a connection that polls acknowledged, and threads that were deleted while it rested.
#include "service/delivery/resting_fixture.h"

namespace clarion::delivery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// ---- Acks ----

TEST_F(RestingTest, AcksOfAPollCountUpToTheEndOfTheLogWhateverWasSent) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  Append("t", "ann", {"two", "three"});
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  gateway->SubscribeAfter("c", 2, "t", PositionOf("e1", 1));
  gateway->Ack(2, PositionOf("e1", 3), /*last_sent=*/0, 1);
  log_.RunAll();
  gateway->Heard();
  gateway->Ack(2, PositionOf("e1", 4), 0, 2);
  gateway->Ack(2, PositionOf("e9", 2), 0, 3);
  gateway->Ack(2, PositionOf("e9", 9), 0, 4);
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("acked 2 ACK_INVALID 3", "acked 3 EPOCH_CHANGED 3",
                                            "acked 4 EPOCH_CHANGED 3"));
  EXPECT_EQ(log_.StateOf(ThreadId("t")).acknowledged, Offset(3));
}

TEST_F(RestingTest, AcksOfLivePollsMoveNothingWhileTheyLeaveSomethingOut) {
  Append("t", "ann", {"one", "two", "three"});
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 1, "t", v1::START_FROM_LIVE);
  gateway->Confirm(1);
  gateway->Rest("c");
  Append("t", "ann", {"four"});
  gateway->Poll("c", "ann");
  gateway->SubscribeAfter("c", 2, "t", PositionOf("e1", 4));
  log_.RunAll();
  gateway->Heard();
  gateway->Ack(2, PositionOf("e1", 4), 4, 1);
  gateway->Ack(2, PositionOf("e1", 5), 4, 2);
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("acked 1 ok 0", "acked 2 ACK_INVALID 0"));
  EXPECT_EQ(log_.acks(), 0u);
}

TEST_F(RestingTest, AcksOfLivePollsCountFromWhereTheyBegan) {
  auto gateway = Attach();
  GiveTo("t", "ann");
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 1, "t", v1::START_FROM_LIVE);  // nothing is older
  gateway->Confirm(1);
  gateway->Rest("c");
  Append("t", "ann", {"one", "two"});
  for (uint64_t poll = 2; poll <= 3; ++poll) {
    gateway->Poll("c", "ann");
    gateway->SubscribeAfter("c", poll, "t", PositionOf("e1", 2));
    log_.RunAll();
    if (poll == 2) gateway->Rest("c");
  }
  gateway->Heard();
  gateway->Ack(3, PositionOf("e1", 2), 2);
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("acked 1 ok 2"));
}

TEST_F(RestingTest, APollThatBeginsAThreadLiveAgainLeavesOutWhatIsOlder) {
  auto gateway = Attach();
  BeginPolling(*gateway);  // from its start
  gateway->Rest("c");
  Append("t", "ann", {"two"});
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 2, "t", v1::START_FROM_LIVE);
  gateway->Confirm(2);
  Append("t", "ann", {"three"});
  gateway->Heard();
  gateway->Ack(2, PositionOf("e1", 3), 3);
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("acked 1 ok 0"));
}

// Also where nothing polls: a gateway says where the subscription had begun.
TEST_F(RestingTest, AcksOfARestoredLiveSubscriptionCountFromWhereItBegan) {
  GiveTo("t", "ann");
  Append("t", "ann", {"one", "two"});
  for (const uint64_t began : {1, 2, 0}) {
    auto gateway = Attach();
    gateway->Open("c", "ann");
    v1::GatewayMessage message = TestGateway::Subscription("c", 1, "t", v1::START_FROM_LIVE);
    *message.mutable_subscribe()->mutable_after() = PositionOf("e1", 2);
    message.mutable_subscribe()->set_restored(true);
    message.mutable_subscribe()->set_began_offset(began);
    gateway->Say(message);
    log_.RunAll();
    gateway->Heard();
    gateway->Ack(1, PositionOf("e1", 1), 2);
    log_.RunAll();
    EXPECT_THAT(gateway->Heard(), ElementsAre("acked 1 ok 1")) << began;
    if (began != 1) continue;
    // From here on W is 1: what began at 2 leaves nothing out.
    EXPECT_EQ(log_.StateOf(ThreadId("t")).acknowledged, Offset(1));
  }
}

// ---- Threads that are deleted ----

TEST_F(RestingTest, AThreadDeletedMeanwhileIsRefusedWithWhatIsGoneUntilThePageAsksNoMore) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  const auto watcher = Watch("ann");
  gateway->Rest("c");
  Delete("t", "ann");
  EXPECT_EQ(Followers(), 0u);
  EXPECT_THAT(watcher->changes, ElementsAre("c connected"));
  EXPECT_THAT(gateway->Heard(), IsEmpty());
  for (uint64_t poll = 2; poll <= 3; ++poll) {  // the first is cut off, for all we know
    gateway->Poll("c", "ann");
    gateway->SubscribeAfter("c", poll, "t", PositionOf("e1", 1));
    log_.RunAll();
    EXPECT_THAT(gateway->Heard(),
                ElementsAre(absl::StrCat("refused ", poll, " NOT_FOUND deleted=1..1")));
    gateway->Rest("c");
  }
  gateway->Poll("c", "ann");
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 5, "t");
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 5"));
}

TEST_F(RestingTest, AThreadDeletedWhileAPollRunsIsRefusedToTheNextToo) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  Delete("t", "ann");
  EXPECT_THAT(gateway->Heard(), ElementsAre("refused 1 NOT_FOUND deleted=1..1"));
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  gateway->SubscribeAfter("c", 2, "t", PositionOf("e1", 1));
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("refused 2 NOT_FOUND deleted=1..1"));
}

TEST_F(RestingTest, AThreadDeletedBeforeTheLogAnswersAPollIsRefusedWithWhatIsGone) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  log_.Delete(ThreadId("t"), UserId("ann"), [](const auto&) {});
  gateway->SubscribeAfter("c", 2, "t", PositionOf("e1", 1));
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("refused 2 NOT_FOUND deleted=1..1"));
}

TEST_F(RestingTest, ADeletedThreadThatWasNotTheUsersIsAClaimAsAnyOther) {
  Append("bobs", "bob", {"secret"});
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 1, "bobs");
  Subscribed(*gateway, "c", 2, "unknown");
  gateway->Rest("c");
  gateway->Heard();
  Delete("bobs", "bob");
  gateway->Poll("c", "ann");
  gateway->SubscribeAfter("c", 3, "bobs", PositionOf("e1", 1));
  gateway->SubscribeAfter("c", 4, "unknown", PositionOf("e1", 1));
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 3", "claim 4"));
}

TEST_F(RestingTest, AnotherUsersConnectionIsNoProof) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  Delete("t", "ann");
  gateway->Poll("d", "bob");
  gateway->SubscribeAfter("d", 2, "t", PositionOf("e1", 1));
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 2"));
}

}  // namespace
}  // namespace clarion::delivery
