// What the hub and the service say to each other: restoring, lagging, pulling, binding, canaries.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gateway/hub/hub_fixture.h"

namespace clarion::gateway {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

class HubLinkTest : public HubTest {};

TEST_F(HubLinkTest, SaysHelloAndWhoIsConnectedWhenTheLinkComesUp) {
  Begin();
  Open(&page_);
  Rest();
  ASSERT_EQ(heard_.size(), 2u);
  EXPECT_EQ(heard_[0].hello().gateway_id(), "g");
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

TEST_F(HubLinkTest, AClaimIsToldOnceAcrossALinkThatWasAwayAndAgainToAPageThatAsks) {
  Begin();
  Open(&page_);
  swallow_ = true;
  Subscribe("t");
  link_.ServiceTakes();
  AnswerClaim();
  link_.StreamArrives(10);
  page_.TakeLines();
  link_.Down();
  link_.Up();
  link_.ServiceTakes();
  EXPECT_FALSE(Heard(v1::GatewayMessage::kSubscribe).back().subscribe().restored());
  AnswerClaim();
  link_.StreamArrives(10);
  EXPECT_THAT(page_.TakeLines(), IsEmpty());
  Subscribe("t", "2");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("claim t #2"));
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

TEST_F(HubLinkTest, RestoresSilentlyAfterTheLinkWasAway) {
  BeginFollowing("t", 2);
  link_.Down();
  link_.Append("t", 3);
  link_.Up();
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("event 3 v3", "event 4 v4", "event 5 v5"));
  const v1::SubscribeThread said = Heard(v1::GatewayMessage::kSubscribe).back().subscribe();
  EXPECT_TRUE(said.restored());
  EXPECT_EQ(said.after().offset(), 2u);
  EXPECT_EQ(said.after().epoch(), "e1");
}

TEST_F(HubLinkTest, RestoredSubscriptionStaysLiveWhereItBeganLive) {
  Begin();
  link_.Append("t", 2);
  Open(&page_);
  v1::Subscribe live;
  live.set_thread_id("t");
  live.set_from(v1::START_FROM_LIVE);
  hub_->Subscribe(&page_, live, "");
  Rest();
  link_.Down();
  link_.Up();
  Rest();
  const v1::SubscribeThread said = Heard(v1::GatewayMessage::kSubscribe).back().subscribe();
  EXPECT_TRUE(said.restored());
  EXPECT_EQ(said.from(), v1::START_FROM_LIVE);
}

TEST_F(HubLinkTest, TheGapOfARestoredThreadIsPulledOnceForAllFollowers) {
  Begin();
  link_.Append("t", 2);
  std::vector<std::unique_ptr<FakeSubscriber>> pages;
  for (int i = 0; i < 50; ++i) {
    pages.push_back(std::make_unique<FakeSubscriber>(Encoding::kProto));
    Open(pages.back().get(), std::to_string(i));
    v1::Subscribe subscribe;
    subscribe.set_thread_id("t");
    hub_->Subscribe(pages.back().get(), subscribe, "");
  }
  Rest();
  link_.Down();
  link_.Append("t", 2);
  const uint64_t before = hub_->replay_pages();
  link_.Up();
  Rest();
  EXPECT_EQ(hub_->replay_pages(), before);
  for (const auto& page : pages) EXPECT_EQ(page->Lines().back(), "event 4 v4");
}

TEST_F(HubLinkTest, PullsForALaggingThreadOnceForAllAndFollows) {
  Begin();
  FakeSubscriber other(Encoding::kJson);
  Open(&page_);
  Open(&other, "d");
  Subscribe("t");
  v1::Subscribe subscribe;
  subscribe.set_thread_id("t");
  hub_->Subscribe(&other, subscribe, "");
  link_.Append("t");
  Rest();
  link_.full = true;
  link_.Append("t", 3);
  link_.full = false;
  const uint64_t before = hub_->replay_pages();
  Rest();
  EXPECT_EQ(page_.Lines().back(), "event 4 v4");
  EXPECT_EQ(other.Lines().back(), "event 4 v4");
  EXPECT_EQ(hub_->replay_pages(), before) << "one pull for the thread, none for its followers";
  ASSERT_EQ(Heard(v1::GatewayMessage::kFollow).size(), 1u);
  EXPECT_EQ(Heard(v1::GatewayMessage::kFollow)[0].follow().position().offset(), 4u);
  link_.Append("t");
  Rest();
  EXPECT_EQ(page_.Lines().back(), "event 5 v5");
}

TEST_F(HubLinkTest, ASlowConnectionPullsWhenItHasRoomAndHoldsUpNobody) {
  Begin();
  link_.Append("t", 6);
  Open(&page_);
  FakeSubscriber other(Encoding::kProto);
  Open(&other, "d");
  page_.room = false;
  Subscribe("t");
  v1::Subscribe subscribe;
  subscribe.set_thread_id("t");
  hub_->Subscribe(&other, subscribe, "");
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("subscribed t e1 1..6 #1"));
  EXPECT_EQ(other.Lines().back(), "caught_up t 6");
  page_.room = true;
  hub_->OnRoom(&page_);
  Rest();
  EXPECT_EQ(page_.Lines().back(), "caught_up t 6");
}

// Else a thread with many followers that come back at once costs their square.
TEST_F(HubLinkTest, WhoWaitsForRoomIsNotLookedAtForEveryEventNorForEveryOneThatJoins) {
  Begin();
  link_.Append("t", 6);
  FakeSubscriber slow(Encoding::kProto);
  slow.room = false;
  Open(&slow, "slow");
  v1::Subscribe subscribe;
  subscribe.set_thread_id("t");
  hub_->Subscribe(&slow, subscribe, "");
  Rest();
  slow.asked_for_room = 0;
  Open(&page_);
  Subscribe("t");
  Rest();
  link_.Append("t");
  Rest();
  EXPECT_EQ(page_.Lines().back(), "event 7 v7");
  EXPECT_EQ(slow.asked_for_room, 0);
  slow.room = true;
  hub_->OnRoom(&slow);
  Rest();
  EXPECT_EQ(slow.Lines().back(), "event 7 v7");
}

TEST_F(HubLinkTest, PullsForAtMostSoManyAtATimeInTurns) {
  Begin({.concurrent_pages = 2});
  Open(&page_);
  for (int i = 0; i < 5; ++i) {
    link_.Append(absl::StrCat("t", i), 4);
    Subscribe(absl::StrCat("t", i));
  }
  link_.ServiceTakes();
  link_.StreamArrives(100);
  std::vector<std::string> order;
  while (!link_.asked.empty()) {
    EXPECT_LE(link_.asked.size(), 2u);
    order.push_back(link_.asked.front().request.thread_id());
    link_.PageIsRead();
    link_.PageArrives();
  }
  // Two pages each; nobody gets a second one before all had the first.
  ASSERT_EQ(order.size(), 10u);
  std::sort(order.begin(), order.begin() + 5);
  EXPECT_EQ(std::vector(order.begin(), order.begin() + 5),
            (std::vector<std::string>{"t0", "t1", "t2", "t3", "t4"}));
}

TEST_F(HubLinkTest, AConnectionThatReplaysManyThreadsIsNeverSentMoreThanMayWaitForIt) {
  constexpr size_t kBound = 64 * 1024;
  Begin({.page_bytes = kBound / 4});
  link_.page_events = 1'000;
  link_.padding = 1'000;
  page_.bound = kBound;
  Open(&page_);
  for (int i = 0; i < 20; ++i) {
    link_.Append(absl::StrCat("t", i), 40);
    Subscribe(absl::StrCat("t", i));
  }
  const auto caught_up = [this] {
    return std::count_if(page_.frames.begin(), page_.frames.end(),
                         [](const v1::ServerFrame& frame) { return frame.has_caught_up(); });
  };
  for (int turn = 0; turn < 100 && caught_up() < 20; ++turn) {
    Rest();
    page_.queued = 0;
    hub_->OnRoom(&page_);
  }
  EXPECT_EQ(caught_up(), 20);
  EXPECT_LE(page_.most_queued, kBound);
}

TEST_F(HubLinkTest, HasOnePageUnderWayForEachConnection) {
  Begin();
  FakeSubscriber other(Encoding::kProto);
  Open(&page_);
  Open(&other, "d");
  for (const char* thread : {"a", "b", "c"}) {
    link_.Append(thread, 1);
    Subscribe(thread);
  }
  v1::Subscribe subscribe;
  subscribe.set_thread_id("b");
  hub_->Subscribe(&other, subscribe, "");
  link_.ServiceTakes();
  link_.StreamArrives(10);
  ASSERT_EQ(link_.asked.size(), 2u);
  EXPECT_EQ(link_.asked[0].request.thread_id(), "a");
  EXPECT_EQ(link_.asked[1].request.thread_id(), "b");
  // One that has gone does not hold up the next.
  v1::Unsubscribe unsubscribe;
  unsubscribe.set_thread_id("b");
  hub_->Unsubscribe(&page_, unsubscribe, "");
  link_.PageIsRead();
  link_.PageArrives();
  ASSERT_EQ(link_.asked.size(), 2u);
  EXPECT_EQ(link_.asked[1].request.thread_id(), "c");
}

TEST_F(HubLinkTest, APageThatALostLinkOwesHoldsUpNoConnection) {
  Begin();
  link_.Append("t", 1);
  Open(&page_);
  Subscribe("t");
  link_.ServiceTakes();
  link_.StreamArrives(10);
  ASSERT_EQ(link_.asked.size(), 1u);
  link_.Down();
  link_.Up();
  link_.ServiceTakes();
  link_.StreamArrives(10);
  EXPECT_EQ(link_.asked.size(), 2u);
  Rest();
  EXPECT_EQ(page_.Lines().back(), "caught_up t 1");
}

TEST_F(HubLinkTest, AsksAgainForAPageThatFailedAfterAWhile) {
  Begin();
  link_.Append("t", 1);
  Open(&page_);
  Subscribe("t");
  link_.ServiceTakes();
  link_.StreamArrives(10);
  ASSERT_TRUE(link_.FailPage());
  link_.PageArrives();
  EXPECT_TRUE(link_.asked.empty());
  timers_.Advance(milliseconds(100));
  EXPECT_EQ(link_.asked.size(), 1u);
  Rest();
  EXPECT_EQ(page_.Lines().back(), "caught_up t 1");
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

class HubAllTest : public HubTest {
 protected:
  // The service bound `t`, of {all}, and the subscription is on its way to a service that the test
  // is.
  void BeginBound(HubOptions options = {}) {
    Begin(options);
    link_.Append("t", 2);
    Open(&page_);
    SubscribeAll();
    swallow_ = true;
    Bind(1, "t", /*all=*/true);
    page_.TakeLines();
  }
  void SubscribeAll(const std::string& id = "1") {
    v1::Subscribe all;
    all.set_all(true);
    auto& position = *all.add_positions();
    position.set_thread_id("t");
    position.set_epoch("e1");
    position.set_offset(1);
    hub_->Subscribe(&page_, all, id);
    Rest();
  }
  void Refuse(const std::string& reason) {
    v1::ServiceMessage refused;
    refused.mutable_refused()->set_subscription_id(SubscriptionId());
    refused.mutable_refused()->set_reason(reason);
    Tell(refused);
    Rest();
  }
  void RefuseAll(const std::string& reason) {
    v1::ServiceMessage refused;
    refused.mutable_all_subscribed()->set_subscription_id(
        Heard(v1::GatewayMessage::kSubscribeAll).back().subscribe_all().subscription_id());
    refused.mutable_all_subscribed()->set_reason(reason);
    Tell(refused);
    Rest();
  }
  size_t Asked() const { return Heard(v1::GatewayMessage::kSubscribe).size(); }
};

TEST_F(HubAllTest, IsConfirmedWhenTheServiceHasTakenItNotBefore) {
  Begin();
  Open(&page_);
  link_.Down();
  SubscribeAll("1");
  SubscribeAll("2");
  EXPECT_THAT(page_.TakeLines(), IsEmpty());
  link_.Up();
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("subscribed all #1", "subscribed all #2"));
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribeAll).size(), 1u);
  SubscribeAll("3");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("subscribed all #3"));
  link_.Down();
  link_.Up();
  Rest();
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribeAll).size(), 3u) << "restored";
  EXPECT_THAT(page_.TakeLines(), IsEmpty());
}

TEST_F(HubAllTest, ThatWaitedTooLongFails) {
  Begin({.subscriptions_per_connection = 1, .subscribe_timeout = milliseconds(1'000)});
  Open(&page_);
  link_.Down();
  SubscribeAll();
  timers_.Advance(milliseconds(499));
  EXPECT_THAT(page_.TakeLines(), IsEmpty());
  timers_.Advance(milliseconds(501));
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error GATEWAY_UNAVAILABLE  #1"));
  link_.Up();
  Rest();
  EXPECT_THAT(Heard(v1::GatewayMessage::kSubscribeAll), IsEmpty());
  SubscribeAll("2");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("subscribed all #2"));
  timers_.Advance(milliseconds(5'000));
  EXPECT_THAT(page_.TakeLines(), IsEmpty());
}

TEST_F(HubAllTest, ThatTheServiceRefusesIsAnErrorWithItsReason) {
  Begin();
  Open(&page_);
  swallow_ = true;
  SubscribeAll();
  RefuseAll("RATE_LIMITED");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error RATE_LIMITED  #1"));
}

TEST_F(HubAllTest, ThatIsRefusedWhenItIsRestoredEndsWithItsThreads) {
  BeginBound();
  swallow_ = false;
  link_.Down();
  link_.Up();
  Rest();
  page_.TakeLines();
  link_.Down();
  swallow_ = true;
  link_.Up();
  Rest();
  RefuseAll("RATE_LIMITED");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error RATE_LIMITED "));
  EXPECT_FALSE(Heard(v1::GatewayMessage::kSubscribeAll).back().subscribe_all().on());
  EXPECT_EQ(Heard(v1::GatewayMessage::kUnsubscribe).size(), 1u);
}

TEST_F(HubAllTest, AConnectionThatTheServiceDoesNotTakeIsClosedWithTheReason) {
  Begin();
  Open(&page_);
  v1::ServiceMessage message;
  message.mutable_connection_refused()->set_connection_id("c");
  message.mutable_connection_refused()->set_reason("RATE_LIMITED");
  Tell(message);
  Rest();
  EXPECT_EQ(page_.closed, CloseCode::kRateLimited);
}

TEST_F(HubAllTest, AThreadThatIsRefusedForNowIsAskedForAgainAfterAWhileThatGrows) {
  BeginBound();
  Refuse("LOG_UNAVAILABLE");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error LOG_UNAVAILABLE t"));
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_UNSPECIFIED));
  timers_.Advance(milliseconds(999));
  Rest();
  EXPECT_EQ(Asked(), 1u);
  timers_.Advance(milliseconds(1));
  Rest();
  EXPECT_EQ(Asked(), 2u);
  Refuse("LOG_UNAVAILABLE");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error LOG_UNAVAILABLE t"));
  timers_.Advance(milliseconds(1'999));
  Rest();
  EXPECT_EQ(Asked(), 2u);
  swallow_ = false;
  timers_.Advance(milliseconds(1));
  Rest();
  // From where the page knows it.
  EXPECT_THAT(page_.TakeLines(),
              ElementsAre("subscribed t e1 2..2", "event 2 v2", "caught_up t 2"));
  link_.Append("t");
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("event 3 v3"));
}

TEST_F(HubAllTest, AThreadThatNobodyAnswersForIsAskedForAgain) {
  BeginBound({.subscribe_timeout = milliseconds(1'000)});
  timers_.Advance(milliseconds(1'000));
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error GATEWAY_UNAVAILABLE t"));
  swallow_ = false;
  timers_.Advance(milliseconds(1'000));
  Rest();
  EXPECT_EQ(page_.Lines().back(), "caught_up t 2");
}

TEST_F(HubAllTest, AThreadThatIsRefusedForGoodIsNot) {
  BeginBound();
  Refuse("THREAD_OWNERSHIP");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error THREAD_OWNERSHIP t"));
  timers_.Advance(std::chrono::minutes(5));
  Rest();
  EXPECT_EQ(Asked(), 1u);
}

TEST_F(HubAllTest, AThreadThatRestsIsAskedForAtOnceByALinkThatComesUpOrAPageThatNamesIt) {
  BeginBound();
  Refuse("LOG_UNAVAILABLE");
  link_.Down();
  link_.Up();
  Rest();
  EXPECT_EQ(Asked(), 2u);
  Refuse("LOG_UNAVAILABLE");
  page_.TakeLines();
  swallow_ = false;
  Subscribe("t", "7");
  Rest();
  EXPECT_THAT(page_.TakeLines(),
              ElementsAre("subscribed t e1 2..2 #7", "event 2 v2", "caught_up t 2"));
  timers_.Advance(std::chrono::minutes(5));
  Rest();
  EXPECT_THAT(page_.Lines(), IsEmpty());
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

TEST_F(HubLinkTest, APageOfAnEarlierQuestionIsNotTakenForAnAnswer) {
  Begin();
  link_.Append("t", 4);
  Open(&page_);
  Subscribe("t");
  link_.ServiceTakes();
  link_.StreamArrives(10);
  link_.PageIsRead();  // events 1 and 2
  Subscribe("t", "2", After("e1", 2));
  link_.ServiceTakes();
  link_.StreamArrives(10);
  page_.TakeLines();
  link_.PageArrives();
  EXPECT_THAT(page_.Lines(), IsEmpty());
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("event 3 v3", "event 4 v4", "caught_up t 4"));
}

TEST_F(HubLinkTest, APageFromBeforeALinkThatWasAwayIsNotTakenAfterARollBack) {
  Begin();
  link_.Append("t", 4);
  Open(&page_);
  Subscribe("t", "1", After("e1", 2));
  link_.ServiceTakes();
  link_.StreamArrives(10);
  link_.PageIsRead();  // events 3 and 4, which are about to be lost
  link_.Down();
  link_.RollBack("t", 2);
  link_.Append("t");
  link_.Up();
  link_.ServiceTakes();
  link_.StreamArrives(10);
  page_.TakeLines();
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("event 3 v5", "event 4 v6", "caught_up t 4"));
}

TEST_F(HubLinkTest, WhatIsKeptOfANewEpochIsNotJoinedToAnOldOne) {
  Begin();
  link_.page_events = 10;
  link_.Append("t", 5);
  FakeSubscriber other(Encoding::kProto);
  Open(&other, "d");
  v1::Subscribe live;
  live.set_thread_id("t");
  live.set_from(v1::START_FROM_LIVE);
  hub_->Subscribe(&other, live, "");
  Rest();
  Open(&page_);
  Subscribe("t");
  link_.ServiceTakes();
  link_.StreamArrives(10);
  link_.PageIsRead();  // events 1 to 5 of the old epoch, for the one that replays
  link_.RollBack("t", 2);
  link_.Append("t", 2);
  link_.StreamArrives(10);
  link_.PageIsRead();  // for the feed
  ASSERT_EQ(link_.answered.size(), 2u);
  std::swap(link_.answered[0], link_.answered[1]);
  link_.PageArrives();
  ASSERT_EQ(other.Lines().back(), "caught_up t 6");
  link_.PageArrives();
  Rest();
  EXPECT_THAT(page_.Lines(),
              ElementsAre("subscribed t e1 1..5 #1", "event 1 v1", "event 2 v2", "event 3 v3",
                          "event 4 v4", "event 5 v5", "caught_up t 5",
                          "subscribed t e2 4..6 missed", "missed 4..5 after 3", "event 4 v6",
                          "event 5 v7", "event 6 v8", "caught_up t 6"));
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
  EXPECT_LE(sizeof(Subscription), 120u);
  EXPECT_LE(sizeof(Feed), 168u);
}

}  // namespace
}  // namespace clarion::gateway
