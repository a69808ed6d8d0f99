// Connections that exist for one request: what their pages know, they are not told again, and the
// service keeps their place.
#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gateway/hub/hub_fixture.h"

namespace clarion::gateway {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

class HubPollTest : public HubTest {
 protected:
  void BeginPoll(int events) {
    Begin();
    if (events > 0) link_.Append("t", events);
    OpenPoll(&page_);
  }
  void OpenPoll(FakeSubscriber* page, const std::string& id = "c") {
    page->polls = true;
    hub_->Open(page,
               {.id = ConnectionId(id), .user = UserId("u"), .transport = v1::TRANSPORT_POLLING});
  }
  void Resume(const std::string& epoch, uint64_t offset) {
    Hub::Resumption resumption;
    resumption.at.set_thread_id("t");
    resumption.at.set_epoch(epoch);
    resumption.at.set_offset(offset);
    hub_->Resume(&page_, resumption);
    HubTest::Rest();
  }
  // What the page was told; of events their offsets.
  std::vector<std::string> Told() {
    std::vector<std::string> lines = page_.TakeLines();
    for (std::string& line : lines) {
      if (line.starts_with("event ")) line.erase(line.rfind(' '));
    }
    return lines;
  }
  void End() {
    hub_->BeginRest(&page_);
    page_.drained = true;
    BeGone();
  }
  void BeGone() {
    hub_->Rest(&page_, seconds(30));
    HubTest::Rest();
  }
};

TEST_F(HubPollTest, WhoStandsAtTheEndIsToldNothingUntilSomethingComes) {
  BeginPoll(3);
  Resume("e1", 3);
  EXPECT_THAT(Told(), IsEmpty());
  EXPECT_TRUE(hub_->Settled(&page_));
  link_.Append("t", 1);
  HubTest::Rest();
  EXPECT_THAT(Told(), ElementsAre("event 4"));
}

TEST_F(HubPollTest, WhoIsBehindGetsTheEventsAlone) {
  BeginPoll(3);
  Resume("e1", 1);
  EXPECT_THAT(Told(), ElementsAre("event 2", "event 3", "caught_up t 3"));
}

TEST_F(HubPollTest, WhatAPageCannotKnowItIsTold) {
  BeginPoll(3);
  Resume("e0", 2);
  const auto lines = Told();
  ASSERT_GE(lines.size(), 2u);
  EXPECT_THAT(lines[0], testing::StartsWith("subscribed t e1"));
  EXPECT_THAT(lines[1], testing::StartsWith("missed "));
}

TEST_F(HubPollTest, WhoWasToldOfAnEmptyThreadGetsItFromItsFirstEvent) {
  BeginPoll(0);
  Resume("", 0);
  EXPECT_THAT(Told(), IsEmpty());
  End();
  link_.Append("t", 2);
  OpenPoll(&page_);
  Resume("", 0);
  EXPECT_THAT(Told(), ElementsAre("subscribed t e1 1..2", "event 1", "event 2", "caught_up t 2"));
  // Not at what its user has not acknowledged, which may be later.
  EXPECT_TRUE(Heard(v1::GatewayMessage::kSubscribe).back().subscribe().has_after());
}

TEST_F(HubPollTest, AClaimIsToldOnce) {
  Begin();
  OpenPoll(&page_);
  swallow_ = true;
  Resume("", 0);
  link_.ServiceTakes();
  EXPECT_FALSE(hub_->Settled(&page_)) << "the service has not answered";
  AnswerClaim();
  link_.StreamArrives(10);
  EXPECT_THAT(Told(), IsEmpty());
  EXPECT_TRUE(hub_->Settled(&page_));
}

// Between two polls; its page cannot tell it from an empty thread.
TEST_F(HubPollTest, WhoWasToldOfAClaimIsToldThatTheThreadIsTheirs) {
  Begin();
  OpenPoll(&page_);
  swallow_ = true;
  Resume("", 0);
  link_.ServiceTakes();
  v1::ServiceMessage message;
  message.mutable_started()->set_subscription_id(SubscriptionId());
  message.mutable_started()->set_from_offset(1);
  message.mutable_started()->set_was_claim(true);
  Tell(message);
  link_.StreamArrives(10);
  EXPECT_THAT(Told(), ElementsAre("subscribed t  1..0", "caught_up t 0"));
  HubTest::Rest();
  EXPECT_THAT(Heard(v1::GatewayMessage::kConfirmed), IsEmpty());
  End();
  EXPECT_EQ(Heard(v1::GatewayMessage::kConfirmed).size(), 1u);
}

// It went live while the page waited: its answer is the first that says so.
TEST_F(HubPollTest, AClaimThatIsTheUsersNowIsHeardWithTheAnswer) {
  Begin();
  OpenPoll(&page_);
  swallow_ = true;
  Resume("", 0);
  link_.ServiceTakes();
  AnswerClaim();
  link_.StreamArrives(10);
  v1::ServiceMessage message;
  message.mutable_started()->set_subscription_id(SubscriptionId());
  message.mutable_started()->set_from_offset(1);
  Tell(message);
  HubTest::Rest();
  EXPECT_THAT(Heard(v1::GatewayMessage::kConfirmed), IsEmpty());
  End();
  EXPECT_EQ(Heard(v1::GatewayMessage::kConfirmed).size(), 1u);
}

// So does a service that has started anew know of no claim.
TEST_F(HubPollTest, AThreadThatItsPageTookForEmptyIsHeardWithTheAnswer) {
  BeginPoll(2);
  Resume("", 0);
  EXPECT_THAT(Told(), ElementsAre("subscribed t e1 1..2", "event 1", "event 2", "caught_up t 2"));
  EXPECT_THAT(Heard(v1::GatewayMessage::kConfirmed), IsEmpty());
  End();
  EXPECT_EQ(Heard(v1::GatewayMessage::kConfirmed).size(), 1u);
}

TEST_F(HubPollTest, TheServiceHearsWhatWasWrittenAndThenThatItRests) {
  BeginPoll(0);
  page_.drained = false;
  link_.Append("t", 2);
  Resume("e1", 0);
  // An event that came since the service was last told waits too.
  timers_.Advance(seconds(1));
  link_.Append("t", 1);
  HubTest::Rest();
  hub_->BeginRest(&page_);
  page_.written = page_.sent_bytes;
  link_.Append("t", 1);  // comes too late for the answer
  HubTest::Rest();
  heard_.clear();
  BeGone();
  ASSERT_EQ(heard_.size(), 2u);
  const v1::SentThread& sent = heard_[0].events_sent().threads(0);
  EXPECT_EQ(sent.from_offset(), 1u);
  EXPECT_EQ(sent.position().offset(), 3u);
  EXPECT_EQ(heard_[1].connection_closed().lease().seconds(), 30);
}

TEST_F(HubPollTest, ALimitOfAllThreadsIsTold) {
  Begin();
  OpenPoll(&page_);
  const auto limited = [&] {
    v1::ServiceMessage message;
    message.mutable_all_limited()->set_connection_id("c");
    message.mutable_all_limited()->set_thread_id("t");
    Tell(message);
    HubTest::Rest();
  };
  v1::Subscribe all;
  all.set_all(true);
  hub_->Subscribe(&page_, all, "1");
  HubTest::Rest();
  limited();
  EXPECT_THAT(Told(), ElementsAre("subscribed all #1", "error RATE_LIMITED t"));
  End();
  OpenPoll(&page_);
  hub_->ResumeAll(&page_, /*full=*/false);
  HubTest::Rest();
  limited();
  EXPECT_THAT(Told(), ElementsAre("error RATE_LIMITED t")) << "the service knows what was told";
  const auto was_told = [&] {
    return Heard(v1::GatewayMessage::kConnectionClosed).back().connection_closed().limit_told();
  };
  EXPECT_TRUE(was_told());
  // It is not told what its answer does not hold, nor what is lost with it.
  hub_->BeginRest(&page_);
  limited();
  EXPECT_THAT(Told(), IsEmpty());
  page_.drained = false;
  BeGone();
  EXPECT_FALSE(was_told());
  OpenPoll(&page_);
  hub_->ResumeAll(&page_, /*full=*/false);
  limited();
  hub_->BeginRest(&page_);
  BeGone();
  EXPECT_FALSE(was_told());
  // What was left out of the answer is not waited for.
  OpenPoll(&page_);
  hub_->ResumeAll(&page_, /*full=*/false);
  limited();
  page_.written = page_.sent_bytes -= 1;
  hub_->BeginRest(&page_);
  BeGone();
  EXPECT_TRUE(was_told());
}

TEST_F(HubPollTest, WhatAPageIsBoundToItHasHeardWhenItsAnswerIsWritten) {
  Begin();
  link_.Append("t", 1);
  const auto confirmed = [&] { return Heard(v1::GatewayMessage::kConfirmed).size(); };
  OpenPoll(&page_);
  Bind(1, "t");
  EXPECT_THAT(Told(), ElementsAre("bound t", "subscribed t e1 1..1", "event 1", "caught_up t 1"));
  EXPECT_EQ(confirmed(), 0u);
  hub_->BeginRest(&page_);
  page_.drained = false;
  BeGone();
  EXPECT_THAT(BindOutcomes(), IsEmpty()) << "its answer was lost: the service asks again";
  EXPECT_EQ(confirmed(), 0u);
  // Nor does a link that comes back make it heard.
  OpenPoll(&page_);
  Bind(1, "t");
  EXPECT_THAT(Told(), ElementsAre("bound t", "subscribed t e1 1..1", "event 1", "caught_up t 1"));
  link_.Down();
  link_.Up();
  HubTest::Rest();
  EXPECT_TRUE(Heard(v1::GatewayMessage::kSubscribe).back().subscribe().unheard());
  Bind(2, "t");
  EXPECT_THAT(BindOutcomes(), IsEmpty());
  heard_.clear();
  End();
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_CONFIRMED));
  EXPECT_EQ(confirmed(), 1u);
  EXPECT_TRUE(heard_.back().has_connection_closed());
  // What was left out of the answer is not waited for.
  OpenPoll(&page_);
  Bind(1, "t");
  page_.drained = false;
  page_.written = page_.sent_bytes = 1;
  hub_->BeginRest(&page_);
  BeGone();
  EXPECT_EQ(confirmed(), 2u);
}

TEST_F(HubPollTest, WhatAPageNamesItselfItHasHeard) {
  BeginPoll(1);
  Resume("e1", 1);
  EXPECT_EQ(Heard(v1::GatewayMessage::kConfirmed).size(), 1u);
  Bind(1, "t");
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_CONFIRMED));
  link_.Down();
  link_.Up();
  HubTest::Rest();
  const v1::SubscribeThread again = Heard(v1::GatewayMessage::kSubscribe).back().subscribe();
  EXPECT_TRUE(again.restored());
  EXPECT_FALSE(again.unheard());
}

// Between its answer and the end of that.
TEST_F(HubPollTest, WhatAPageIsBoundToWhenItHearsNothingMoreItIsBoundToWithTheNextPoll) {
  Begin();
  link_.Append("t", 1);
  link_.Append("u", 1);
  OpenPoll(&page_);
  HubTest::Rest();
  Told();
  v1::ServiceMessage bind;
  bind.mutable_bind()->set_bind_id(1);
  bind.mutable_bind()->set_connection_id("c");
  bind.mutable_bind()->set_thread_id("t");
  Tell(bind);
  link_.StreamArrives(1);  // the gateway asks for the thread
  hub_->BeginRest(&page_);
  Bind(2, "u");
  EXPECT_THAT(Heard(v1::GatewayMessage::kConfirmed), IsEmpty());
  EXPECT_EQ(Heard(v1::GatewayMessage::kSubscribe).size(), 1u) << "nobody would hear of the other";
  BeGone();
  EXPECT_THAT(BindOutcomes(), IsEmpty()) << "the service asks again";
  // Nor if the log has not answered by then.
  OpenPoll(&page_);
  Tell(bind);
  link_.ServiceTakes();
  link_.StreamArrives(1);
  hub_->BeginRest(&page_);
  BeGone();
  EXPECT_THAT(BindOutcomes(), IsEmpty());
}

// Its page could not say of more where it stands.
TEST_F(HubPollTest, FollowsNoMoreThreadsThanItsPageMayName) {
  Begin();
  OpenPoll(&page_);
  v1::Subscribe all;
  all.set_all(true);
  hub_->Subscribe(&page_, all, "1");
  for (int i = 0; i < 1'024; ++i) {
    Hub::Resumption resumption{.by_all = true};
    resumption.at.set_thread_id(absl::StrCat("t", i));
    hub_->Resume(&page_, resumption);
  }
  HubTest::Rest();
  Told();
  Bind(1, "t7", /*all=*/true);
  Bind(2, "more", /*all=*/true);
  Bind(3, "more");
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_CONFIRMED, v1::BIND_OUTCOME_LIMIT,
                                          v1::BIND_OUTCOME_LIMIT));
  Subscribe("more", "9");
  EXPECT_THAT(Told(), ElementsAre("error RATE_LIMITED more #9"));
  // Another transport has no such limit.
  FakeSubscriber other{Encoding::kJson};
  HubTest::Open(&other, "d");
  hub_->Subscribe(&other, all, "1");
  for (int i = 0; i < 1'025; ++i) Bind(10, absl::StrCat("t", i), /*all=*/true, "d");
  EXPECT_EQ(BindOutcomes().back(), v1::BIND_OUTCOME_CONFIRMED);
}

// A service that comes back and has nothing new says nothing that its page would hear.
TEST_F(HubPollTest, APollLearnsThatItIsSettledAgainAfterTheLinkWasAway) {
  BeginPoll(3);
  Resume("e1", 3);
  link_.Append("t", 1);
  HubTest::Rest();
  EXPECT_THAT(Told(), ElementsAre("event 4"));
  page_.done = 0;
  link_.Down();
  EXPECT_FALSE(hub_->Settled(&page_));
  EXPECT_TRUE(hub_->Answered(&page_));
  EXPECT_GT(page_.done, 0) << "what it has need not wait";
  page_.done = 0;
  link_.Up();
  HubTest::Rest();
  EXPECT_TRUE(hub_->Settled(&page_));
  EXPECT_THAT(Told(), IsEmpty());
  EXPECT_GT(page_.done, 0);
}

TEST_F(HubPollTest, AConnectionThatNoPageSeesMakesNobodyReady) {
  Begin();
  link_.Append("t", 1);
  page_.polls = true;
  hub_->Open(&page_, {.id = ConnectionId("c"),
                      .user = UserId("u"),
                      .transport = v1::TRANSPORT_POLLING,
                      .unseen = true});
  Resume("e1", 1);
  Bind(1, "t");
  Bind(2, "other");
  v1::ServiceMessage probe;
  probe.mutable_probe()->set_connection_id("c");
  probe.mutable_probe()->set_nonce("n");
  Tell(probe);
  HubTest::Rest();
  EXPECT_THAT(BindOutcomes(), ElementsAre(v1::BIND_OUTCOME_GONE, v1::BIND_OUTCOME_GONE));
  EXPECT_THAT(Heard(v1::GatewayMessage::kConfirmed), IsEmpty());
  EXPECT_THAT(Told(), IsEmpty());
  link_.Append("t", 1);
  HubTest::Rest();
  EXPECT_THAT(Told(), ElementsAre("event 2"));
  link_.Down();
  link_.Up();
  HubTest::Rest();
  EXPECT_TRUE(Heard(v1::GatewayMessage::kSubscribe).back().subscribe().unheard());
  End();
  EXPECT_THAT(Heard(v1::GatewayMessage::kConfirmed), IsEmpty());
}

// The answer to an opening that another one has followed since.
TEST_F(HubPollTest, ARefusalIsOfTheOpeningThatItNames) {
  Begin();
  OpenPoll(&page_);
  HubTest::Rest();
  const uint64_t first =
      Heard(v1::GatewayMessage::kConnectionOpened).back().connection_opened().opening();
  EXPECT_GT(first, 0u);
  BeGone();
  OpenPoll(&page_);
  HubTest::Rest();
  const uint64_t second =
      Heard(v1::GatewayMessage::kConnectionOpened).back().connection_opened().opening();
  v1::ServiceMessage refused;
  refused.mutable_connection_refused()->set_connection_id("c");
  refused.mutable_connection_refused()->set_reason("NOT_FOUND");
  refused.mutable_connection_refused()->set_opening(first);
  Tell(refused);
  HubTest::Rest();
  EXPECT_EQ(page_.closed, CloseCode::kNormal);
  refused.mutable_connection_refused()->set_opening(second);
  Tell(refused);
  HubTest::Rest();
  EXPECT_EQ(page_.closed, CloseCode::kForbidden);
  // Its page asks elsewhere by now: it is no fault.
  refused.mutable_connection_refused()->set_overtaken(true);
  Tell(refused);
  HubTest::Rest();
  EXPECT_EQ(page_.closed, CloseCode::kNormal);
  // Unless it waits here for an answer: it is to ask again.
  Subscribe("t");
  Tell(refused);
  link_.StreamArrives(1);
  EXPECT_EQ(page_.closed, CloseCode::kUnavailable);
}

TEST_F(HubPollTest, WhoAsksForAllThreadsOnceMoreIsAnswered) {
  Begin();
  OpenPoll(&page_);
  hub_->ResumeAll(&page_, /*full=*/false);
  v1::Subscribe all;
  all.set_all(true);
  hub_->Subscribe(&page_, all, "1");
  HubTest::Rest();
  EXPECT_THAT(Told(), ElementsAre("subscribed all #1"));
}

TEST_F(HubPollTest, AllThreadsAreSettledOnceTheServiceHasNamedThem) {
  Begin();
  v1::ServiceMessage welcome;
  welcome.mutable_welcome()->add_capabilities("all_listed");
  Tell(welcome);
  link_.Append("t", 2);
  OpenPoll(&page_);
  v1::Subscribe all;
  all.set_all(true);
  hub_->Subscribe(&page_, all, "1");
  HubTest::Rest();
  EXPECT_THAT(Told(), ElementsAre("subscribed all #1"));
  EXPECT_TRUE(hub_->Answered(&page_));
  EXPECT_FALSE(hub_->Settled(&page_)) << "its threads are not named yet";
  Bind(1, "t", /*all=*/true);
  v1::ServiceMessage listed;
  listed.mutable_all_subscribed()->set_subscription_id(
      Heard(v1::GatewayMessage::kSubscribeAll).back().subscribe_all().subscription_id());
  Tell(listed);
  HubTest::Rest();
  EXPECT_THAT(Told(), ElementsAre("bound t", "subscribed t e1 1..2", "event 1", "event 2",
                                  "caught_up t 2"));
  EXPECT_TRUE(hub_->Settled(&page_));
}

TEST_F(HubPollTest, WhatIsUnansweredAndWhatIsNotSentYetAreToldApart) {
  Begin();
  link_.Append("t", 2);
  OpenPoll(&page_);
  page_.room = false;
  Subscribe("t");
  EXPECT_FALSE(hub_->Answered(&page_));
  HubTest::Rest();
  EXPECT_THAT(Told(), ElementsAre("subscribed t e1 1..2 #1"));
  EXPECT_TRUE(hub_->Answered(&page_));
  EXPECT_FALSE(hub_->Settled(&page_)) << "its events wait";
  v1::Ack ack;
  ack.set_thread_id("t");
  ack.set_epoch("e1");
  ack.set_offset(1);
  hub_->Ack(&page_, ack, "9");
  EXPECT_FALSE(hub_->Answered(&page_));
}

TEST_F(HubPollTest, APageThatComesBackBeforeItHasGoneTakesThePlaceOfItself) {
  BeginPoll(1);
  Resume("e1", 1);
  FakeSubscriber again{Encoding::kJson};
  heard_.clear();
  OpenPoll(&again);
  HubTest::Rest();
  ASSERT_EQ(heard_.size(), 2u);
  EXPECT_TRUE(heard_[0].connection_closed().has_lease());
  EXPECT_TRUE(heard_[1].has_connection_opened());
  EXPECT_EQ(page_.closed, CloseCode::kNormal);
  // What the older one does now is its own.
  hub_->Rest(&page_, seconds(30));
  HubTest::Rest();
  EXPECT_EQ(heard_.size(), 2u);
  // Should a page wait for it all the same, it asks again for what was not answered.
  Subscribe(&again, "other");
  OpenPoll(&page_);
  EXPECT_EQ(again.closed, CloseCode::kUnavailable);
}

TEST_F(HubPollTest, NobodyTakesAnotherUsersConnection) {
  BeginPoll(1);
  Resume("e1", 1);
  FakeSubscriber thief{Encoding::kJson};
  heard_.clear();
  hub_->Open(
      &thief,
      {.id = ConnectionId("c"), .user = UserId("thief"), .transport = v1::TRANSPORT_POLLING});
  EXPECT_EQ(thief.closed, CloseCode::kForbidden);
  hub_->Rest(&thief, seconds(30));
  HubTest::Rest();
  EXPECT_THAT(heard_, IsEmpty());
  EXPECT_EQ(page_.closed, CloseCode::kNormal) << "it was never closed";
}

TEST_F(HubPollTest, AnAnswerToAProbeOfAnEarlierPollIsPassedOn) {
  BeginPoll(0);
  v1::ProbeReply reply;
  reply.set_nonce("n");
  hub_->ProbeReply(&page_, reply);
  HubTest::Rest();
  ASSERT_EQ(Heard(v1::GatewayMessage::kProbeAnswered).size(), 1u);
}

TEST_F(HubPollTest, FramesForAConnectionReachItIfItIsTheirUsers) {
  BeginPoll(0);
  const auto deliver = [&](const std::string& user) {
    v1::ServiceMessage message;
    v1::DeliverFrames& frames = *message.mutable_deliver_frames();
    frames.set_deliver_id(7);
    frames.mutable_frames()->set_connection_id("c");
    frames.mutable_frames()->set_user_id(user);
    frames.mutable_frames()->set_sequence(1);
    Tell(std::move(message));
    HubTest::Rest();
    return Heard(v1::GatewayMessage::kFramesDelivered).back().frames_delivered();
  };
  page_.passed = {.ok = true, .next_sequence = 2};
  EXPECT_EQ(deliver("u").next_sequence(), 2u);
  EXPECT_EQ(deliver("u").reason(), "");
  EXPECT_EQ(deliver("other").reason(), "NOT_FOUND");
}

}  // namespace
}  // namespace clarion::gateway
