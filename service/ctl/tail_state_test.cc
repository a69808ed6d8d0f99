#include "service/ctl/tail_state.h"

#include <string>

#include "boost/json/parse.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::ctl {
namespace {

using testing::HasSubstr;

class TailTest : public testing::Test {
 protected:
  // Follows thread t1.
  void Follow(TailStart start = {}) {
    start.thread = "t1";
    state_.emplace(std::move(start));
  }
  TailState::Step Feed(const std::string& frame) {
    bool understood = false;
    auto step = state_->OnFrame(frame, &understood);
    EXPECT_TRUE(understood) << frame;
    return step;
  }
  TailState::Step Connected() { return Feed(R"({"type":"connected","connection_id":"c"})"); }
  TailState::Step Subscribed(const std::string& epoch, int from, int last,
                             const std::string& active_runs = "[]") {
    return Feed(R"({"type":"subscribed","thread_id":"t1","epoch":")" + epoch +
                R"(","from_offset":)" + std::to_string(from) + R"(,"last_offset":)" +
                std::to_string(last) + R"(,"active_runs":)" + active_runs + "}");
  }
  TailState::Step Event(int offset, const std::string& type, const std::string& run = "r1") {
    return Feed(R"({"offset":)" + std::to_string(offset) + R"(,"type":")" + type +
                R"(","event_id":"e","thread_id":"t1","run_id":")" + run + "\"}");
  }
  TailState::Step CaughtUp(int offset) {
    return Feed(R"({"type":"caught_up","thread_id":"t1","offset":)" + std::to_string(offset) + "}");
  }
  boost::json::object Subscribe() {
    const auto frame = boost::json::parse(state_->ConnectFrame("tok\"en")).as_object();
    EXPECT_EQ(frame.at("type"), "connect");
    EXPECT_EQ(frame.at("token"), "tok\"en");
    return frame.at("subscribe").as_array().at(0).as_object();
  }

  std::optional<TailState> state_;
};

TEST_F(TailTest, SubscribesByRuleBeforeItHasSeenAnything) {
  Follow({.from = "start"});
  EXPECT_EQ(Subscribe().at("thread_id"), "t1");
  EXPECT_EQ(Subscribe().at("from"), "start");
  EXPECT_FALSE(Subscribe().contains("after"));
}

TEST_F(TailTest, SubscribesAfterAGivenPosition) {
  Follow({.after = Position{Epoch("e1"), Offset(7)}});
  EXPECT_EQ(Subscribe().at("after").at("epoch"), "e1");
  EXPECT_EQ(Subscribe().at("after").at("offset"), 7);
  EXPECT_FALSE(Subscribe().contains("from"));
}

TEST_F(TailTest, ComesBackAfterTheLastEventItSaw) {
  Follow();
  Connected();
  Subscribed("e1", 1, 2);
  Event(1, "agent_started");
  Event(2, "agent_thinking");
  EXPECT_EQ(Subscribe().at("after").at("epoch"), "e1");
  EXPECT_EQ(Subscribe().at("after").at("offset"), 2);
}

TEST_F(TailTest, ComesBackWhereASubscriptionBeganIfNothingFollowed) {
  Follow();
  Connected();
  Subscribed("e1", 5, 9);
  EXPECT_EQ(Subscribe().at("after").at("offset"), 4);
}

TEST_F(TailTest, TakesTheNewEpochOfALiveSubscription) {
  Follow();
  Connected();
  Subscribed("e1", 1, 0);
  Event(1, "agent_started");
  Subscribed("e2", 2, 2);
  Event(2, "agent_thinking");
  EXPECT_EQ(state_->position(), (Position{Epoch("e2"), Offset(2)}));
}

TEST_F(TailTest, MovesOverWhatIsMissed) {
  Follow();
  Connected();
  Subscribed("e2", 1, 20);
  Feed(
      R"({"type":"missed","thread_id":"t1","epoch":"e2","from_offset":1,"to_offset":9,"reason":"expired"})");
  EXPECT_EQ(state_->position(), (Position{Epoch("e2"), Offset(9)}));
  Feed(R"({"type":"missed","thread_id":"t1","epoch":"e3","from_offset":4,"to_offset":9,)"
       R"("reason":"log_rolled_back","discard_after":3})");
  EXPECT_EQ(state_->position(), (Position{Epoch("e3"), Offset(3)}));
}

TEST_F(TailTest, AnswersPingAndProbeAndPrintsNeither) {
  Follow();
  EXPECT_EQ(Feed(R"({"type":"ping"})").reply, R"({"type":"pong"})");
  EXPECT_FALSE(Feed(R"({"type":"ping"})").print);
  const auto probe = Feed(R"({"type":"probe","nonce":"n1"})");
  EXPECT_EQ(probe.reply, R"({"type":"probe_reply","nonce":"n1"})");
  EXPECT_FALSE(probe.print);
  EXPECT_TRUE(Feed(R"({"type":"notice"})").print);
}

TEST_F(TailTest, CompletesWhenARunEndsLive) {
  Follow({.until_complete = true});
  Connected();
  EXPECT_FALSE(Subscribed("e1", 1, 0).done);
  EXPECT_FALSE(CaughtUp(0).done);
  EXPECT_FALSE(Event(1, "agent_started").done);
  EXPECT_TRUE(Event(2, "agent_completed").done);
}

TEST_F(TailTest, DoesNotCompleteInTheMiddleOfTheReplay) {
  Follow({.from = "start", .until_complete = true});
  Connected();
  Subscribed("e1", 1, 4);
  Event(1, "agent_started", "r1");
  EXPECT_FALSE(Event(2, "agent_completed", "r1").done);
  EXPECT_FALSE(Event(3, "agent_started", "r2").done);
  EXPECT_FALSE(Event(4, "agent_error", "r2").done);
  EXPECT_TRUE(CaughtUp(4).done);
}

TEST_F(TailTest, WaitsForRunsThatWereOpenBefore) {
  Follow({.until_complete = true});
  Connected();
  Subscribed("e1", 3, 3, R"([{"run_id":"parent","agent_name":"a","offset":1}])");
  CaughtUp(3);
  Event(4, "agent_started", "child");
  EXPECT_FALSE(Event(5, "agent_completed", "child").done);
  EXPECT_TRUE(Event(6, "agent_completed", "parent").done);
}

TEST_F(TailTest, DoesNotCompleteOnAThreadWithoutRuns) {
  Follow({.until_complete = true});
  Connected();
  Subscribed("e1", 1, 0);
  EXPECT_FALSE(CaughtUp(0).done);
}

TEST_F(TailTest, CompletesWithTheNamedRunOnly) {
  Follow({.until_complete = true, .run = "r2"});
  Connected();
  Subscribed("e1", 1, 0);
  CaughtUp(0);
  Event(1, "agent_started", "r1");
  EXPECT_FALSE(Event(2, "agent_completed", "r1").done);
  EXPECT_TRUE(Event(3, "agent_completed", "r2").done);
}

TEST_F(TailTest, FollowsForeverUnlessTold) {
  Follow();
  Connected();
  Subscribed("e1", 1, 2);
  Event(1, "agent_started");
  Event(2, "agent_completed");
  EXPECT_FALSE(CaughtUp(2).done);
}

TEST_F(TailTest, AClaimLeavesThePositionAndSaysSo) {
  Follow();
  Connected();
  const auto step = Feed(R"({"type":"subscribed","thread_id":"t1","claim":true,"offset":0})");
  EXPECT_THAT(step.note, HasSubstr("not this user's"));
  EXPECT_EQ(state_->position(), std::nullopt);
}

TEST_F(TailTest, RemembersWhyItEndsOnceAndForThatConnection) {
  Follow();
  Connected();
  Feed(
      R"({"type":"error","code":"RATE_LIMITED","message":"slow down","reconnect":true,"retry_after_ms":700})");
  EXPECT_TRUE(state_->connected());
  const auto ending = state_->TakeEnding();
  EXPECT_EQ(ending.code, "RATE_LIMITED");
  EXPECT_EQ(ending.reconnect, true);
  EXPECT_EQ(ending.after, std::chrono::milliseconds(700));
  EXPECT_FALSE(state_->connected());
  EXPECT_EQ(state_->TakeEnding().reconnect, std::nullopt);

  Feed(R"({"type":"going_away","reconnect_after_ms":300})");
  EXPECT_EQ(state_->TakeEnding().after, std::chrono::milliseconds(300));
}

TEST_F(TailTest, IgnoresEventsOfOtherThreads) {
  Follow();
  Connected();
  Subscribed("e1", 1, 0);
  Feed(R"({"offset":9,"type":"agent_started","event_id":"e","thread_id":"t2","run_id":"r"})");
  EXPECT_EQ(state_->position(), (Position{Epoch("e1"), Offset(0)}));
}

TEST_F(TailTest, SaysWhatIsNoFrame) {
  Follow();
  bool understood = true;
  state_->OnFrame("not json", &understood);
  EXPECT_FALSE(understood);
  state_->OnFrame("[]", &understood);
  EXPECT_FALSE(understood);
}

TEST(OnOneLine, ReplacesLineEnds) {
  EXPECT_EQ(OnOneLine("{\r\n\"a\":1\n}"), "{  \"a\":1 }");
}

}  // namespace
}  // namespace clarion::ctl
