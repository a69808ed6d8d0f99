// Subscriptions to every thread of the user: confirmed, refused, asked for again.
#include <chrono>
#include <string>
#include <vector>

#include "gateway/hub/hub_fixture.h"

namespace clarion::gateway {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

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
    hub_->Subscribe(&page_, AllAfter({}), id);
    Rest();
  }
  // The page knows `thread` to offset 1.
  static v1::Subscribe AllAfter(const std::vector<std::string>& threads) {
    v1::Subscribe all;
    all.set_all(true);
    for (const std::string& thread : threads) {
      auto& position = *all.add_positions();
      position.set_thread_id(thread);
      position.set_epoch("e1");
      position.set_offset(1);
    }
    return all;
  }
  static v1::Unsubscribe Named(const std::string& thread) {
    v1::Unsubscribe unsubscribe;
    unsubscribe.set_thread_id(thread);
    return unsubscribe;
  }
  void RefuseAll(const std::string& reason) {
    v1::ServiceMessage refused;
    refused.mutable_all_subscribed()->set_subscription_id(
        Heard(v1::GatewayMessage::kSubscribeAll).back().subscribe_all().subscription_id());
    refused.mutable_all_subscribed()->set_reason(reason);
    Tell(refused);
    Rest();
  }
  size_t Ended() const { return Heard(v1::GatewayMessage::kUnsubscribe).size(); }
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

TEST_F(HubAllTest, ThatIsFullSaysWhichThreadIsLeftOut) {
  Begin();
  Open(&page_);
  SubscribeAll();
  page_.TakeLines();
  v1::ServiceMessage message;
  message.mutable_all_limited()->set_connection_id("c");
  message.mutable_all_limited()->set_thread_id("t");
  Tell(message);
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error RATE_LIMITED t"));
  v1::Unsubscribe all;
  all.set_all(true);
  hub_->Unsubscribe(&page_, all, "2");
  page_.TakeLines();
  Tell(message);
  Rest();
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

// The service keeps no claim on behalf of {all}.
TEST_F(HubAllTest, AThreadThatIsAskedForByNameMeanwhileIsAskedForAsAClaim) {
  Begin();
  Open(&page_);
  v1::Subscribe all;
  all.set_all(true);
  v1::ThreadPosition& at = *all.add_positions();
  at.set_thread_id("t");
  at.set_epoch("e1");
  at.set_offset(1);
  hub_->Subscribe(&page_, all, "1");
  link_.ServiceTakes();
  swallow_ = true;
  link_.StreamArrives(10);
  link_.ServiceTakes();
  ASSERT_TRUE(Heard(v1::GatewayMessage::kSubscribe).back().subscribe().no_claim());
  Subscribe("t", "2");
  AnswerClaim();
  link_.StreamArrives(10);
  link_.ServiceTakes();
  EXPECT_FALSE(Heard(v1::GatewayMessage::kSubscribe).back().subscribe().no_claim());
  page_.TakeLines();
  AnswerClaim();
  link_.StreamArrives(10);
  EXPECT_THAT(page_.TakeLines(), ElementsAre("claim t", "claim t #2"));
}

TEST_F(HubAllTest, AThreadThatGivesItsNameBackGoesOnWithAllOthersAndTakesNoPlace) {
  Begin({.subscriptions_per_connection = 2});
  link_.Append("t", 1);
  Open(&page_);
  SubscribeAll();
  Subscribe("t", "2");  // by its name before {all} has come to it
  Rest();
  Bind(1, "t", /*all=*/true);
  for (const std::string thread : {"t", "u", "t", "u"}) {
    SCOPED_TRACE(thread);
    if (thread == "u") Bind(2, "u", /*all=*/true);
    Subscribe(thread, "3");
    Rest();
    page_.TakeLines();
    const size_t ended = Ended();
    hub_->Unsubscribe(&page_, Named(thread), "4");
    Rest();
    EXPECT_THAT(page_.TakeLines(), ElementsAre("unsubscribed " + thread + " #4"));
    EXPECT_EQ(Ended(), ended);
  }
  link_.Append("t", 1);
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("event 2 v2"));
  Subscribe("u", "5");
  v1::Unsubscribe all;
  all.set_all(true);
  hub_->Unsubscribe(&page_, all, "6");
  Rest();
  page_.TakeLines();
  link_.Append("t", 1);
  link_.Append("u", 1);
  Rest();
  EXPECT_THAT(page_.TakeLines(),
              ElementsAre("subscribed u e1 1..1", "event 1 v4", "caught_up u 1"));
  hub_->Unsubscribe(&page_, Named("u"), "7");
  link_.Append("u", 1);
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("unsubscribed u #7"));
}

// Also what only looked as if it were one of all.
TEST_F(HubAllTest, AClaimThatIsNotWantedAnyMoreGivesItsSlotBack) {
  BeginBound();
  Subscribe("t", "2");
  for (int n = 0; n < 2; ++n) {
    AnswerClaim();
    Rest();
  }
  ASSERT_THAT(page_.TakeLines(), ElementsAre("claim t", "claim t #2"));
  const size_t ended = Ended();
  hub_->Unsubscribe(&page_, Named("t"), "3");
  Rest();
  EXPECT_GT(Ended(), ended);
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
  EXPECT_THAT(page_.TakeLines(),
              ElementsAre("subscribed t e1 1..2", "event 1 v1", "event 2 v2", "caught_up t 2"));
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
              ElementsAre("subscribed t e1 1..2 #7", "event 1 v1", "event 2 v2", "caught_up t 2"));
  timers_.Advance(std::chrono::minutes(5));
  Rest();
  EXPECT_THAT(page_.Lines(), IsEmpty());
}

// A page that was away while its thread was deleted would wait for it for ever.
TEST_F(HubAllTest, APageIsToldOfAThreadItKnowsThatIsNoneOfItsUsersAnyMore) {
  Begin({.subscriptions_per_connection = 1});
  link_.Append("mine", 2);
  Open(&page_);
  link_.on_message = [&](const v1::GatewayMessage& message) {
    heard_.push_back(message);
    if (!message.has_subscribe() || message.subscribe().thread_id() != "gone") return false;
    AnswerClaim();
    return true;
  };
  hub_->Subscribe(&page_, AllAfter({"mine", "gone"}), "1");
  Rest();
  const std::vector<std::string> lines = page_.TakeLines();
  ASSERT_THAT(lines, testing::SizeIs(6));
  EXPECT_EQ(lines[0], "subscribed all #1");
  EXPECT_THAT(lines, testing::Contains("claim gone"));
  EXPECT_THAT(lines, testing::IsSupersetOf({"bound mine", "subscribed mine e1 2..2", "event 2 v2",
                                            "caught_up mine 2"}));
  // It is not waited for, and nothing is kept of it.
  EXPECT_EQ(Heard(v1::GatewayMessage::kUnsubscribe).size(), 1u);
  // The service binds both all the same: what follows is confirmed, what does not begins anew.
  Bind(1, "mine", /*all=*/true);
  EXPECT_THAT(page_.TakeLines(), IsEmpty());
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_CONFIRMED));
  link_.on_message = nullptr;
  Bind(2, "gone", /*all=*/true);
  EXPECT_THAT(page_.TakeLines(),
              ElementsAre("bound gone", "subscribed gone  1..0", "caught_up gone 0"));
}

TEST_F(HubAllTest, ThreadsThatAPageNamesAreBounded) {
  Begin();
  Open(&page_);
  std::vector<std::string> threads;
  threads.reserve(1'024);
  for (int i = 0; i < 1'024; ++i) threads.push_back("t" + std::to_string(i));
  for (const std::string& thread : threads) link_.Append(thread, 1);
  hub_->Subscribe(&page_, AllAfter(threads), "1");
  Rest();
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).size(), 1'024u);
  page_.TakeLines();
  hub_->Subscribe(&page_, AllAfter({"t0", "more"}), "2");
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("subscribed all #2", "error RATE_LIMITED more"));
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).size(), 1'024u);
}

}  // namespace
}  // namespace clarion::gateway
