// Connections that poll, and rest between polls.
#include "service/delivery/delivery_fixture.h"
#include "telemetry/metrics.h"

namespace clarion::delivery {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Watcher final : public ConnectionWatcher {
 public:
  void OnChange(const v1::Connection& connection, bool snapshot) override {
    std::string text = connection.connection_id();
    text += connection.state() == v1::CONNECTION_STATE_CONNECTED ? " connected" : " gone";
    if (!connection.reason().empty()) text += " (" + connection.reason() + ")";
    for (const std::string& thread : connection.thread_ids()) text += " " + thread;
    changes.push_back(snapshot ? "first " + text : text);
  }
  std::vector<std::string> changes;
};

class RestingTest : public DeliveryTest {
 protected:
  // `c` of ann's polls `t`, which holds one event, and is told so.
  void BeginPolling(TestGateway& gateway) {
    Append("t", "ann", {"one"});
    gateway.Poll("c", "ann");
    Subscribed(gateway, "c", 1, "t");
    gateway.Confirm(1);
    gateway.Heard();
  }
  uint32_t Followers(const std::string& thread = "t") {
    return delivery().Subscriptions(ThreadId(thread));
  }
  std::vector<std::string> Connected(const std::string& user, const std::string& thread = "") {
    std::vector<std::string> ids;
    for (const auto& connection :
         delivery().GetConnections(UserId(user), ThreadId(thread), false)) {
      ids.push_back(connection.connection_id());
    }
    return ids;
  }
  std::shared_ptr<Watcher> Watch(const std::string& user, const std::string& thread = "") {
    auto watcher = std::make_shared<Watcher>();
    watches_.push_back(delivery().WatchConnections(UserId(user), ThreadId(thread), watcher));
    watcher->changes.clear();
    return watcher;
  }
  v1::Readiness Ready(const std::string& thread = "t") {
    v1::Readiness readiness = v1::READINESS_UNSPECIFIED;
    const auto wait = delivery().AwaitReady(
        UserId("ann"), ThreadId(thread), v1::READINESS_SUBSCRIBED, seconds(0),
        [&](absl::StatusOr<ReadyState> state) { readiness = state->readiness; });
    return readiness;
  }
  void Delete(const std::string& thread, const std::string& user) {
    log_.Delete(ThreadId(thread), UserId(user), [](const auto&) {});
    log_.RunAll();
  }

  std::vector<std::unique_ptr<Cancellation>> watches_;
};

// ---- While it rests ----

TEST_F(RestingTest, CountsAsConnectedAndFollowing) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  EXPECT_THAT(Connected("ann"), ElementsAre("c"));
  EXPECT_THAT(Connected("", "t"), ElementsAre("c"));
  EXPECT_EQ(Followers(), 1u);
  EXPECT_EQ(Ready(), v1::READINESS_SUBSCRIBED);
  EXPECT_EQ(delivery().Gateways()[0].connections, 0u);
}

TEST_F(RestingTest, CountsAgainstTheUsersConnections) {
  options_.connections_per_user = 1;
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  gateway->Poll("d", "ann");
  EXPECT_THAT(gateway->Heard(), ElementsAre("no connection d RATE_LIMITED"));
  gateway->Poll("c", "ann");
  EXPECT_THAT(gateway->Heard(), IsEmpty());
}

TEST_F(RestingTest, CostsNoGatewayTheFeed) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  Append("t", "ann", {"two"});
  EXPECT_THAT(gateway->Heard(), IsEmpty());
}

TEST_F(RestingTest, LeavesTheFeedToOthersOfTheSameGateway) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Open("d", "ann");
  Subscribed(*gateway, "d", 2, "t");
  gateway->Heard();
  gateway->Rest("c");
  Append("t", "ann", {"two"});
  EXPECT_THAT(gateway->Heard(), ElementsAre("live t e1:2 two"));
}

TEST_F(RestingTest, WatchersHearNothingOfPollsThatEndAndBeginAgain) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  const auto of_user = Watch("ann");
  const auto of_thread = Watch("", "t");
  for (uint64_t poll = 2; poll <= 4; ++poll) {
    gateway->Rest("c");
    scheduler_.Advance(seconds(5));
    gateway->Poll("c", "ann");
    gateway->SubscribeAfter("c", poll, "t", PositionOf("e1", 1));
    log_.RunAll();
    gateway->Confirm(poll);
  }
  EXPECT_THAT(of_user->changes, IsEmpty());
  EXPECT_THAT(of_thread->changes, IsEmpty());
}

TEST_F(RestingTest, WaitersForReadinessSeeNoStepOfPollsThatEndAndBeginAgain) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  ReadyState state;
  const auto wait =
      delivery().AwaitReady(UserId("ann"), ThreadId("t"), v1::READINESS_VERIFIED, seconds(60),
                            [&](absl::StatusOr<ReadyState> reached) { state = *reached; });
  gateway->Rest("c");
  gateway->Poll("c", "ann");
  gateway->SubscribeAfter("c", 2, "t", PositionOf("e1", 1));
  log_.RunAll();
  gateway->Confirm(2);
  gateway->Rest("c", 100);
  scheduler_.Advance(seconds(60));
  EXPECT_EQ(state.readiness, v1::READINESS_SUBSCRIBED);
  EXPECT_EQ(state.steps.size(), 1u);
}

TEST_F(RestingTest, OutlivesTheAttachmentThatHeldIt) {
  auto first = Attach("one");
  BeginPolling(*first);
  const auto watcher = Watch("ann");
  first->Rest("c");
  first->Detach();
  auto second = Attach("two");
  second->Poll("c", "ann");
  second->SubscribeAfter("c", 1, "t", PositionOf("e1", 1));
  log_.RunAll();
  second->Confirm(1);
  EXPECT_THAT(second->Heard(), ElementsAre("started 1 last=e1:1 from=2"));
  EXPECT_EQ(Followers(), 1u);
  EXPECT_THAT(watcher->changes, IsEmpty());
  EXPECT_EQ(delivery().Gateways()[0].connections, 1u);
  Append("t", "ann", {"two"});
  EXPECT_THAT(second->Heard(), ElementsAre("live t e1:2 two"));
}

TEST_F(RestingTest, RestsByItselfWhenTheAttachmentOfAPollIsLost) {
  auto first = Attach("one");
  BeginPolling(*first);
  first->Rest("c", 20);
  first->Poll("c", "ann");
  const auto watcher = Watch("ann");
  first->Detach();
  EXPECT_THAT(Connected("ann", "t"), ElementsAre("c"));
  scheduler_.Advance(seconds(20));
  EXPECT_THAT(watcher->changes, ElementsAre("c gone (lease expired) t"));
}

TEST_F(RestingTest, IsGoneWithItsAttachmentWhileNobodySaidForHowLongItRests) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Detach();
  EXPECT_THAT(Connected("ann"), IsEmpty());
}

TEST_F(RestingTest, IsGoneWhenItsLeaseIsOver) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  const auto watcher = Watch("ann");
  gateway->Rest("c", 30);
  scheduler_.Advance(seconds(29));
  EXPECT_THAT(watcher->changes, IsEmpty());
  scheduler_.Advance(seconds(1));
  EXPECT_THAT(watcher->changes, ElementsAre("c gone (lease expired) t"));
  EXPECT_EQ(Followers(), 0u);
  log_.RunAll();
  EXPECT_EQ(log_.followed(), 0u);
}

TEST_F(RestingTest, EachRestHasALeaseOfItsOwn) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c", 30);
  scheduler_.Advance(seconds(20));
  gateway->Poll("c", "ann");
  scheduler_.Advance(seconds(60));
  EXPECT_THAT(Connected("ann"), ElementsAre("c")) << "it does not rest";
  gateway->Rest("c", 30);
  scheduler_.Advance(seconds(29));
  EXPECT_THAT(Connected("ann"), ElementsAre("c"));
}

TEST_F(RestingTest, RestsFiveMinutesAtMost) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c", INT64_MAX);
  scheduler_.Advance(seconds(299));
  EXPECT_THAT(Connected("ann"), ElementsAre("c"));
  scheduler_.Advance(seconds(1));
  EXPECT_THAT(Connected("ann"), IsEmpty());
}

TEST_F(RestingTest, OnlyWhatPollsRests) {
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->Rest("c", 30);
  gateway->Poll("d", "ann");
  gateway->Rest("d", 0);
  gateway->Poll("e", "ann");
  gateway->Rest("e", -5);
  EXPECT_THAT(Connected("ann"), IsEmpty());
}

TEST_F(RestingTest, BeyondTheBoundItIsClosedAndThatIsCountedAndLogged) {
  options_.resting_connections = 1;
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  gateway->Poll("d", "bob");
  gateway->Rest("c");
  const Counter& refused = GetCounter("clarion_resting_refused_total", "");
  const uint64_t before = refused.value();
  testing::internal::CaptureStderr();
  gateway->Rest("d");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("--max-resting-connections"));
  EXPECT_EQ(refused.value(), before + 1);
  EXPECT_THAT(Connected("ann"), ElementsAre("c"));
  EXPECT_THAT(Connected("bob"), IsEmpty());
  gateway->Poll("c", "ann");
  gateway->Poll("d", "bob");
  gateway->Rest("d");
  EXPECT_THAT(Connected("bob"), ElementsAre("d")) << "there is room again";
}

TEST_F(RestingTest, IsCountedInAGauge) {
  const Gauge& resting = GetGauge("clarion_resting_connections", "");
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  gateway->Poll("d", "ann");
  gateway->Rest("c", 10);
  gateway->Rest("d", 20);
  EXPECT_EQ(resting.value(), 2);
  gateway->Poll("d", "ann");
  EXPECT_EQ(resting.value(), 1);
  scheduler_.Advance(seconds(10));
  EXPECT_EQ(resting.value(), 0);
}

TEST_F(RestingTest, TheServiceMayStopMeanwhile) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c");
  delivery().Stop();
  log_.RunAll();
  EXPECT_EQ(log_.followed(), 0u);
}

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
  EXPECT_EQ(Followers(), 0u);
  log_.RunAll();
  EXPECT_EQ(log_.followed(), 0u);
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
  EXPECT_THAT(gateway->Heard(), ElementsAre("started 2 last=e1:2 from=1"));
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
  EXPECT_EQ(Followers(), 0u);
  log_.RunAll();
  EXPECT_EQ(log_.followed(), 0u);
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
  EXPECT_THAT(gateway->Heard(), ElementsAre("all 1 ok", "bind c t all"));
  gateway->Rest("c");
  GiveTo("u", "ann");
  gateway->Poll("c", "ann");
  EXPECT_THAT(gateway->Heard(), IsEmpty());
  gateway->SubscribeAll("c", true, 2);
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("all 2 ok", "bind c t all", "bind c u all"));
}

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

// ---- Who may open it ----

TEST_F(RestingTest, NobodyElseOpensWhatRests) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  const auto watcher = Watch("ann");
  gateway->Rest("c", 30);
  gateway->Poll("c", "bob");
  gateway->Subscribe("c", 2, "t");
  gateway->CloseConnection("c");
  gateway->Open("c", "ann");  // it polls
  EXPECT_THAT(gateway->Heard(), ElementsAre("no connection c NOT_FOUND", "refused 2 NOT_FOUND",
                                            "no connection c NOT_FOUND"));
  EXPECT_THAT(watcher->changes, IsEmpty());
  EXPECT_EQ(Followers(), 1u);
}

TEST_F(RestingTest, NobodysOpeningClosesAnotherUsersConnection) {
  Append("t", "ann", {"one"});
  auto gateway = AttachSubscribed("ann", "t");
  gateway->Confirm(1);
  gateway->Poll("p", "ann");
  const auto watcher = Watch("ann");
  auto other = Attach("other");
  other->Open("c", "bob");
  other->Poll("c", "bob");
  other->Open("p", "bob");
  other->Poll("p", "bob");
  EXPECT_THAT(other->Heard(),
              ElementsAre("no connection c NOT_FOUND", "no connection c NOT_FOUND",
                          "no connection p NOT_FOUND", "no connection p NOT_FOUND"));
  other->CloseConnection("c");
  other->Detach();
  EXPECT_THAT(watcher->changes, IsEmpty());
  EXPECT_EQ(Followers(), 1u);
}

TEST_F(RestingTest, APollRepeatedElsewhereTakesTheConnectionFromTheOneThatHangs) {
  auto first = Attach("one");
  BeginPolling(*first);
  const auto watcher = Watch("ann");
  auto second = Attach("two");
  second->Poll("c", "ann");
  EXPECT_THAT(first->Heard(), ElementsAre("no connection c NOT_FOUND"));
  EXPECT_EQ(Followers(), 1u);
  second->SubscribeAfter("c", 1, "t", PositionOf("e1", 1));
  log_.RunAll();
  // What the first still says changes nothing.
  first->Subscribe("c", 2, "t");
  first->Rest("c");
  first->Detach();
  Append("t", "ann", {"two"});
  EXPECT_THAT(first->Heard(), ElementsAre("refused 2 NOT_FOUND"));
  EXPECT_THAT(second->Heard(), ElementsAre("started 1 last=e1:1 from=2", "live t e1:2 two"));
  EXPECT_THAT(watcher->changes, IsEmpty());
  EXPECT_EQ(Followers(), 1u);
}

TEST_F(RestingTest, SaidTwiceByOneGatewayIsOneOpening) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Poll("c", "ann");
  Append("t", "ann", {"two"});
  EXPECT_THAT(gateway->Heard(), ElementsAre("live t e1:2 two"));
}

TEST_F(RestingTest, AGatewayThatAttachesAnewRestoresAPoll) {
  auto first = Attach();
  BeginPolling(*first);
  first->Rest("c");
  first->Poll("c", "ann");
  first->SubscribeAfter("c", 2, "t", PositionOf("e1", 1));
  log_.RunAll();
  const auto watcher = Watch("ann");
  auto second = Attach();  // of the same id
  second->Poll("c", "ann");
  second->SubscribeAfter("c", 2, "t", PositionOf("e1", 1), /*restored=*/true);
  log_.RunAll();
  EXPECT_THAT(second->Heard(), ElementsAre("started 2 last=e1:1 from=2"));
  EXPECT_THAT(watcher->changes, IsEmpty());
  EXPECT_EQ(Followers(), 1u);
}

TEST_F(RestingTest, AfterItsLeaseItBeginsAnew) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  gateway->Rest("c", 30);
  scheduler_.Advance(seconds(30));
  const auto watcher = Watch("ann");
  gateway->Poll("c", "ann");
  gateway->SubscribeAfter("c", 2, "t", PositionOf("e1", 1));
  log_.RunAll();
  EXPECT_EQ(Followers(), 0u) << "not confirmed";
  gateway->Confirm(2);
  EXPECT_THAT(watcher->changes, ElementsAre("c connected", "c connected t"));
}

// ---- Frames passed to it ----

TEST_F(RestingTest, FramesPassedToItAreNotFound) {
  auto gateway = Attach();
  BeginPolling(*gateway);
  v1::AskRequest request;
  request.mutable_pass_frames()->set_connection_id("c");
  request.mutable_pass_frames()->set_user_id("ann");
  request.mutable_pass_frames()->set_sequence(1);
  std::vector<std::optional<Reason>> reasons;
  const auto pass = [&] {
    delivery().Ask(request, [&](const absl::StatusOr<v1::AskResponse>& answer) {
      reasons.push_back(ReasonOf(answer.status()));
    });
  };
  pass();
  EXPECT_THAT(reasons, IsEmpty());
  gateway->Rest("c");
  EXPECT_THAT(reasons, ElementsAre(Reason::kGatewayUnavailable));
  pass();
  EXPECT_THAT(reasons, ElementsAre(Reason::kGatewayUnavailable, Reason::kNotFound));
  gateway->Poll("c", "ann");
  pass();
  EXPECT_EQ(reasons.size(), 2u);
  gateway->CloseConnection("c");
  EXPECT_EQ(reasons.size(), 3u);
}

}  // namespace
}  // namespace clarion::delivery
