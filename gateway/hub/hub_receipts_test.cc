// Probes, and what the service is told of events that were sent.
#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gateway/hub/hub_fixture.h"

namespace clarion::gateway {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

class HubReceiptsTest : public HubTest {
 protected:
  void AwaitSent(const std::string& thread, uint64_t offset) {
    v1::ServiceMessage message;
    message.mutable_await_sent()->set_thread_id(thread);
    message.mutable_await_sent()->mutable_position()->set_epoch("e1");
    message.mutable_await_sent()->mutable_position()->set_offset(offset);
    Tell(std::move(message));
    Rest();
  }
  void Probe(const std::string& connection, const std::string& nonce) {
    v1::ServiceMessage message;
    message.mutable_probe()->set_connection_id(connection);
    message.mutable_probe()->set_nonce(nonce);
    Tell(std::move(message));
    Rest();
  }
  void Reply(FakeSubscriber* page, const std::string& nonce) {
    v1::ProbeReply reply;
    reply.set_nonce(nonce);
    hub_->ProbeReply(page, reply);
  }
  // What the service has heard since the last call.
  std::vector<std::string> TakeSent() {
    Rest();
    std::vector<std::string> sent;
    for (const auto& m : Heard(v1::GatewayMessage::kEventsSent)) {
      for (const v1::SentThread& thread : m.events_sent().threads()) {
        sent.push_back(absl::StrCat(thread.thread_id(), " ", thread.position().epoch(), ":",
                                    thread.position().offset()));
      }
    }
    heard_.clear();
    return sent;
  }
  std::vector<std::string> Answers() {
    Rest();
    std::vector<std::string> answers;
    for (const auto& m : Heard(v1::GatewayMessage::kProbeAnswered)) {
      answers.push_back(m.probe_answered().connection_id() + " " + m.probe_answered().nonce());
    }
    return answers;
  }
};

TEST_F(HubReceiptsTest, SaysAfterAWhileWhatWasWrittenAndOnce) {
  BeginFollowing("t", 3);
  EXPECT_THAT(TakeSent(), IsEmpty());
  timers_.Advance(milliseconds(200));
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:3"));
  link_.Append("t", 2);
  Rest();
  timers_.Advance(milliseconds(200));
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:5"));
  timers_.Advance(milliseconds(1000));
  EXPECT_THAT(TakeSent(), IsEmpty());
}

TEST_F(HubReceiptsTest, WhatWaitsForASocketWasNotSent) {
  page_.drained = false;
  BeginFollowing("t", 3);
  timers_.Advance(milliseconds(1000));
  EXPECT_THAT(TakeSent(), IsEmpty());
  page_.drained = true;
  timers_.Advance(milliseconds(200));
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:3"));
}

TEST_F(HubReceiptsTest, OneConnectionThatHasItIsEnough) {
  page_.drained = false;
  BeginFollowing("t", 3);
  FakeSubscriber other(Encoding::kJson);
  Open(&other, "d");
  Subscribe(&other, "t");
  Rest();
  timers_.Advance(milliseconds(200));
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:3"));
  // The other one takes it later: no news.
  page_.drained = true;
  timers_.Advance(milliseconds(1000));
  EXPECT_THAT(TakeSent(), IsEmpty());
}

TEST_F(HubReceiptsTest, WhatIsAwaitedIsSaidAtOnceAndAgain) {
  BeginFollowing("t", 3);
  AwaitSent("t", 4);
  timers_.Advance(milliseconds(1));
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:3"));
  link_.Append("t", 1);
  Rest();
  timers_.Advance(milliseconds(1));
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:4"));
  AwaitSent("t", 4);
  timers_.Advance(milliseconds(1));
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:4"));
  AwaitSent("elsewhere", 1);
  timers_.Advance(milliseconds(1000));
  EXPECT_THAT(TakeSent(), IsEmpty());
}

TEST_F(HubReceiptsTest, WhatIsAwaitedIsLookedForSoonAndLessAndLessOften) {
  BeginFollowing("t", 0);
  page_.drained = false;
  link_.Append("t", 1);
  Rest();
  AwaitSent("t", 1);
  timers_.Advance(milliseconds(10));
  page_.drained = true;
  timers_.Advance(milliseconds(10));
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:1"));
}

TEST_F(HubReceiptsTest, WhereASubscriptionBeginsIsNotWhatItWasSent) {
  Begin();
  link_.Append("t", 3);
  Open(&page_);
  Subscribe("t", "1", Live());
  Rest();
  AwaitSent("t", 3);
  timers_.Advance(milliseconds(1000));
  EXPECT_THAT(TakeSent(), IsEmpty());
  link_.Append("t", 1);
  Rest();
  timers_.Advance(milliseconds(200));
  Rest();
  const auto sent = Heard(v1::GatewayMessage::kEventsSent);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].events_sent().threads(0).from_offset(), 4u);
  EXPECT_EQ(sent[0].events_sent().threads(0).position().offset(), 4u);
}

TEST_F(HubReceiptsTest, WhatWasWrittenIsSaidAlsoWhileMoreWaits) {
  page_.drained = false;
  BeginFollowing("t", 3);
  timers_.Advance(milliseconds(200));
  EXPECT_THAT(TakeSent(), IsEmpty());
  page_.written = page_.sent_bytes;
  link_.Append("t", 5);
  Rest();
  timers_.Advance(milliseconds(200));
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:3"));
}

// By then so many bytes were written, but not these.
TEST_F(HubReceiptsTest, WhatWasTakenBackIsSentOnceItIsWrittenAgain) {
  BeginFollowing("t", 3);
  timers_.Advance(milliseconds(200));
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:3"));
  page_.holding = true;
  page_.drained = false;
  page_.written = page_.sent_bytes;
  link_.Append("t", 3);
  Rest();
  timers_.Advance(milliseconds(200));
  EXPECT_THAT(TakeSent(), IsEmpty());
  const uint64_t queued = page_.sent_bytes;
  hub_->OnOverflow(&page_);
  Rest();
  ASSERT_GT(page_.taken_back, 0);
  ASSERT_GT(page_.sent_bytes, queued) << "they are sent again";
  page_.written = queued;
  timers_.Advance(milliseconds(200));
  EXPECT_THAT(TakeSent(), IsEmpty());
  page_.written = page_.sent_bytes;
  timers_.Advance(milliseconds(200));
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:6"));
}

TEST_F(HubReceiptsTest, AThreadWithoutFollowersIsSaidNothingOf) {
  page_.drained = false;
  BeginFollowing("t", 3);
  hub_->Close(&page_, v1::CONNECTION_STATE_DISCONNECTED, "gone");
  timers_.Advance(milliseconds(1000));
  EXPECT_THAT(TakeSent(), IsEmpty());
}

TEST_F(HubReceiptsTest, ManyThreadsAreSaidInMessagesOfBoundedSize) {
  Begin();
  Open(&page_);
  v1::Subscribe all;
  all.set_all(true);
  hub_->Subscribe(&page_, all, "1");
  Rest();
  for (uint64_t i = 0; i < 1500; ++i) {
    const std::string thread = absl::StrCat("t", i);
    link_.Append(thread, 1);
    Bind(i + 1, thread, true);
  }
  timers_.Advance(milliseconds(200));
  Rest();
  EXPECT_EQ(Heard(v1::GatewayMessage::kEventsSent).size(), 2u);
  EXPECT_EQ(TakeSent().size(), 1500u);
}

TEST_F(HubReceiptsTest, AProbeGoesToThePageAndItsAnswerToTheService) {
  Begin();
  Open(&page_);
  Probe("c", "77");
  EXPECT_THAT(page_.frames.back().probe().nonce(), "77");
  Reply(&page_, "77");
  EXPECT_THAT(Answers(), ElementsAre("c 77"));
}

TEST_F(HubReceiptsTest, AnswersArePassedOnAsTheirConnectionsTheServiceKnowsWhatItAsked) {
  Begin();
  Open(&page_);
  FakeSubscriber other(Encoding::kJson);
  Open(&other, "d");
  Probe("c", "77");
  Probe("c", "78");
  Probe("nobody", "79");
  Reply(&page_, "77");
  Reply(&other, "78");
  EXPECT_THAT(Answers(), ElementsAre("c 77", "d 78"));
}

// ---- What was written last ----

class HubLastSentTest : public HubReceiptsTest {
 protected:
  // The page has been sent event 4, and the service has not heard of that yet.
  void BeginSent() {
    BeginFollowing("t", 3);
    timers_.Advance(milliseconds(200));
    link_.Append("t", 1);
    Rest();
    TakeSent();
  }
};

TEST_F(HubLastSentTest, IsSaidBeforeTheEndOfItsConnection) {
  BeginSent();
  hub_->Close(&page_, v1::CONNECTION_STATE_DISCONNECTED, "gone");
  Rest();
  ASSERT_EQ(heard_.size(), 2u);
  EXPECT_TRUE(heard_[1].has_connection_closed());
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:4"));
}

TEST_F(HubLastSentTest, IsSaidBeforeItsPageUnsubscribes) {
  BeginSent();
  v1::Unsubscribe unsubscribe;
  unsubscribe.set_thread_id("t");
  hub_->Unsubscribe(&page_, unsubscribe, "9");
  Rest();
  ASSERT_EQ(heard_.size(), 2u);
  EXPECT_TRUE(heard_[1].has_unsubscribe());
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:4"));
}

TEST_F(HubLastSentTest, IsSaidBeforeItsPageUnsubscribesFromAll) {
  Begin();
  link_.Append("t", 1);
  Open(&page_);
  v1::Subscribe all;
  all.set_all(true);
  hub_->Subscribe(&page_, all, "1");
  Bind(1, "t", /*all=*/true);
  heard_.clear();
  v1::Unsubscribe unsubscribe;
  unsubscribe.set_all(true);
  hub_->Unsubscribe(&page_, unsubscribe, "9");
  Rest();
  ASSERT_EQ(heard_.size(), 3u);
  EXPECT_TRUE(heard_[2].has_unsubscribe());
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:1"));
}

TEST_F(HubLastSentTest, IsSaidBeforeItsPageGoesElsewhere) {
  BeginSent();
  Subscribe("t", "2", After("e1", 2));
  Rest();
  ASSERT_FALSE(heard_.empty());
  EXPECT_TRUE(heard_[0].has_events_sent());
  EXPECT_THAT(TakeSent(), ElementsAre("t e1:4"));
}

// Offsets of a lost tail are given again.
TEST_F(HubLastSentTest, IsNotSaidOfTheEpochBefore) {
  BeginFollowing("t", 3);
  timers_.Advance(milliseconds(200));
  page_.drained = false;
  page_.written = page_.sent_bytes;
  link_.Append("t", 7);
  Rest();
  timers_.Advance(milliseconds(200));  // event 10 waits
  const uint64_t until = page_.sent_bytes;
  TakeSent();
  link_.RollBack("t", 5);
  link_.Append("t", 7);
  Rest();
  page_.written = until;
  hub_->Close(&page_, v1::CONNECTION_STATE_DISCONNECTED, "gone");
  EXPECT_THAT(TakeSent(), IsEmpty());
}

TEST_F(HubLastSentTest, IsNotSaidOfWhatWaitsForASocket) {
  BeginFollowing("t", 3);
  timers_.Advance(milliseconds(200));
  TakeSent();
  page_.drained = false;
  link_.Append("t", 1);
  Rest();
  hub_->Close(&page_, v1::CONNECTION_STATE_DISCONNECTED, "gone");
  EXPECT_THAT(TakeSent(), IsEmpty());
}

}  // namespace
}  // namespace clarion::gateway
