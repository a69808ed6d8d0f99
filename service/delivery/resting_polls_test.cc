// From poll to poll: what a connection that rested goes on with.
#include "service/delivery/resting_fixture.h"

namespace clarion::delivery {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// ---- From poll to poll ----

TEST_F(RestingTest, WhatRestedCountsUntilItIsFollowedAnew) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  EXPECT_EQ(Followers(), 1u);
  gateway->Subscribe("c", 2, "t");
  EXPECT_EQ(Followers(), 1u);
  log_.RunAll();
  EXPECT_EQ(Followers(), 1u) << "not told yet: it has not gone on from a position";
  gateway->Confirm(2);
  EXPECT_EQ(Followers(), 1u);
  gateway->Unsubscribe(2);
  EXPECT_EQ(Followers(), 0u);
}

TEST_F(RestingTest, APollThatIsCutOffBeforeItIsConfirmedLosesNothing) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  const auto watcher = Watch("ann");
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  gateway->Subscribe("c", 2, "t");
  gateway->Rest("c");  // before the log answered
  log_.RunAll();
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 3, "t");
  gateway->Rest("c");  // before it was confirmed
  EXPECT_EQ(Followers(), 1u);
  EXPECT_THAT(watcher->changes, IsEmpty());
  EXPECT_THAT(Connected("", "t"), ElementsAre("c"));
}

TEST_F(RestingTest, APollThatIsRefusedByTheLogLosesNothing) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  log_.FailFollow(MakeError(Reason::kLogUnavailable, "the disk is full"));
  gateway->SubscribeAfter("c", 2, "t", PositionOf("e1", 1));
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("refused 2 LOG_UNAVAILABLE"));
  gateway->Rest("c");
  EXPECT_EQ(Followers(), 1u);
}

TEST_F(RestingTest, AThreadGoesOnAsRestoredFromItsPosition) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  gateway->SubscribeAfter("c", 2, "t", PositionOf("e1", 1));
  log_.RunAll();
  // Not confirmed again: its page knows. What rested has its place taken.
  gateway->Unsubscribe(2);
  EXPECT_EQ(Followers(), 0u);
}

TEST_F(RestingTest, WhatAPollDoesNotAskForAnyMoreIsFollowedNoLonger) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  Append("u", "ann", {"x"});
  Subscribed(*gateway, "c", 2, "u");
  gateway->Confirm(2);
  const auto watcher = Watch("ann");
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  gateway->SubscribeAfter("c", 3, "t", PositionOf("e1", 1));
  log_.RunAll();
  EXPECT_EQ(Followers("u"), 1u);
  EXPECT_THAT(watcher->changes, IsEmpty());
  gateway->Rest("c");
  EXPECT_EQ(Followers("u"), 0u);
  EXPECT_EQ(Followers("t"), 1u);
  EXPECT_THAT(watcher->changes, ElementsAre("c connected t"));
}

TEST_F(RestingTest, WhatAPollUnsubscribesIsFollowedNoLongerAtOnce) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  const auto watcher = Watch("ann");
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  gateway->Subscribe("c", 2, "t");
  gateway->Unsubscribe(2);
  EXPECT_EQ(Followers(), 0u);
  EXPECT_THAT(watcher->changes, ElementsAre("c connected"));
  log_.RunAll();
  gateway->Rest("c");
  EXPECT_THAT(watcher->changes, ElementsAre("c connected"));
}

TEST_F(RestingTest, WhatWasNeverConfirmedDoesNotRest) {
  Append("t", "ann", {"one"});
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 1, "t");
  gateway->Rest("c");
  ExpectNobodyFollows();
}

TEST_F(RestingTest, TheSameThreadTwiceRestsOnce) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  Subscribed(*gateway, "c", 2, "t");
  gateway->Confirm(2);
  const auto watcher = Watch("ann");
  gateway->Rest("c");
  EXPECT_EQ(Followers(), 1u);
  EXPECT_THAT(watcher->changes, IsEmpty());
}

// ---- Claims ----

TEST_F(RestingTest, AClaimKeepsItsSlotUntilTheLeaseIsOver) {
  options_.claims_per_user = 1;
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 1, "later");
  gateway->Rest("c", 30);
  gateway->Open("d", "ann");
  Subscribed(*gateway, "d", 2, "other");
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 1", "refused 2 RATE_LIMITED"));
  for (uint64_t poll = 3; poll <= 5; ++poll) {
    gateway->Poll("c", "ann");
    Subscribed(*gateway, "c", poll, "later");
    EXPECT_THAT(gateway->Heard(), ElementsAre(absl::StrCat("claim ", poll)));
    gateway->Rest("c", 30);
  }
  Subscribed(*gateway, "d", 6, "other");
  EXPECT_THAT(gateway->Heard(), ElementsAre("refused 6 RATE_LIMITED"));
  scheduler_.Advance(seconds(30));
  Subscribed(*gateway, "d", 7, "other");
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 7"));
}

TEST_F(RestingTest, AClaimThatGoesLiveMeanwhileIsNobodysReadinessAndGoesOnFromTheBeginning) {
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 1, "t", v1::START_FROM_LIVE);
  gateway->Rest("c");
  gateway->Heard();
  Append("t", "ann", {"one"});
  Append("t", "ann", {"two"});
  EXPECT_EQ(Followers(), 0u);
  EXPECT_THAT(gateway->Heard(), IsEmpty());
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 2, "t", v1::START_FROM_LIVE);
  const auto started = gateway->carrier().Take();
  ASSERT_TRUE(started.has_value());
  EXPECT_EQ(Describe(*started), "started 2 last=e1:2 from=1");
  EXPECT_TRUE(std::get<v1::ServiceMessage>(*started).started().was_claim()) << "to tell its page";
  EXPECT_EQ(Followers(), 0u);
  gateway->Confirm(2);
  EXPECT_EQ(Followers(), 1u);
}

TEST_F(RestingTest, AClaimThatGoesLiveGivesItsSlotBackOnce) {
  options_.claims_per_user = 2;
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 1, "t");
  gateway->Rest("c", 30);
  Append("t", "ann", {"one"});
  gateway->Poll("c", "ann");
  for (uint64_t i = 2; i <= 4; ++i) Subscribed(*gateway, "c", i, absl::StrCat("u", i));
  EXPECT_THAT(gateway->Heard(),
              ElementsAre("claim 1", "claim 2", "claim 3", "refused 4 RATE_LIMITED"));
}

// A claim at rest, one on the next poll and their thread's owner in one answer of the log.
TEST_F(RestingTest, AClaimAtRestAndItsSuccessorAreServedByOneAnswer) {
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 1, "t");
  gateway->Rest("c");
  gateway->Heard();
  gateway->Poll("c", "ann");
  log_.GiveTo(ThreadId("t"), UserId("ann"));
  gateway->SubscribeAfter("c", 2, "t", PositionOf("", 0), /*restored=*/true);
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("started 2 last=:0 from=1"));
  EXPECT_EQ(Followers(), 1u);
  gateway->Unsubscribe(2);
  ExpectNobodyFollows();
}

// ---- What is said to it meanwhile ----

TEST_F(RestingTest, ABindWaitsAndIsSaidWhenItPollsAgain) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  GiveTo("u", "ann");
  gateway->Rest("c");
  std::vector<v1::BoundConnection> bound;
  delivery().BindThread(UserId("ann"), ThreadId("u"), seconds(10),
                        [&](std::vector<v1::BoundConnection> parts) { bound = std::move(parts); });
  EXPECT_THAT(gateway->Heard(), IsEmpty());
  auto other = Attach("other");
  other->Poll("c", "ann");
  const auto said = other->carrier().Take();
  ASSERT_TRUE(said.has_value());
  EXPECT_EQ(Describe(*said), "bind c u");
  EXPECT_THAT(bound, IsEmpty());
  other->BindResult(std::get<v1::ServiceMessage>(*said).bind().bind_id(),
                    v1::BIND_OUTCOME_CONFIRMED);
  ASSERT_EQ(bound.size(), 1u);
  EXPECT_EQ(bound[0].connection_id(), "c");
  EXPECT_EQ(bound[0].outcome(), v1::BIND_OUTCOME_CONFIRMED);
  other->Rest("c");
  other->Poll("c", "ann");
  EXPECT_THAT(other->Heard(), IsEmpty()) << "it was answered";
}

TEST_F(RestingTest, ABindThatAPollDidNotAnswerIsSaidToTheNext) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  GiveTo("u", "ann");
  int answers = 0;
  delivery().BindThread(UserId("ann"), ThreadId("u"), seconds(10),
                        [&](const std::vector<v1::BoundConnection>&) { ++answers; });
  EXPECT_THAT(gateway->Heard(), ElementsAre("bind c u"));
  gateway->Rest("c");
  EXPECT_EQ(answers, 0);
  gateway->Poll("c", "ann");
  EXPECT_THAT(gateway->Heard(), ElementsAre("bind c u"));
  gateway->CloseConnection("c");
  EXPECT_EQ(answers, 1);
}

TEST_F(RestingTest, ABindIsAnsweredInTimeAndAsGoneWhenTheLeaseIsOver) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  GiveTo("u", "ann");
  gateway->Rest("c", 30);
  std::vector<v1::BindOutcome> outcomes;
  for (const int timeout : {10, 60}) {
    delivery().BindThread(UserId("ann"), ThreadId("u"), seconds(timeout),
                          [&](const std::vector<v1::BoundConnection>& parts) {
                            for (const auto& part : parts) outcomes.push_back(part.outcome());
                          });
  }
  scheduler_.Advance(seconds(10));
  EXPECT_THAT(outcomes, ElementsAre(v1::BIND_OUTCOME_UNSPECIFIED));
  scheduler_.Advance(seconds(20));
  EXPECT_THAT(outcomes, ElementsAre(v1::BIND_OUTCOME_UNSPECIFIED, v1::BIND_OUTCOME_GONE));
}

// However long its page stays away between two polls.
TEST_F(RestingTest, ABindThatNobodyWaitsForAnyMoreIsSaidWhenItPollsAgain) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  GiveTo("u", "ann");
  gateway->Rest("c", 30);
  int answers = 0;
  for (int i = 0; i < 2; ++i) {
    delivery().BindThread(UserId("ann"), ThreadId("u"), seconds(5),
                          [&](const std::vector<v1::BoundConnection>&) { ++answers; });
  }
  v1::Readiness reached = v1::READINESS_UNSPECIFIED;
  const auto wait =
      delivery().AwaitReady(UserId("ann"), ThreadId("u"), v1::READINESS_SUBSCRIBED, seconds(60),
                            [&](absl::StatusOr<ReadyState> state) { reached = state->readiness; });
  scheduler_.Advance(seconds(6));
  EXPECT_EQ(answers, 2);
  gateway->Poll("c", "ann");
  const auto said = gateway->carrier().Take();
  ASSERT_TRUE(said.has_value());
  EXPECT_EQ(Describe(*said), "bind c u");
  EXPECT_THAT(gateway->Heard(), IsEmpty()) << "once is enough";
  Subscribed(*gateway, "c", 2, "u");
  gateway->Confirm(2);
  gateway->BindResult(std::get<v1::ServiceMessage>(*said).bind().bind_id(),
                      v1::BIND_OUTCOME_CONFIRMED);
  EXPECT_EQ(reached, v1::READINESS_SUBSCRIBED);
  EXPECT_EQ(answers, 2);
  gateway->Heard();
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  EXPECT_THAT(gateway->Heard(), IsEmpty()) << "it was answered";
}

TEST_F(RestingTest, ABindThatNobodyWaitsForAnyMoreEndsWithItsConnection) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  GiveTo("u", "ann");
  gateway->Rest("c", 30);
  delivery().BindThread(UserId("ann"), ThreadId("u"), seconds(5),
                        [](const std::vector<v1::BoundConnection>&) {});
  scheduler_.Advance(seconds(31));
  gateway->Poll("c", "ann");
  EXPECT_THAT(gateway->Heard(), IsEmpty());
}

TEST_F(RestingTest, ABindThatNobodyWaitsForAnyMoreEndsWithItsThread) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  GiveTo("u", "ann");
  gateway->Rest("c", 30);
  delivery().BindThread(UserId("ann"), ThreadId("u"), seconds(5),
                        [](const std::vector<v1::BoundConnection>&) {});
  scheduler_.Advance(seconds(6));
  Delete("u", "ann");
  gateway->Poll("c", "ann");
  EXPECT_THAT(gateway->Heard(), ElementsAre("bind c u"));
  Subscribed(*gateway, "c", 2, "u");
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 2"));
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  EXPECT_THAT(gateway->Heard(), IsEmpty());
}

// A question that its gateway asked, or what another took the place of.
TEST_F(RestingTest, WhatRestsStaysWhileAnotherOfItsThreadGoesOn) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  Subscribed(*gateway, "c", 2, "t");
  Subscribed(*gateway, "c", 3, "t");
  gateway->Unsubscribe(3);
  EXPECT_EQ(Followers(), 1u);
  gateway->Unsubscribe(2);
  EXPECT_EQ(Followers(), 0u);
}

TEST_F(RestingTest, WhatAPageMayNotHaveHeardIsNotReadyWhenTheLinkIsBack) {
  auto gateway = Attach();
  GiveTo("t", "ann");
  gateway->Poll("c", "ann");
  gateway->SubscribeAfter("c", 1, "t", PositionOf("", 0), /*restored=*/true, /*unheard=*/true);
  log_.RunAll();
  EXPECT_EQ(Followers(), 0u);
  gateway->Confirm(1);
  EXPECT_EQ(Followers(), 1u);
}

TEST_F(RestingTest, AThreadThatRestsIsBoundAlready) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  std::vector<v1::BoundConnection> bound;
  delivery().BindThread(UserId("ann"), ThreadId("t"), seconds(10),
                        [&](std::vector<v1::BoundConnection> parts) { bound = std::move(parts); });
  ASSERT_EQ(bound.size(), 1u);
  EXPECT_EQ(bound[0].outcome(), v1::BIND_OUTCOME_CONFIRMED);
}

TEST_F(RestingTest, AProbeWaitsAndIsAnsweredByALaterPoll) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  v1::Readiness reached = v1::READINESS_UNSPECIFIED;
  const auto wait =
      delivery().AwaitReady(UserId("ann"), ThreadId("t"), v1::READINESS_VERIFIED, seconds(60),
                            [&](absl::StatusOr<ReadyState> state) { reached = state->readiness; });
  EXPECT_THAT(gateway->Heard(), IsEmpty());
  gateway->Poll("c", "ann");
  const std::string nonce = gateway->TakeNonce();
  ASSERT_NE(nonce, "");
  gateway->SubscribeAfter("c", 2, "t", PositionOf("e1", 1));
  log_.RunAll();
  gateway->Rest("c");  // with the probe as its answer
  scheduler_.Advance(seconds(6));
  auto other = Attach("other");
  other->Poll("c", "ann");
  EXPECT_EQ(other->TakeNonce(), nonce) << "an answer to it may be in this poll";
  other->AnswerProbe("c", nonce);
  EXPECT_EQ(reached, v1::READINESS_VERIFIED);
  other->Rest("c");
  other->Poll("c", "ann");
  EXPECT_EQ(other->TakeNonce(), "") << "nobody waits any more";
}

TEST_F(RestingTest, AProbeThatNobodyWaitsForAnyMoreIsNotSaidAgain) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  auto wait = delivery().AwaitReady(UserId("ann"), ThreadId("t"), v1::READINESS_VERIFIED,
                                    seconds(60), [](const absl::StatusOr<ReadyState>&) {});
  EXPECT_NE(gateway->TakeNonce(), "");
  gateway->Rest("c");
  wait.reset();
  gateway->Poll("c", "ann");
  EXPECT_EQ(gateway->TakeNonce(), "");
}

TEST_F(RestingTest, AllThreadsAreBoundAgainByThePollThatAsksForThem) {
  GiveTo("t", "ann");
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  gateway->SubscribeAll("c", true, 1);
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("all 1 ok", "bind c t all", "all 1 ok"));
  gateway->Rest("c");
  GiveTo("u", "ann");
  gateway->Poll("c", "ann");
  EXPECT_THAT(gateway->Heard(), IsEmpty());
  gateway->SubscribeAll("c", true, 2);
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(),
              ElementsAre("all 2 ok", "bind c t all", "bind c u all", "all 2 ok"));
}

}  // namespace
}  // namespace clarion::delivery
