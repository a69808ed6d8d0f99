// What the service is asked for again once the link is back, and what it refuses for now.
#include <algorithm>
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gateway/hub/hub_fixture.h"

namespace clarion::gateway {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

class HubRestoreTest : public HubTest {
 protected:
  // `t` has two events and is followed from the end.
  void BeginLiveAndLoseTheLink() {
    Begin();
    link_.Append("t", 2);
    Open(&page_);
    Subscribe(&page_, "t", "", Live());
    Rest();
    link_.Down();
  }
  // The link was away, and the test answers.
  void BeginRestoring() {
    link_.Down();
    swallow_ = true;
    link_.Up();
    Rest();
  }
};

TEST_F(HubRestoreTest, AClaimIsToldOnceAcrossALinkThatWasAwayAndAgainToAPageThatAsks) {
  BeginClaim();
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

TEST_F(HubRestoreTest, AClaimThatIsRefusedForNowWhenItIsRestoredIsAskedForAgain) {
  BeginClaim();
  page_.TakeLines();
  BeginRestoring();
  Refuse("LOG_UNAVAILABLE");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error LOG_UNAVAILABLE t"));
  timers_.Advance(milliseconds(1'000));
  Rest();
  AnswerClaim();
  Rest();
  EXPECT_THAT(page_.TakeLines(), IsEmpty()) << "the page knows";
  BeginRestoring();
  Refuse("BUFFER_OVERFLOW");
  page_.TakeLines();
  swallow_ = false;
  link_.Append("t");
  timers_.Advance(milliseconds(2'000));
  Rest();
  EXPECT_THAT(page_.TakeLines(),
              ElementsAre("subscribed t e1 1..1", "event 1 v1", "caught_up t 1"));
}

TEST_F(HubRestoreTest, RestoresSilentlyAfterTheLinkWasAway) {
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

TEST_F(HubRestoreTest, WhatIsRefusedForNowWhenItIsRestoredIsAskedForAgain) {
  BeginFollowing("t", 2);
  BeginRestoring();
  Refuse("LOG_UNAVAILABLE");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error LOG_UNAVAILABLE t"));
  timers_.Advance(milliseconds(1'000));
  Rest();
  Refuse("NOT_INITIALIZED");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error NOT_INITIALIZED t"));
  timers_.Advance(milliseconds(1'999));
  link_.Append("t");
  swallow_ = false;
  Rest();
  EXPECT_THAT(page_.TakeLines(), IsEmpty());
  timers_.Advance(milliseconds(1));
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("event 3 v3"));
  EXPECT_TRUE(Heard(v1::GatewayMessage::kSubscribe).back().subscribe().restored());
}

TEST_F(HubRestoreTest, WhatRestsIsThePagesToAskForOrToLeave) {
  BeginFollowing("t", 2);
  BeginRestoring();
  Refuse("LOG_UNAVAILABLE");
  page_.TakeLines();
  swallow_ = false;
  Subscribe("t", "2");
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("subscribed t e1 3..2 #2", "caught_up t 2"));

  BeginRestoring();
  Refuse("LOG_UNAVAILABLE");
  const size_t asked = Heard(v1::GatewayMessage::kSubscribe).size();
  v1::Unsubscribe unsubscribe;
  unsubscribe.set_thread_id("t");
  hub_->Unsubscribe(&page_, unsubscribe, "");
  timers_.Advance(std::chrono::minutes(5));
  Rest();
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).size(), asked);
}

TEST_F(HubRestoreTest, AnAckOfAThreadThatRestsIsForLater) {
  BeginFollowing("t", 2);
  BeginRestoring();
  Refuse("LOG_UNAVAILABLE");
  page_.TakeLines();
  v1::Ack ack;
  ack.set_thread_id("t");
  ack.set_epoch("e1");
  ack.set_offset(2);
  hub_->Ack(&page_, ack, "7");
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error LOG_UNAVAILABLE t #7"));
  EXPECT_THAT(Heard(v1::GatewayMessage::kAck), IsEmpty());
}

TEST_F(HubRestoreTest, EverySubscribeIsAnsweredAlsoThoseFromBeforeTheThreadRested) {
  BeginFollowing("t", 1);
  v1::ServiceMessage refused;
  refused.mutable_refused()->set_subscription_id(SubscriptionId());
  refused.mutable_refused()->set_reason("LOG_UNAVAILABLE");
  swallow_ = true;
  Subscribe("t", "2");
  Tell(refused);
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error LOG_UNAVAILABLE t"));
  link_.Down();
  Subscribe("t", "3");
  swallow_ = false;
  link_.Up();
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("subscribed t e1 2..1 #3", "caught_up t 1",
                                             "subscribed t e1 2..1 #2", "caught_up t 1"));
}

TEST_F(HubRestoreTest, WhatIsRefusedForGoodOrForALimitWhenItIsRestoredEnds) {
  for (const char* reason : {"THREAD_OWNERSHIP", "RATE_LIMITED"}) {
    Begin();
    FakeSubscriber page(Encoding::kProto);
    Open(&page);
    Subscribe(&page, "t");
    Rest();
    page.TakeLines();
    BeginRestoring();
    Refuse(reason);
    EXPECT_THAT(page.TakeLines(), ElementsAre(absl::StrCat("error ", reason, " t")));
    const size_t asked = Heard(v1::GatewayMessage::kSubscribe).size();
    timers_.Advance(std::chrono::minutes(5));
    Rest();
    EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).size(), asked);
    swallow_ = false;
  }
}

class HubManyPagesTest : public HubRestoreTest {
 protected:
  static constexpr size_t kAtATime = 8;
  static constexpr int kPages = 20;

  // Each page follows a thread that all follow and three of its own.
  void BeginWithManyPages() {
    Begin({.restoring = kAtATime});
    link_.Append("all", 1);
    for (int i = 0; i < kPages; ++i) {
      pages_.push_back(std::make_unique<FakeSubscriber>(Encoding::kProto));
      Open(pages_[i].get(), absl::StrCat(i));
      Subscribe(pages_[i].get(), "all");
      for (int k = 0; k < 3; ++k) Subscribe(pages_[i].get(), absl::StrCat(i, "-", k));
    }
    Rest();
    for (const auto& page : pages_) page->TakeLines();
    heard_.clear();
  }
  // As Rest; false: more was said at a time than the window, and one connection's rest.
  bool RestWithinBound() {
    bool within = true;
    do {
      const auto asked = std::count_if(link_.said.begin(), link_.said.end(),
                                       [](const auto& message) { return message.has_subscribe(); });
      within = within && asked <= static_cast<int>(kAtATime) + 4;
    } while (link_.Move());
    return within;
  }
  // Every connection is said once, before what it follows.
  void ExpectEachOpenedFirst() {
    std::set<std::string> opened;
    for (const v1::GatewayMessage& m : heard_) {
      if (m.has_connection_opened()) {
        EXPECT_TRUE(opened.insert(m.connection_opened().connection_id()).second);
      } else if (m.has_subscribe()) {
        EXPECT_TRUE(opened.contains(m.subscribe().connection_id()));
      }
    }
  }
  bool Opened(int page) const {
    for (const v1::GatewayMessage& m : Heard(v1::GatewayMessage::kConnectionOpened)) {
      if (m.connection_opened().connection_id() == absl::StrCat(page)) return true;
    }
    return false;
  }
  // One of whom the service has not been told since the link came up.
  int Unopened() const {
    int page = 0;
    while (page < kPages && Opened(page)) ++page;
    return page;
  }

  std::vector<std::unique_ptr<FakeSubscriber>> pages_;
};

TEST_F(HubManyPagesTest, SaysAsMuchAtATimeAsTheServiceAnswers) {
  BeginWithManyPages();
  link_.Down();
  link_.Append("all", 1);
  link_.Up();
  EXPECT_TRUE(RestWithinBound());
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).size(), 4u * kPages);
  ExpectEachOpenedFirst();
  for (const auto& page : pages_) EXPECT_THAT(page->Lines(), ElementsAre("event 2 v2"));
}

TEST_F(HubManyPagesTest, PagesComeAndAskAndGoMeanwhile) {
  BeginWithManyPages();
  link_.Down();
  link_.Up();
  link_.ServiceTakes();
  // One comes: it waits for nobody.
  Open(&page_, "new");
  Subscribe("all");
  link_.ServiceTakes();
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).back().subscribe().connection_id(), "new");
  // One that waits asks for more, acks and leaves a thread.
  const int asks = Unopened();
  ASSERT_LT(asks, kPages);
  FakeSubscriber& asking = *pages_[asks];
  Subscribe(&asking, "more", "7");
  v1::Ack ack;
  ack.set_thread_id("all");
  hub_->Ack(&asking, ack, "8");
  v1::Unsubscribe unsubscribe;
  unsubscribe.set_thread_id(absl::StrCat(asks, "-0"));
  hub_->Unsubscribe(&asking, unsubscribe, "9");
  EXPECT_THAT(asking.TakeLines(), ElementsAre("error GATEWAY_UNAVAILABLE all #8",
                                              absl::StrCat("unsubscribed ", asks, "-0 #9")));
  // Another goes, and its place in memory may be a new one's.
  int goes = asks + 1;
  while (Opened(goes)) ++goes;
  ASSERT_LT(goes, kPages);
  hub_->Close(pages_[goes].get(), v1::CONNECTION_STATE_DISCONNECTED, "normal");
  Open(pages_[goes].get(), "again");
  EXPECT_TRUE(RestWithinBound());
  ExpectEachOpenedFirst();
  EXPECT_FALSE(Opened(goes));
  EXPECT_THAT(Heard(v1::GatewayMessage::kConnectionClosed), IsEmpty());
  EXPECT_THAT(asking.Lines(), ElementsAre("subscribed more  1..0 #7", "caught_up more 0"));
  EXPECT_TRUE(link_.threads[absl::StrCat(asks, "-0")].running.empty());
  EXPECT_EQ(link_.threads["all"].running.size(), 1u * kPages);  // one came, one went
}

TEST_F(HubManyPagesTest, BeginsAnewWhenTheLinkBreaksInItsMidst) {
  BeginWithManyPages();
  link_.Down();
  link_.Up();
  link_.ServiceTakes();
  link_.StreamArrives(5);
  link_.Down();
  heard_.clear();
  link_.Append("all", 1);
  link_.Up();
  EXPECT_TRUE(RestWithinBound());
  ExpectEachOpenedFirst();
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).size(), 4u * kPages);
  for (const auto& page : pages_) EXPECT_THAT(page->Lines(), ElementsAre("event 2 v2"));
}

TEST_F(HubManyPagesTest, ThoseWhomNobodyAnswersHoldUpTheOthersForAWhile) {
  BeginWithManyPages();
  link_.Down();
  swallow_ = true;
  link_.Up();
  Rest();
  const size_t first = Heard(v1::GatewayMessage::kSubscribe).size();
  EXPECT_LE(first, kAtATime + 4);
  timers_.Advance(milliseconds(4'999));
  Rest();
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).size(), first);
  timers_.Advance(milliseconds(1));
  Rest();
  EXPECT_GT(Heard(v1::GatewayMessage::kSubscribe).size(), first);
  timers_.Advance(std::chrono::minutes(2));
  Rest();
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).size(), 4u * kPages);
}

TEST_F(HubManyPagesTest, ANewLinkHasItsOwnTimeToAnswer) {
  BeginWithManyPages();
  link_.Down();
  swallow_ = true;
  link_.Up();
  Rest();
  timers_.Advance(milliseconds(4'900));
  link_.Down();
  heard_.clear();
  link_.Up();
  Rest();
  const size_t first = Heard(v1::GatewayMessage::kSubscribe).size();
  timers_.Advance(milliseconds(4'900));
  Rest();
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).size(), first);
  timers_.Advance(milliseconds(200));
  Rest();
  EXPECT_GT(Heard(v1::GatewayMessage::kSubscribe).size(), first);
}

TEST_F(HubManyPagesTest, ThoseThatHaveRestedAreSaidInTheSameWay) {
  BeginWithManyPages();
  link_.Down();
  refuse_ = true;
  link_.Up();
  EXPECT_TRUE(RestWithinBound());
  for (const auto& page : pages_) EXPECT_EQ(page->TakeLines().size(), 4u);
  refuse_ = false;
  link_.Append("all", 1);
  timers_.Advance(milliseconds(1'000));
  EXPECT_TRUE(RestWithinBound());
  for (const auto& page : pages_) EXPECT_THAT(page->Lines(), ElementsAre("event 2 v2"));
}

TEST_F(HubRestoreTest, RestoredSubscriptionStaysLiveWhereItBeganLive) {
  BeginLiveAndLoseTheLink();
  link_.Up();
  Rest();
  const v1::SubscribeThread said = Heard(v1::GatewayMessage::kSubscribe).back().subscribe();
  EXPECT_TRUE(said.restored());
  EXPECT_EQ(said.from(), v1::START_FROM_LIVE);
  EXPECT_EQ(said.began_offset(), 3u);
}

TEST_F(HubRestoreTest, ALiveSubscriptionStaysLiveWhenItIsAskedForAgainInPlace) {
  BeginLiveAndLoseTheLink();
  Subscribe("t", "2");
  for (int i = 0; i < 2; ++i) {
    link_.Up();
    Rest();
    const v1::SubscribeThread said = Heard(v1::GatewayMessage::kSubscribe).back().subscribe();
    EXPECT_EQ(said.from(), v1::START_FROM_LIVE);
    EXPECT_EQ(said.after().offset(), 2u);
    EXPECT_EQ(said.began_offset(), 3u);
    link_.Down();
  }
}

TEST_F(HubRestoreTest, WhereASubscriptionBeganIsSaidUntilItBeginsAnew) {
  BeginLiveAndLoseTheLink();
  link_.Up();
  Rest();
  link_.Append("t", 2);
  Rest();
  Subscribe(&page_, "t", "again", Live());
  Rest();
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).back().subscribe().began_offset(), 0u);
  link_.Down();
  link_.Up();
  Rest();
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).back().subscribe().began_offset(), 5u);
}

TEST_F(HubRestoreTest, TheGapOfARestoredThreadIsPulledOnceForAllFollowers) {
  Begin();
  link_.Append("t", 2);
  std::vector<std::unique_ptr<FakeSubscriber>> pages;
  for (int i = 0; i < 50; ++i) {
    pages.push_back(std::make_unique<FakeSubscriber>(Encoding::kProto));
    Open(pages.back().get(), std::to_string(i));
    Subscribe(pages.back().get(), "t");
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

}  // namespace
}  // namespace clarion::gateway
