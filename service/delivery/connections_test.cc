#include "service/delivery/delivery_fixture.h"

namespace clarion::delivery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string StateName(v1::ConnectionState state) {
  switch (state) {
    case v1::CONNECTION_STATE_CONNECTED:
      return "connected";
    case v1::CONNECTION_STATE_DISCONNECTED:
      return "disconnected";
    case v1::CONNECTION_STATE_ERROR:
      return "error";
    default:
      return "?";
  }
}

// `c connected t1 t2`.
std::string Text(const v1::Connection& connection) {
  std::string text = connection.connection_id() + " " + StateName(connection.state());
  for (const std::string& thread : connection.thread_ids()) text += " " + thread;
  return text;
}

class ConnectionsTest : public DeliveryTest {
 protected:
  std::vector<std::string> List(const std::string& user, const std::string& thread = "",
                                bool include_gone = false) {
    std::vector<std::string> texts;
    for (const auto& connection :
         delivery().GetConnections(UserId(user), ThreadId(thread), include_gone)) {
      texts.push_back(Text(connection));
    }
    return texts;
  }
};

TEST_F(ConnectionsTest, AreListedInOrderOfOpening) {
  auto gateway = Attach();
  gateway->Open("c2", "ann");
  gateway->Open("c1", "ann");
  gateway->Open("c3", "bob");
  EXPECT_THAT(List("ann"), ElementsAre("c2 connected", "c1 connected"));
  EXPECT_THAT(List(""), IsEmpty());
}

TEST_F(ConnectionsTest, OfAThreadAreThoseWithAConfirmedSubscription) {
  Append("t", "ann", {"one"});
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->Open("d", "ann");
  Subscribed(*gateway, "c", 1, "t");
  Subscribed(*gateway, "d", 2, "t");
  gateway->Confirm(2);
  EXPECT_THAT(List("", "t"), ElementsAre("d connected t"));
  EXPECT_THAT(List("ann", "t"), ElementsAre("d connected t"));
  EXPECT_EQ(delivery().Subscriptions(ThreadId("t")), 1u);
}

// More than are listed with it.
TEST_F(ConnectionsTest, OfAThreadHoweverManyItFollows) {
  auto gateway = Attach();
  gateway->Open("c", "ann");
  for (uint64_t i = 1; i <= 1100; ++i) {
    const std::string thread = absl::StrCat("t", i);
    Append(thread, "ann", {"one"});
    Subscribed(*gateway, "c", i, thread);
    gateway->Confirm(i);
  }
  const auto found = delivery().GetConnections(UserId(), ThreadId("t1100"), false);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found.front().thread_ids_size(), 1024);
}

TEST_F(ConnectionsTest, ClosedOnesAreRememberedForAWhileWithWhatTheyFollowed) {
  Append("t", "ann", {"one"});
  auto gateway = AttachSubscribed("ann", "t");
  gateway->Confirm(1);
  gateway->CloseConnection("c", v1::CONNECTION_STATE_ERROR);
  EXPECT_THAT(List("ann"), IsEmpty());
  EXPECT_THAT(List("ann", "", true), ElementsAre("c error t"));
  EXPECT_THAT(List("", "t", true), ElementsAre("c error t"));
  scheduler_.Advance(std::chrono::seconds(301));
  EXPECT_THAT(List("ann", "", true), IsEmpty());
}

TEST_F(ConnectionsTest, NoMoreAreRememberedThanAllowed) {
  options_.connection_memory_entries = 2;
  auto gateway = Attach();
  for (const char* id : {"a", "b", "c"}) {
    gateway->Open(id, "ann");
    gateway->CloseConnection(id);
  }
  EXPECT_THAT(List("ann", "", true), ElementsAre("b disconnected", "c disconnected"));
}

TEST_F(ConnectionsTest, OfABrokenAttachmentAreDisconnectedAtOnce) {
  Append("t", "ann", {"one"});
  auto gateway = AttachSubscribed("ann", "t");
  gateway->Confirm(1);
  gateway->Detach();
  EXPECT_THAT(List("ann", "", true), ElementsAre("c disconnected t"));
  EXPECT_EQ(delivery().Subscriptions(ThreadId("t")), 0u);
  EXPECT_THAT(delivery().Gateways(), IsEmpty());
  log_.RunAll();
  EXPECT_EQ(log_.followed(), 0u);
}

TEST_F(ConnectionsTest, AreRestoredUnderTheirIdByTheNextAttachment) {
  Append("t", "ann", {"one"});
  auto first = Attach();
  first->Open("c", "ann");
  Subscribed(*first, "c", 1, "t");
  first->Confirm(1);
  first->Detach();
  auto second = Attach();
  second->Open("c", "ann");
  second->SubscribeAfter("c", 1, "t", PositionOf("e1", 1), /*restored=*/true);
  log_.RunAll();
  EXPECT_THAT(List("ann", "", true), ElementsAre("c connected t"));
  EXPECT_EQ(delivery().Subscriptions(ThreadId("t")), 1u);
  Append("t", "ann", {"two"});
  EXPECT_THAT(second->Heard(), ElementsAre("started 1 last=e1:1 from=2", "live t e1:2 two"));
}

TEST_F(ConnectionsTest, TheNewestAttachmentOfAGatewayWinsAndTheOlderIsClosed) {
  Append("t", "ann", {"one"});
  auto first = Attach();
  first->Open("c", "ann");
  Subscribed(*first, "c", 1, "t");
  first->Heard();
  auto second = Attach();
  ASSERT_TRUE(first->carrier().closed().has_value());
  second->Open("c", "ann");
  second->SubscribeAfter("c", 1, "t", PositionOf("e1", 1), true);
  log_.RunAll();
  // What the older one still says, and its end, change nothing.
  first->CloseConnection("c");
  first->Detach();
  Append("t", "ann", {"two"});
  EXPECT_THAT(List("ann"), ElementsAre("c connected t"));
  EXPECT_THAT(first->Heard(), IsEmpty());
  EXPECT_THAT(second->Heard(), ElementsAre("started 1 last=e1:1 from=2", "live t e1:2 two"));
  ASSERT_EQ(delivery().Gateways().size(), 1u);
  EXPECT_EQ(delivery().Gateways()[0].connections, 1u);
}

TEST_F(ConnectionsTest, BeyondTheUsersLimitAreRefusedWithTheirSubscriptions) {
  options_.connections_per_user = 1;
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->Open("d", "ann");
  gateway->Subscribe("d", 1, "t");
  gateway->SubscribeAll("d");
  EXPECT_THAT(gateway->Heard(), ElementsAre("no connection d RATE_LIMITED",
                                            "refused 1 RATE_LIMITED", "all 7 RATE_LIMITED"));
  EXPECT_THAT(List("ann"), ElementsAre("c connected"));
  gateway->CloseConnection("c");
  gateway->Open("e", "ann");
  EXPECT_THAT(List("ann"), ElementsAre("e connected"));
}

TEST_F(ConnectionsTest, OfCanariesAreNeverSeen) {
  auto gateway = Attach();
  gateway->Open("c", "_clarion");
  GiveTo("_clarion-t", "_clarion");
  Subscribed(*gateway, "c", 1, "_clarion-t");
  gateway->Confirm(1);
  EXPECT_THAT(List("_clarion"), IsEmpty());
  EXPECT_THAT(List("", "_clarion-t", true), IsEmpty());
  EXPECT_EQ(delivery().Subscriptions(ThreadId("_clarion-t")), 0u);
  EXPECT_EQ(delivery().Gateways()[0].connections, 0u);
}

class ReadinessTest : public DeliveryTest {
 protected:
  std::unique_ptr<Cancellation> Await(std::chrono::seconds timeout = std::chrono::seconds(10)) {
    return delivery().AwaitReady(UserId("ann"), ThreadId("t"), v1::READINESS_SUBSCRIBED, timeout,
                                 [this](absl::StatusOr<ReadyState> state) {
                                   ++answers_;
                                   status_ = state.status();
                                   if (state.ok()) state_ = *std::move(state);
                                 });
  }
  int answers_ = 0;
  absl::Status status_;
  ReadyState state_;
};

TEST_F(ReadinessTest, ComesWithTheConfirmationNotBefore) {
  GiveTo("t", "ann");
  auto gateway = Attach();
  auto waiting = Await();
  gateway->Open("c", "ann");
  Subscribed(*gateway, "c", 1, "t");
  EXPECT_EQ(answers_, 0);
  gateway->Confirm(1);
  EXPECT_EQ(answers_, 1);
  EXPECT_EQ(state_.readiness, v1::READINESS_SUBSCRIBED);
  EXPECT_EQ(state_.subscriptions, 1u);
  ASSERT_EQ(state_.steps.size(), 3u);  // nothing, a connection, a subscription
  EXPECT_EQ(state_.steps[1].connections(), 1u);
  EXPECT_EQ(state_.steps[2].readiness(), v1::READINESS_SUBSCRIBED);
}

TEST_F(ReadinessTest, IsAnsweredInsideTheCallWhenItIsThere) {
  GiveTo("t", "ann");
  auto gateway = AttachSubscribed("ann", "t");
  gateway->Confirm(1);
  auto waiting = Await();
  EXPECT_EQ(answers_, 1);
}

TEST_F(ReadinessTest, TimesOutWithNone) {
  auto waiting = Await(std::chrono::seconds(3));
  scheduler_.Advance(std::chrono::seconds(2));
  EXPECT_EQ(answers_, 0);
  scheduler_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(answers_, 1);
  EXPECT_EQ(state_.readiness, v1::READINESS_NONE);
}

TEST_F(ReadinessTest, AConfirmedClaimIsNoReadiness) {
  auto gateway = AttachSubscribed("ann", "t");
  auto waiting = Await();
  gateway->Confirm(1);
  EXPECT_EQ(answers_, 0);
  GiveTo("t", "ann");
  EXPECT_EQ(answers_, 0);
  gateway->Confirm(1);
  EXPECT_EQ(answers_, 1);
}

TEST_F(ReadinessTest, OfSomebodyElsesThreadNeverComes) {
  GiveTo("t", "bob");
  auto gateway = AttachSubscribed("bob", "t");
  gateway->Confirm(1);
  auto waiting = Await();
  EXPECT_EQ(answers_, 0);
}

TEST_F(ReadinessTest, CancelledIsNeverAnswered) {
  auto waiting = Await();
  waiting.reset();
  scheduler_.Advance(std::chrono::seconds(20));
  delivery().Stop();
  EXPECT_EQ(answers_, 0);
}

TEST_F(ReadinessTest, AnsweredOrCancelledTheCallbackIsLetGo) {
  const auto held = std::make_shared<int>();
  auto answered =
      delivery().AwaitReady(UserId("ann"), ThreadId("t"), v1::READINESS_SUBSCRIBED,
                            std::chrono::seconds(1), [held](const absl::StatusOr<ReadyState>&) {});
  auto cancelled =
      delivery().AwaitReady(UserId("ann"), ThreadId("t"), v1::READINESS_SUBSCRIBED,
                            std::chrono::seconds(9), [held](const absl::StatusOr<ReadyState>&) {});
  scheduler_.Advance(std::chrono::seconds(1));
  cancelled.reset();
  EXPECT_EQ(held.use_count(), 1);
}

TEST_F(ReadinessTest, StoppingTellsThoseWhoWaitAndThoseWhoComeTooLate) {
  auto waiting = Await();
  delivery().Stop();
  EXPECT_EQ(answers_, 1);
  EXPECT_EQ(ReasonOf(status_), Reason::kNotInitialized);
  status_ = absl::OkStatus();
  auto late = Await();
  EXPECT_EQ(answers_, 2);
  EXPECT_EQ(ReasonOf(status_), Reason::kNotInitialized);
}

TEST_F(ReadinessTest, StepsAreBounded) {
  auto gateway = Attach();
  auto waiting = Await();
  for (int i = 0; i < 200; ++i) gateway->Open(absl::StrCat("c", i), "ann");
  scheduler_.Advance(std::chrono::seconds(10));
  ASSERT_EQ(state_.steps.size(), 64u);
  EXPECT_EQ(state_.steps.back().connections(), 200u);
}

class BindTest : public DeliveryTest {
 public:
  // A bind that is still open is answered now, while there is somebody to hear it.
  ~BindTest() override { delivery().Stop(); }

 protected:
  void Bind(std::chrono::seconds timeout = std::chrono::seconds(5)) {
    delivery().BindThread(UserId("ann"), ThreadId("t"), timeout,
                          [this](std::vector<v1::BoundConnection> bound) {
                            done_ = true;
                            for (const auto& part : bound) {
                              outcomes_.push_back(part.connection_id() + " " +
                                                  v1::BindOutcome_Name(part.outcome()).substr(13));
                            }
                          });
  }
  // The ids of the Binds that came.
  std::vector<uint64_t> Asked(TestGateway& gateway) {
    std::vector<uint64_t> ids;
    for (const auto& said : gateway.carrier().TakeAll()) {
      const auto* message = std::get_if<v1::ServiceMessage>(&said);
      if (message != nullptr && message->has_bind()) ids.push_back(message->bind().bind_id());
    }
    return ids;
  }
  bool done_ = false;
  std::vector<std::string> outcomes_;
};

TEST_F(BindTest, WithoutConnectionsIsDoneAtOnce) {
  Bind();
  EXPECT_TRUE(done_);
  EXPECT_THAT(outcomes_, IsEmpty());
}

TEST_F(BindTest, AnswersWhenEveryConnectionHas) {
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->Open("d", "ann");
  gateway->Open("e", "bob");
  Bind();
  const auto ids = Asked(*gateway);
  ASSERT_EQ(ids.size(), 2u);
  gateway->BindResult(ids[1], v1::BIND_OUTCOME_LIMIT);
  EXPECT_FALSE(done_);
  gateway->BindResult(ids[0], v1::BIND_OUTCOME_CONFIRMED);
  EXPECT_THAT(outcomes_, ElementsAre("c CONFIRMED", "d LIMIT"));
}

TEST_F(BindTest, ClosedConnectionsAndBrokenAttachmentsAreGone) {
  auto a = Attach("a");
  auto b = Attach("b");
  a->Open("c", "ann");
  b->Open("d", "ann");
  Bind();
  a->CloseConnection("c");
  b->Detach();
  EXPECT_THAT(outcomes_, ElementsAre("c GONE", "d GONE"));
}

TEST_F(BindTest, WhoDoesNotAnswerInTimeIsUnspecified) {
  auto gateway = Attach();
  gateway->Open("c", "ann");
  Bind(std::chrono::seconds(5));
  const auto ids = Asked(*gateway);
  scheduler_.Advance(std::chrono::seconds(5));
  EXPECT_THAT(outcomes_, ElementsAre("c UNSPECIFIED"));
  gateway->BindResult(ids[0], v1::BIND_OUTCOME_CONFIRMED);  // too late: no effect
  gateway->CloseConnection("c");
}

TEST_F(BindTest, AConnectionThatFollowsAlreadyIsNotAsked) {
  GiveTo("t", "ann");
  auto gateway = AttachSubscribed("ann", "t");
  gateway->Confirm(1);
  gateway->Heard();
  Bind();
  EXPECT_THAT(outcomes_, ElementsAre("c CONFIRMED"));
  EXPECT_THAT(gateway->Heard(), IsEmpty());
}

TEST_F(BindTest, AnotherGatewaysAnswerDoesNotCount) {
  auto a = Attach("a");
  auto b = Attach("b");
  a->Open("c", "ann");
  Bind();
  b->BindResult(Asked(*a)[0], v1::BIND_OUTCOME_CONFIRMED);
  EXPECT_FALSE(done_);
}

class Recorder : public ConnectionWatcher {
 public:
  void OnChange(const v1::Connection& connection, bool snapshot) override {
    changes.push_back((snapshot ? "= " : "") + Text(connection));
    if (inside) std::exchange(inside, nullptr)();
  }
  void OnEnded(const absl::Status& status) override {
    changes.push_back("ended " + std::string(NameOf(*ReasonOf(status))));
  }
  std::vector<std::string> changes;
  std::function<void()> inside;
};

class WatchTest : public DeliveryTest {
 protected:
  std::unique_ptr<Cancellation> Watch(const std::string& user, const std::string& thread = "") {
    return delivery().WatchConnections(UserId(user), ThreadId(thread), recorder_);
  }
  std::shared_ptr<Recorder> recorder_ = std::make_shared<Recorder>();
};

TEST_F(WatchTest, ShowsAPictureAndThenEveryChangeOnce) {
  GiveTo("t", "ann");
  auto gateway = Attach();
  gateway->Open("c", "ann");
  auto watch = Watch("ann");
  gateway->Open("d", "ann");
  gateway->Open("e", "bob");
  Subscribed(*gateway, "d", 1, "t");
  gateway->Confirm(1);
  gateway->Unsubscribe(1);
  gateway->CloseConnection("c");
  gateway->Detach();
  EXPECT_THAT(recorder_->changes, ElementsAre("= c connected", "d connected", "d connected t",
                                              "d connected", "c disconnected", "d disconnected"));
}

TEST_F(WatchTest, OfAThreadShowsThoseThatFollowItAndThatTheyLeave) {
  GiveTo("t", "ann");
  auto gateway = Attach();
  gateway->Open("c", "ann");
  auto watch = Watch("", "t");
  Subscribed(*gateway, "c", 1, "t");
  gateway->Confirm(1);
  gateway->Unsubscribe(1);
  gateway->CloseConnection("c");
  EXPECT_THAT(recorder_->changes, ElementsAre("c connected t", "c connected"));
}

TEST_F(WatchTest, AChangeMadeInsideACallComesAfterIt) {
  auto gateway = Attach();
  auto watch = Watch("ann");
  recorder_->inside = [&] {
    gateway->Open("d", "ann");
    EXPECT_EQ(recorder_->changes.size(), 1u);
  };
  gateway->Open("c", "ann");
  EXPECT_THAT(recorder_->changes, ElementsAre("c connected", "d connected"));
}

TEST_F(WatchTest, ATooSlowWatcherIsEndedAfterWhatItCouldHold) {
  options_.watch_queue = 2;
  auto gateway = Attach();
  auto watch = Watch("ann");
  recorder_->inside = [&] {
    for (const char* id : {"d", "e", "f", "g"}) gateway->Open(id, "ann");
  };
  gateway->Open("c", "ann");
  EXPECT_THAT(recorder_->changes,
              ElementsAre("c connected", "d connected", "e connected", "ended BUFFER_OVERFLOW"));
}

TEST_F(WatchTest, CancelledInsideItsCallHearsNothingMore) {
  auto gateway = Attach();
  auto watch = Watch("ann");
  recorder_->inside = [&] { watch.reset(); };
  gateway->Open("c", "ann");
  gateway->Open("d", "ann");
  EXPECT_THAT(recorder_->changes, ElementsAre("c connected"));
}

TEST_F(WatchTest, EndsWhenTheServiceStops) {
  auto watch = Watch("ann");
  delivery().Stop();
  EXPECT_THAT(recorder_->changes, ElementsAre("ended NOT_INITIALIZED"));
}

class CanaryTest : public DeliveryTest {};

TEST_F(CanaryTest, ReportsComeBackUntilTheCheckExpires) {
  auto gateway = Attach();
  v1::OpenCanary canary;
  canary.set_check_id("k");
  canary.mutable_life()->set_seconds(5);
  int reports = 0;
  EXPECT_TRUE(delivery().OpenCanary(GatewayId("g"), canary, [&](v1::CanaryReport) { ++reports; }));
  EXPECT_THAT(gateway->Heard(), ElementsAre("canary k"));
  v1::GatewayMessage report;
  report.mutable_canary_report()->set_check_id("k");
  gateway->Say(report);
  EXPECT_EQ(reports, 1);
  scheduler_.Advance(std::chrono::seconds(4));
  gateway->Say(report);
  EXPECT_EQ(reports, 2);
  scheduler_.Advance(std::chrono::seconds(1));
  gateway->Say(report);
  EXPECT_EQ(reports, 2);
}

TEST_F(CanaryTest, NeedsTheGateway) {
  EXPECT_FALSE(delivery().OpenCanary(GatewayId("g"), {}, [](v1::CanaryReport) {}));
}

TEST_F(DeliveryTest, StoppedItClosesAttachmentsAndRefusesNewOnes) {
  auto gateway = Attach();
  delivery().Stop();
  EXPECT_TRUE(gateway->carrier().closed().has_value());
  TestGateway late(delivery(), "late");
  EXPECT_TRUE(late.carrier().closed().has_value());
}

}  // namespace
}  // namespace clarion::delivery
