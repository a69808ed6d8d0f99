// Connections that poll, and rest between polls.
#include "service/delivery/resting_fixture.h"
#include "telemetry/metrics.h"

namespace clarion::delivery {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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
  ExpectNobodyFollows();
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

TEST_F(RestingTest, TheOpeningThatWasOvertakenIsRefused) {
  auto first = Attach("one");
  first->Poll("c", "ann", 1);
  first->Rest("c");
  first->Poll("c", "ann", 2);
  auto second = Attach("two");
  second->Poll("c", "ann", 9);
  EXPECT_THAT(first->Heard(), ElementsAre("no connection c NOT_FOUND of 2, overtaken"));
  first->Poll("c", "ann", 3);
  EXPECT_THAT(second->Heard(), ElementsAre("no connection c NOT_FOUND of 9, overtaken"));
  second->Open("c", "ann");
  EXPECT_THAT(second->Heard(), ElementsAre("no connection c NOT_FOUND"));
}

TEST_F(RestingTest, APollRepeatedElsewhereTakesTheConnectionFromTheOneThatHangs) {
  auto first = Attach("one");
  BeginPolling(*first);
  const auto watcher = Watch("ann");
  auto second = Attach("two");
  second->Poll("c", "ann");
  EXPECT_THAT(first->Heard(), ElementsAre("no connection c NOT_FOUND, overtaken"));
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
