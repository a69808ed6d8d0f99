// What the hub and the service say to each other: attaching, binding, canaries. What comes after a
// lost link has a test of its own (hub_restore_test.cc).
#include <chrono>
#include <string>

#include "gateway/hub/hub_fixture.h"
#include "proto/contract/error.h"

namespace clarion::gateway {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

using HubLinkTest = HubTest;

TEST_F(HubLinkTest, SaysHelloAndWhoIsConnectedWhenTheLinkComesUp) {
  Begin();
  Open(&page_);
  Rest();
  ASSERT_EQ(heard_.size(), 2u);
  EXPECT_EQ(heard_[0].hello().gateway_id(), "g");
  EXPECT_EQ(heard_[0].hello().instance(), "this start");
  EXPECT_EQ(heard_[1].connection_opened().connection_id(), "c");
}

TEST_F(HubLinkTest, SaysInTheLogWhenTheLinkIsUpAndWhyItIsDown) {
  testing::internal::CaptureStderr();
  Begin();
  link_.Down();
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, testing::HasSubstr("the link to the service is up gateway_id=g"));
  EXPECT_THAT(log, testing::HasSubstr("the link to the service is down gateway_id=g cause=down"));
}

TEST_F(HubLinkTest, IsAttachedOnceTheServiceHasTakenItNotWhenItIsReached) {
  Begin();
  EXPECT_FALSE(hub_->attached().ok());
  v1::ServiceMessage welcome;
  welcome.mutable_welcome()->set_version(1);
  Tell(welcome);
  Rest();
  EXPECT_TRUE(hub_->attached().ok());
  link_.Down(MakeError(Reason::kGatewayDisplaced, "by another"));
  link_.Up();
  Rest();
  EXPECT_EQ(ReasonOf(hub_->attached()), Reason::kGatewayDisplaced);
}

TEST_F(HubLinkTest, PagesStayWhenTheLinkBreaksAndAreSentAwayWhenAnotherGatewayTakesOver) {
  BeginFollowing("t", 1);
  link_.Down();
  EXPECT_EQ(page_.closed, CloseCode::kNormal);
  link_.Up();
  link_.Down(MakeError(Reason::kGatewayDisplaced, "by another"));
  EXPECT_EQ(page_.closed, CloseCode::kUnavailable);
}

TEST_F(HubLinkTest, ASubscribeWaitsForTheLink) {
  Begin();
  link_.Append("t");
  link_.Down();
  Open(&page_);
  Subscribe("t");
  EXPECT_THAT(page_.Lines(), IsEmpty());
  link_.Up();
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("subscribed t e1 1..1 #1", "event 1 v1", "caught_up t 1"));
}

TEST_F(HubLinkTest, ASubscribeThatWaitedTooLongFails) {
  Begin({.subscribe_timeout = milliseconds(1'000)});
  link_.Down();
  Open(&page_);
  Subscribe("t");
  timers_.Advance(milliseconds(499));
  EXPECT_THAT(page_.Lines(), IsEmpty());
  timers_.Advance(milliseconds(501));
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error GATEWAY_UNAVAILABLE t #1"));
  link_.Up();
  Rest();
  EXPECT_THAT(Heard(v1::GatewayMessage::kSubscribe), IsEmpty());
}

TEST_F(HubLinkTest, BindTellsThePageAndAnswersWhenItsSubscriptionIsConfirmed) {
  Begin();
  link_.Append("t");
  Open(&page_);
  Bind(7, "t");
  EXPECT_THAT(page_.Lines(),
              ElementsAre("bound t", "subscribed t e1 1..1", "event 1 v1", "caught_up t 1"));
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_CONFIRMED));
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe)[0].subscribe().from(), v1::START_FROM_UNFINISHED);
  Bind(8, "t");
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_CONFIRMED, v1::BIND_OUTCOME_CONFIRMED));
}

TEST_F(HubLinkTest, BindSaysGoneAndLimit) {
  Begin({.subscriptions_per_connection = 1});
  Open(&page_);
  Bind(1, "t", false, "nobody");
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_GONE));
  Subscribe("a");
  Rest();
  Bind(2, "t");
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_GONE, v1::BIND_OUTCOME_LIMIT));
}

TEST_F(HubLinkTest, AConnectionThatClosesBeforeItsBindIsConfirmedIsGone) {
  Begin();
  Open(&page_);
  swallow_ = true;
  Bind(1, "t");
  hub_->Close(&page_, v1::CONNECTION_STATE_DISCONNECTED, "normal");
  link_.ServiceTakes();
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_GONE));
  EXPECT_EQ(heard_.back().connection_closed().reason(), "normal");
}

// BindThread waits for every answer: none may be lost, however the subscription ends.
TEST_F(HubLinkTest, ABindWhoseSubscriptionEndsBeforeItIsConfirmedIsGone) {
  Begin({.subscribe_timeout = milliseconds(1'000)});
  Open(&page_);
  swallow_ = true;
  v1::Unsubscribe unsubscribe;
  Bind(1, "t");
  unsubscribe.set_thread_id("t");
  hub_->Unsubscribe(&page_, unsubscribe, "");
  Rest();
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_GONE)) << "unsubscribed";

  v1::Subscribe all;
  all.set_all(true);
  hub_->Subscribe(&page_, all, "");
  Bind(2, "t", /*all=*/true);
  unsubscribe.clear_thread_id();
  unsubscribe.set_all(true);
  hub_->Unsubscribe(&page_, unsubscribe, "");
  Rest();
  EXPECT_EQ(BindOutcomes().size(), 2u) << "unsubscribed from all";
  EXPECT_EQ(BindOutcomes().back(), v1::BIND_OUTCOME_GONE);

  Bind(3, "t");
  timers_.Advance(milliseconds(2'000));
  Rest();
  EXPECT_EQ(BindOutcomes().size(), 3u) << "nobody answered in time";
  EXPECT_EQ(BindOutcomes().back(), v1::BIND_OUTCOME_GONE);
}

TEST_F(HubLinkTest, ABindThatIsRefusedIsAnsweredOnce) {
  Begin();
  Open(&page_);
  swallow_ = true;
  Bind(1, "t");
  v1::ServiceMessage refused;
  refused.mutable_refused()->set_subscription_id(SubscriptionId());
  refused.mutable_refused()->set_reason("RATE_LIMITED");
  Tell(refused);
  Rest();
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_LIMIT));
}

TEST_F(HubLinkTest, PassesCanariesOnAndTheirReportsBack) {
  Begin();
  v1::ServiceMessage message;
  message.mutable_open_canary()->set_check_id("check");
  Tell(message);
  Rest();
  ASSERT_EQ(canaries_.size(), 1u);
  EXPECT_EQ(canaries_[0].check_id(), "check");
  v1::CanaryReport report;
  report.set_check_id("check");
  hub_->Report(report);
  Rest();
  EXPECT_EQ(Heard(v1::GatewayMessage::kCanaryReport)[0].canary_report().check_id(), "check");
}

// The service must never go on with a thread that nobody here follows: its Lagging would be lost.
TEST_F(HubLinkTest, LeavesNoSubscriptionBehindHoweverAPageAsksAndLeaves) {
  Begin({.subscribe_timeout = milliseconds(1'000)});
  link_.Append("t", 2);
  Open(&page_);
  v1::Unsubscribe unsubscribe;
  unsubscribe.set_thread_id("t");
  Subscribe("t");
  Rest();
  Subscribe("t", "2");  // in place: a question
  hub_->Unsubscribe(&page_, unsubscribe, "");
  link_.ServiceTakes();
  EXPECT_TRUE(link_.threads["t"].running.empty());
  Subscribe("t", "3");
  Rest();
  Subscribe("t", "4", After("e1", 1));  // elsewhere: takes the place of the first
  hub_->Unsubscribe(&page_, unsubscribe, "");
  link_.ServiceTakes();
  EXPECT_TRUE(link_.threads["t"].running.empty());
  Rest();
  Subscribe("t", "5");
  Rest();
  Subscribe("t", "6", After("e1", 1));  // elsewhere, and nobody answers in time
  timers_.Advance(milliseconds(2'000));
  link_.ServiceTakes();
  EXPECT_TRUE(link_.threads["t"].running.empty());
}

// 10,000 of each stand for 10,000 idle connections.
TEST(HubMemoryTest, WhatIsKeptByTheTenThousandIsSmall) {
  EXPECT_LE(sizeof(Subscription), 160u);  // allocated as 144 are
  EXPECT_LE(sizeof(Feed), 192u);
}

}  // namespace
}  // namespace clarion::gateway
