// What the hub pulls, and for whom: threads that lag, slow connections, pages in turns.
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "gateway/hub/hub_fixture.h"
#include "proto/contract/error.h"
#include "telemetry/metrics.h"

namespace clarion::gateway {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

class HubPullTest : public HubTest {
 protected:
  // The page and `other` follow a thread that the service says no more of.
  void BeginLagging(FakeSubscriber& other) {
    Begin();
    Open(&page_);
    Open(&other, "d");
    Subscribe("t");
    Subscribe(&other, "t");
    link_.Append("t");
    Rest();
    page_.TakeLines();
    other.TakeLines();
    link_.full = true;
    link_.Append("t", 3);
    link_.full = false;
  }
  // Every page fails for so long.
  void FailPagesFor(milliseconds time) {
    for (milliseconds waited{0}; waited < time; waited += milliseconds(100)) {
      while (link_.FailPage()) link_.PageArrives();
      timers_.Advance(milliseconds(100));
      link_.ServiceTakes();
      link_.StreamArrives(10);
    }
  }
};

TEST_F(HubPullTest, PullsForALaggingThreadOnceForAllAndFollows) {
  FakeSubscriber other(Encoding::kJson);
  BeginLagging(other);
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

TEST_F(HubPullTest, ASlowConnectionPullsWhenItHasRoomAndHoldsUpNobody) {
  Begin();
  link_.Append("t", 6);
  Open(&page_);
  FakeSubscriber other(Encoding::kProto);
  Open(&other, "d");
  page_.room = false;
  Subscribe("t");
  Subscribe(&other, "t");
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("subscribed t e1 1..6 #1"));
  EXPECT_EQ(other.Lines().back(), "caught_up t 6");
  page_.room = true;
  hub_->OnRoom(&page_);
  Rest();
  EXPECT_EQ(page_.Lines().back(), "caught_up t 6");
}

// Else a thread with many followers that come back at once costs their square.
TEST_F(HubPullTest, WhoWaitsForRoomIsNotLookedAtForEveryEventNorForEveryOneThatJoins) {
  Begin();
  link_.Append("t", 6);
  FakeSubscriber slow(Encoding::kProto);
  slow.room = false;
  Open(&slow, "slow");
  Subscribe(&slow, "t");
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

TEST_F(HubPullTest, WhatWaitsForASlowConnectionIsTakenBackAndComesCompacted) {
  BeginFollowing("t", 1);
  link_.compacts = true;
  FakeSubscriber other(Encoding::kProto);
  Open(&other, "d");
  Subscribe(&other, "t");
  Rest();
  other.TakeLines();
  page_.holding = true;
  page_.room = false;
  link_.Append("t", 7);
  Rest();
  hub_->OnOverflow(&page_);
  EXPECT_EQ(page_.held(), 1u) << "the one that is being written";
  link_.Append("t", 1);
  Rest();
  EXPECT_EQ(page_.held(), 1u) << "nothing more while there is no room";
  EXPECT_THAT(other.Lines(), ElementsAre("event 2 v2", "event 3 v3", "event 4 v4", "event 5 v5",
                                         "event 6 v6", "event 7 v7", "event 8 v8", "event 9 v9"))
      << "others are undisturbed";
  page_.holding = false;
  page_.Release();
  page_.room = true;
  hub_->OnRoom(&page_);
  Rest();
  EXPECT_THAT(page_.TakeLines(),
              ElementsAre("event 2 v2", "event 3 v3", "event 4..6 v6", "event 7..9 v9"));
  link_.Append("t", 1);
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("event 10 v10")) << "live again";
}

TEST_F(HubPullTest, WhatIsTakenBackOfAThreadThatIsReplayedInFullComesInFull) {
  Begin();
  link_.compacts = true;
  link_.Append("t", 1);
  Open(&page_);
  v1::Subscribe full;
  full.set_history(v1::HISTORY_FULL);
  Subscribe("t", "1", full);
  Rest();
  page_.TakeLines();
  page_.holding = true;
  link_.Append("t", 3);
  link_.StreamArrives(10);
  hub_->OnOverflow(&page_);
  page_.holding = false;
  page_.Release();
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("event 2 v2", "event 3 v3", "event 4 v4"));
}

// Else a gap would hide behind the `subscribed`.
TEST_F(HubPullTest, WhatStandsBeforeAnAnswerIsNotTakenBack) {
  BeginFollowing("t", 1);
  page_.holding = true;
  link_.Append("t", 3);
  Rest();
  Subscribe("t", "again");
  Rest();
  link_.Append("t", 2);
  link_.StreamArrives(10);
  hub_->OnOverflow(&page_);
  EXPECT_EQ(page_.taken_back, 2);
  page_.holding = false;
  page_.Release();
  Rest();
  EXPECT_THAT(page_.TakeLines(),
              ElementsAre("event 2 v2", "event 3 v3", "event 4 v4", "subscribed t e1 5..4 #again",
                          "caught_up t 4", "event 5 v5", "event 6 v6"));
}

TEST_F(HubPullTest, WhileTheLinkIsAwayNothingIsTakenBack) {
  BeginFollowing("t", 1);
  page_.holding = true;
  link_.Append("t", 3);
  Rest();
  link_.Down();
  hub_->OnOverflow(&page_);
  EXPECT_EQ(page_.taken_back, 0);
  page_.holding = false;
  page_.Release();
  link_.Up();
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("event 2 v2", "event 3 v3", "event 4 v4"));
}

TEST_F(HubPullTest, AsksForPagesCompactedUnlessTheSubscriptionWantsAll) {
  Begin({.page_events = 77});
  link_.Append("a", 1);
  link_.Append("b", 1);
  Open(&page_);
  FakeSubscriber other(Encoding::kProto);
  Open(&other, "d");
  Subscribe("a");
  v1::Subscribe full;
  full.set_history(v1::HISTORY_FULL);
  Subscribe(&other, "b", "", full);
  link_.ServiceTakes();
  link_.StreamArrives(10);
  ASSERT_EQ(link_.asked.size(), 2u);
  for (const ModelLink::Asked& ask : link_.asked) {
    EXPECT_EQ(ask.request.compact(), ask.request.thread_id() == "a");
    EXPECT_EQ(ask.request.max_events(), 77u);
  }
}

TEST_F(HubPullTest, ThreadsThatJoinByAllAreReplayedAsItSaid) {
  Begin();
  link_.Append("t", 1);
  Open(&page_);
  v1::Subscribe all;
  all.set_all(true);
  all.set_history(v1::HISTORY_FULL);
  hub_->Subscribe(&page_, all, "1");
  Rest();
  v1::ServiceMessage bind;
  bind.mutable_bind()->set_bind_id(1);
  bind.mutable_bind()->set_connection_id("c");
  bind.mutable_bind()->set_thread_id("t");
  bind.mutable_bind()->set_all(true);
  Tell(bind);
  link_.StreamArrives(10);
  link_.ServiceTakes();
  link_.StreamArrives(10);
  ASSERT_EQ(link_.asked.size(), 1u);
  EXPECT_FALSE(link_.asked[0].request.compact());
}

TEST_F(HubPullTest, PullsForAtMostSoManyAtATimeInTurns) {
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

TEST_F(HubPullTest, AConnectionThatReplaysManyThreadsIsNeverSentMoreThanMayWaitForIt) {
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

TEST_F(HubPullTest, LiveEventsWaitBehindNoMoreOfAReplayThanThereIsRoomFor) {
  constexpr size_t kBound = 64 * 1024;
  Begin({.page_bytes = kBound / 4});
  link_.page_events = 1'000;
  link_.padding = 1'000;
  link_.Append("live");
  Open(&page_);
  FakeSubscriber other(Encoding::kProto);
  Open(&other, "d");
  Subscribe("live");
  Subscribe(&other, "live");
  Rest();
  for (int i = 0; i < 10; ++i) {
    link_.Append(absl::StrCat("t", i), 100);
    Subscribe(absl::StrCat("t", i));
  }
  page_.bound = kBound;
  page_.queued = 0;
  size_t most = 0;
  int live = 0;
  for (int turn = 0; turn < 200; ++turn) {
    link_.Move();
    if (turn % 5 == 0) {
      // Nothing that is under way for replays holds it up.
      other.TakeLines();
      most = std::max(most, page_.queued);
      link_.Append("live");
      link_.StreamArrives(1'000);
      EXPECT_EQ(other.Lines().size(), 1u);
      ++live;
    }
    if (turn % 20 == 0) {
      page_.queued = 0;
      hub_->OnRoom(&page_);
    }
  }
  EXPECT_GT(live, 20);
  EXPECT_GT(most, kBound / 4);
  EXPECT_LE(most, kBound * 3 / 4 + static_cast<size_t>(live) * 1'200);
}

TEST_F(HubPullTest, HasOnePageUnderWayForEachConnection) {
  Begin();
  FakeSubscriber other(Encoding::kProto);
  Open(&page_);
  Open(&other, "d");
  for (const char* thread : {"a", "b", "c"}) {
    link_.Append(thread, 1);
    Subscribe(thread);
  }
  Subscribe(&other, "b");
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

TEST_F(HubPullTest, APageThatALostLinkOwesHoldsUpNoConnection) {
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

TEST_F(HubPullTest, AsksAgainForAPageThatFailedAfterAWhile) {
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

TEST_F(HubPullTest, AThreadThatCannotBeReadIsSaidAndAskedForAgain) {
  Begin();
  link_.Append("t", 1);
  Open(&page_);
  Subscribe("t");
  link_.ServiceTakes();
  link_.StreamArrives(10);
  page_.TakeLines();
  const Counter& failures =
      GetCounter("clarion_failures_total", "", {{"reason", "LOG_UNAVAILABLE"}});
  const uint64_t before = failures.value();
  testing::internal::CaptureStderr();
  FailPagesFor(milliseconds(9'900));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(page_.TakeLines(), IsEmpty()) << "it may yet come";
  EXPECT_GE(failures.value(), before + 5);
  EXPECT_THAT(log, testing::HasSubstr("no page now"));
  EXPECT_THAT(log, testing::HasSubstr("user_id=u"));
  EXPECT_THAT(log, testing::HasSubstr("thread_id=t"));
  for (int i = 0; i < 100 && page_.frames.empty(); ++i) FailPagesFor(milliseconds(100));
  ASSERT_EQ(page_.frames.size(), 1u);
  EXPECT_GT(page_.frames[0].error().retry_after_ms(), 0u);
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error LOG_UNAVAILABLE t"));
  link_.ServiceTakes();
  EXPECT_TRUE(link_.threads["t"].running.empty());
  link_.Append("t", 1);
  timers_.Advance(milliseconds(1'000));
  Rest();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("event 1 v1", "event 2 v2", "caught_up t 2"));
}

TEST_F(HubPullTest, APageThatComesEndsTheTimeOfThoseThatFail) {
  Begin();
  link_.page_events = 1;
  link_.Append("t", 3);
  Open(&page_);
  Subscribe("t");
  link_.ServiceTakes();
  link_.StreamArrives(10);
  for (int i = 0; i < 2; ++i) {
    FailPagesFor(milliseconds(7'000));
    timers_.Advance(milliseconds(5'000));
    link_.PageIsRead();
    link_.PageArrives();
  }
  Rest();
  EXPECT_THAT(page_.Lines(), ElementsAre("subscribed t e1 1..3 #1", "event 1 v1", "event 2 v2",
                                         "event 3 v3", "caught_up t 3"));
}

TEST_F(HubPullTest, AThreadThatCanNeverBeReadEndsAtOnce) {
  Begin();
  link_.Append("t", 1);
  Open(&page_);
  Subscribe("t");
  link_.ServiceTakes();
  link_.StreamArrives(10);
  page_.TakeLines();
  link_.FailPage(MakeError(Reason::kContextInvalid, "thread_id is not an id"));
  link_.PageArrives();
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error CONTEXT_INVALID t"));
  timers_.Advance(std::chrono::minutes(5));
  link_.ServiceTakes();
  EXPECT_TRUE(link_.threads["t"].running.empty());
  EXPECT_TRUE(link_.asked.empty());
}

TEST_F(HubPullTest, ALaggingThreadThatCannotBeReadIsSaidToAllWhoFollowIt) {
  FakeSubscriber other(Encoding::kJson);
  BeginLagging(other);
  link_.StreamArrives(10);
  FailPagesFor(milliseconds(9'900));
  EXPECT_THAT(page_.TakeLines(), IsEmpty());
  for (int i = 0; i < 100 && page_.frames.empty(); ++i) FailPagesFor(milliseconds(100));
  EXPECT_THAT(page_.TakeLines(), ElementsAre("error LOG_UNAVAILABLE t"));
  EXPECT_THAT(other.TakeLines(), ElementsAre("error LOG_UNAVAILABLE t"));
  timers_.Advance(milliseconds(1'000));
  Rest();
  link_.Append("t");
  Rest();
  for (FakeSubscriber* page : {&page_, &other}) {
    EXPECT_THAT(page->Lines(), ElementsAre("event 2 v2", "event 3 v3", "event 4 v4", "event 5 v5"));
  }
}

TEST_F(HubPullTest, APageOfAnEarlierQuestionIsNotTakenForAnAnswer) {
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

TEST_F(HubPullTest, APageFromBeforeALinkThatWasAwayIsNotTakenAfterARollBack) {
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

TEST_F(HubPullTest, WhatIsKeptOfANewEpochIsNotJoinedToAnOldOne) {
  Begin();
  link_.page_events = 10;
  link_.Append("t", 5);
  FakeSubscriber other(Encoding::kProto);
  Open(&other, "d");
  Subscribe(&other, "t", "", Live());
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

}  // namespace
}  // namespace clarion::gateway
