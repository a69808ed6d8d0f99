// What a page asks for and what it is told, frame by frame. Joining has a test of its own
// (hub_join_test.cc).
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gateway/hub/hub_fixture.h"
#include "telemetry/metrics.h"

namespace clarion::gateway {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class HubPageTest : public HubTest {
 protected:
  void Ack(const std::string& thread, const std::string& id, FakeSubscriber* page = nullptr) {
    v1::Ack ack;
    ack.set_thread_id(thread);
    ack.set_epoch("e1");
    ack.set_offset(1);
    hub_->Ack(page == nullptr ? &page_ : page, ack, id);
  }
  // Each that was heard since the last call, with a reason or none.
  void AnswerAcks(const std::string& reason) {
    for (const auto& said : Heard(v1::GatewayMessage::kAck)) {
      if (said.ack().ack_id() <= last_answered_) continue;
      last_answered_ = said.ack().ack_id();
      v1::ServiceMessage result;
      result.mutable_ack_result()->set_ack_id(last_answered_);
      result.mutable_ack_result()->set_acknowledged(1);
      result.mutable_ack_result()->set_reason(reason);
      Tell(result);
    }
    Rest();
  }

  uint64_t last_answered_ = 0;
};

TEST_F(HubPageTest, AnswersASubscribeThenSendsTheEventsThenCaughtUp) {
  Begin();
  link_.Append("t", 2);
  Open(&page_);
  const Counter& pages = GetCounter("clarion_replay_pages_total", "");
  const uint64_t before = pages.value();
  Subscribe("t");
  Rest();
  EXPECT_THAT(page_.Lines(),
              ElementsAre("subscribed t e1 1..2 #1", "event 1 v1", "event 2 v2", "caught_up t 2"));
  EXPECT_EQ(hub_->replay_pages(), 1u);
  EXPECT_EQ(pages.value(), before + 1);
  EXPECT_EQ(Heard(v1::GatewayMessage::kConfirmed).size(), 1u);
}

TEST_F(HubPageTest, CaughtUpFollowsAtOnceWhenThereIsNothingToReplay) {
  Begin();
  Open(&page_);
  Subscribe("t");
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("subscribed t  1..0 #1", "caught_up t 0"));
  link_.Append("t");
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("subscribed t e1 1..1", "event 1 v1", "caught_up t 1"));
  EXPECT_EQ(hub_->replay_pages(), 0u);
}

TEST_F(HubPageTest, SaysWhatIsMissedBeforeTheFirstEvent) {
  Begin();
  link_.Append("t", 4);
  link_.Expire("t", 2);
  Open(&page_);
  Subscribe("t", "1", After("e1", 1));
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("subscribed t e1 3..4 missed #1", "missed 2..2",
                                         "event 3 v3", "event 4 v4", "caught_up t 4"));
}

TEST_F(HubPageTest, AnnouncesARollBackBeforeAnythingNewer) {
  BeginFollowing("t", 3);
  link_.RollBack("t", 2);
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("subscribed t e2 2..2 missed", "missed 2..3 after 1",
                                         "event 2 v4", "caught_up t 2"));
}

TEST_F(HubPageTest, AdjacentLiveMessagesReachASocketInOneWrite) {
  Begin();
  Open(&page_);
  Subscribe("t");
  link_.Append("t");
  Rest();
  page_.sends = 0;
  for (int i = 0; i < 20; ++i) link_.Append("t");
  Rest();
  EXPECT_EQ(page_.sends, 1);
}

TEST_F(HubPageTest, ASubscribeToAThreadOfSomebodyElseIsAClaimThatGoesLiveLater) {
  BeginClaim();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("claim t #1"));
  EXPECT_THAT(Heard(v1::GatewayMessage::kConfirmed), IsEmpty());

  v1::ServiceMessage live;
  live.mutable_started()->set_subscription_id(SubscriptionId());
  live.mutable_started()->set_from_offset(1);
  live.mutable_started()->mutable_last();
  Tell(live);
  link_.StreamArrives(10);
  link_.ServiceTakes();
  EXPECT_THAT(page_.Lines(), ElementsAre("subscribed t  1..0", "caught_up t 0"));
  EXPECT_EQ(Heard(v1::GatewayMessage::kConfirmed).size(), 1u);
}

TEST_F(HubPageTest, SubscribingAgainWithoutAPositionContinuesInPlace) {
  BeginFollowing("t", 2);
  Subscribe("t", "2");
  Rest();
  link_.Append("t");
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("subscribed t e1 3..2 #2", "caught_up t 2", "event 3 v3"));
}

TEST_F(HubPageTest, SubscribingAgainWithAPositionRestartsThere) {
  BeginFollowing("t", 2);
  Subscribe("t", "2", After("e1", 1));
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("subscribed t e1 2..2 #2", "event 2 v2", "caught_up t 2"));
}

TEST_F(HubPageTest, EverySubscribeForAThreadIsAnsweredAlsoWhileTheFirstWaits) {
  Begin();
  Open(&page_);
  Subscribe("t", "1");
  Subscribe("t", "2");
  Subscribe("t", "3");
  Rest();
  EXPECT_THAT(page_.Lines(),
              ElementsAre("subscribed t  1..0 #1", "caught_up t 0", "subscribed t  1..0 #2",
                          "caught_up t 0", "subscribed t  1..0 #3", "caught_up t 0"));
}

TEST_F(HubPageTest, LimitsTheSubscriptionsOfAConnection) {
  Begin({.subscriptions_per_connection = 2});
  Open(&page_);
  Subscribe("a", "1");
  Subscribe("b", "2");
  Subscribe("c", "3");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error RATE_LIMITED c #3"));
  Rest();
  v1::Unsubscribe unsubscribe;
  unsubscribe.set_thread_id("a");
  hub_->Unsubscribe(&page_, unsubscribe, "4");
  Subscribe("c", "5");
  Rest();
  EXPECT_THAT(page_.Lines(), testing::Contains("subscribed c  1..0 #5"));
}

TEST_F(HubPageTest, NothingOfAThreadFollowsUnsubscribed) {
  BeginFollowing("t", 0);
  link_.Append("t");
  v1::Unsubscribe unsubscribe;
  unsubscribe.set_thread_id("t");
  hub_->Unsubscribe(&page_, unsubscribe, "2");
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("unsubscribed t #2"));
}

TEST_F(HubPageTest, ADeletedThreadIsMissedAsAWholeAndEndsWithAnError) {
  BeginFollowing("t", 3);
  v1::ServiceMessage deleted;
  deleted.mutable_refused()->set_subscription_id(SubscriptionId());
  deleted.mutable_refused()->set_reason("NOT_FOUND");
  deleted.mutable_refused()->mutable_missed()->set_from_offset(1);
  deleted.mutable_refused()->mutable_missed()->set_to_offset(3);
  deleted.mutable_refused()->mutable_missed()->set_reason(v1::MISSED_REASON_DELETED);
  Tell(deleted);
  Rest();
  EXPECT_EQ(page_.frames[page_.frames.size() - 2].missed().reason(), v1::MISSED_REASON_DELETED);
  EXPECT_THAT(page_.Lines(), ElementsAre("missed 1..3", "error NOT_FOUND t"));
  page_.TakeLines();
  link_.Append("t", 1);
  Rest();
  EXPECT_THAT(page_.Lines(), IsEmpty()) << "it has ended";
}

TEST_F(HubPageTest, ARefusedSubscriptionIsAnErrorWithItsReason) {
  Begin();
  Open(&page_);
  swallow_ = true;
  Subscribe("t");
  link_.ServiceTakes();
  v1::ServiceMessage refused;
  refused.mutable_refused()->set_subscription_id(SubscriptionId());
  refused.mutable_refused()->set_reason("LOG_UNAVAILABLE");
  Tell(refused);
  const Counter& failures =
      GetCounter("clarion_failures_total", "", {{"reason", "LOG_UNAVAILABLE"}});
  const uint64_t before = failures.value();
  link_.StreamArrives(1);
  EXPECT_THAT(page_.Lines(), ElementsAre("error LOG_UNAVAILABLE t #1"));
  EXPECT_EQ(failures.value(), before + 1);
  EXPECT_GT(page_.frames[0].error().retry_after_ms(), 0u);
}

TEST_F(HubPageTest, SubscribingToAllFollowsEachThreadFromWhereThePageKnowsIt) {
  Begin({.subscriptions_per_connection = 1});
  link_.Append("a", 2);
  link_.Append("b", 1);
  Open(&page_);
  v1::Subscribe all;
  all.set_all(true);
  auto& position = *all.add_positions();
  position.set_thread_id("a");
  position.set_epoch("e1");
  position.set_offset(1);
  hub_->Subscribe(&page_, all, "1");
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("subscribed all #1", "bound a", "subscribed a e1 2..2",
                                             "event 2 v2", "caught_up a 2"));
  ASSERT_EQ(Heard(v1::GatewayMessage::kSubscribeAll).size(), 1u);
  Bind(1, "a", true);
  Bind(2, "b", true);
  EXPECT_THAT(page_.TakeLines(),
              ElementsAre("bound b", "subscribed b e1 1..1", "event 1 v3", "caught_up b 1"));
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_CONFIRMED, v1::BIND_OUTCOME_CONFIRMED));

  v1::Unsubscribe unsubscribe;
  unsubscribe.set_all(true);
  hub_->Unsubscribe(&page_, unsubscribe, "2");
  link_.Append("a");
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("unsubscribed all #2"));
  EXPECT_FALSE(Heard(v1::GatewayMessage::kSubscribeAll).back().subscribe_all().on());
}

TEST_F(HubPageTest, AnAckCarriesWhatWasSentAndIsAnsweredIfItHasAnId) {
  BeginFollowing("t", 3);
  v1::Ack ack;
  ack.set_thread_id("t");
  ack.set_epoch("e1");
  ack.set_offset(2);
  hub_->Ack(&page_, ack, "9");
  hub_->Ack(&page_, ack, "");
  Rest();
  const auto said = Heard(v1::GatewayMessage::kAck);
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(said[0].ack().last_sent_offset(), 3u);
  EXPECT_EQ(said[0].ack().position().offset(), 2u);
  for (const auto& m : said) {
    v1::ServiceMessage result;
    result.mutable_ack_result()->set_ack_id(m.ack().ack_id());
    result.mutable_ack_result()->set_acknowledged(2);
    Tell(result);
  }
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("acked t 2 #9"));
}

TEST_F(HubPageTest, AnAckThatDoesNotCountOrCannotBeCarriedIsAnError) {
  BeginFollowing("t", 0);
  v1::Ack ack;
  ack.set_thread_id("other");
  hub_->Ack(&page_, ack, "1");
  ack.set_thread_id("t");
  hub_->Ack(&page_, ack, "2");
  Rest();
  v1::ServiceMessage result;
  result.mutable_ack_result()->set_ack_id(Heard(v1::GatewayMessage::kAck).back().ack().ack_id());
  result.mutable_ack_result()->set_reason("EPOCH_CHANGED");
  Tell(result);
  Rest();
  hub_->Ack(&page_, ack, "3");
  link_.Down();
  hub_->Ack(&page_, ack, "4");
  EXPECT_THAT(page_.Lines(),
              ElementsAre("error NOT_FOUND other #1", "error EPOCH_CHANGED t #2",
                          "error GATEWAY_UNAVAILABLE t #3", "error GATEWAY_UNAVAILABLE t #4"));
}

TEST_F(HubPageTest, AnAckIsAnsweredAlsoAfterItsSubscriptionHasEnded) {
  BeginFollowing("t", 1);
  Ack("t", "1");
  Ack("t", "");
  v1::Unsubscribe unsubscribe;
  unsubscribe.set_thread_id("t");
  hub_->Unsubscribe(&page_, unsubscribe, "2");
  Rest();
  AnswerAcks("");
  EXPECT_THAT(page_.TakeLines(), ElementsAre("unsubscribed t #2", "acked t 1 #1"));

  Subscribe("t", "3");
  Rest();
  page_.TakeLines();
  Ack("t", "4");
  Ack("t", "");
  hub_->Unsubscribe(&page_, unsubscribe, "");
  Rest();
  AnswerAcks("NOT_FOUND");
  EXPECT_THAT(page_.TakeLines(),
              ElementsAre("unsubscribed t", "error NOT_FOUND t #4", "error NOT_FOUND t"));

  Subscribe("t", "5");
  Rest();
  page_.TakeLines();
  Ack("t", "6");
  hub_->Unsubscribe(&page_, unsubscribe, "");
  link_.Down();
  EXPECT_THAT(page_.Lines(), ElementsAre("unsubscribed t", "error GATEWAY_UNAVAILABLE t #6"));
}

TEST_F(HubPageTest, APageThatAcksAndLeavesTakesNobodysRoom) {
  Begin({.acks_per_connection = 3, .acks = 4});
  link_.Append("t");
  Open(&page_);
  Subscribe("t");
  FakeSubscriber other(Encoding::kProto);
  Open(&other, "d");
  Subscribe(&other, "t");
  Rest();
  page_.TakeLines();
  for (int i = 0; i < 4; ++i) Ack("t", absl::StrCat(i));
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error RATE_LIMITED t #3")) << "its own bound";
  other.frames.clear();
  Ack("t", "a", &other);
  EXPECT_THAT(other.TakeLines(), IsEmpty());
  Ack("t", "b", &other);
  EXPECT_THAT(other.TakeLines(), ElementsAre("error RATE_LIMITED t #b")) << "everybody's";
  hub_->Close(&page_, v1::CONNECTION_STATE_DISCONNECTED, "normal");
  Ack("t", "c", &other);
  EXPECT_THAT(other.TakeLines(), IsEmpty()) << "its room came back with its end";
  Rest();
  AnswerAcks("");  // also of those who are gone
  EXPECT_THAT(other.TakeLines(), ElementsAre("acked t 1 #a", "acked t 1 #c"));

  v1::Unsubscribe unsubscribe;
  unsubscribe.set_thread_id("t");
  for (int i = 0; i < 10; ++i) {
    for (int k = 0; k < 3; ++k) Ack("t", "", &other);
    hub_->Unsubscribe(&other, unsubscribe, "");
    Subscribe(&other, "t");
    Rest();
    AnswerAcks("");
  }
  EXPECT_THAT(other.TakeLines(), testing::Not(testing::Contains("error RATE_LIMITED t")));
}

}  // namespace
}  // namespace clarion::gateway
