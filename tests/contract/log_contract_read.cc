// What every log engine must do for who reads: pages, followers, lists; and what outlives it.
#include <atomic>
#include <chrono>
#include <future>
#include <string>
#include <vector>

#include "tests/contract/log_contract.h"

namespace clarion::log {
namespace {

// --- Reading.

TEST_P(LogContractTest, UnknownThreadReadsAsEmptyWithoutOwner) {
  const auto page = client().Read({.thread = ThreadId("t"), .from = Offset(1)});
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_THAT(page->runs, IsEmpty());
  EXPECT_EQ(page->floor, Offset(1));
  EXPECT_EQ(page->last, Position{});
  EXPECT_TRUE(client().State("t").owner.empty());
  EXPECT_EQ(client().State("t").last, Offset(0));
}

TEST_P(LogContractTest, PagesAreContiguousOverChunksAndTail) {
  std::vector<std::string> expected;
  for (int n = 1; n <= 60; ++n) {
    const std::string id = "e" + std::to_string(n);
    client().Add("t", "u", {id});
    expected.push_back(std::to_string(n) + ":" + TextOf(id));
    if (n % 25 == 0) under_test().Evict();
  }
  for (const size_t page : {1, 7, 59, 1000}) EXPECT_EQ(client().ReadAll("t", 1, page), expected);
  under_test().Reopen();
  EXPECT_EQ(client().ReadAll("t"), expected);
}

TEST_P(LogContractTest, PageKeepsToItsBoundsButHoldsOneEvent) {
  client().Add("t", "u", {"a", "b", "c"});
  const size_t event_bytes = 2 * TextOf("a").size();
  const auto one = client().Read({.thread = ThreadId("t"), .from = Offset(1), .max_bytes = 1});
  EXPECT_EQ(Texts(one->runs).size(), 1u);
  const auto two =
      client().Read({.thread = ThreadId("t"), .from = Offset(1), .max_bytes = 2 * event_bytes});
  EXPECT_EQ(Texts(two->runs).size(), 2u);
  const auto by_count =
      client().Read({.thread = ThreadId("t"), .from = Offset(2), .max_events = 1});
  EXPECT_THAT(Texts(by_count->runs), ElementsAre("2:text of b"));
}

TEST_P(LogContractTest, ReadEndsWhereAskedAndBeginsAtTheFloor) {
  client().Add("t", "u", {"a", "b", "c", "d"});
  ASSERT_TRUE(client().RaiseFloor("t", 2).ok());
  const auto page = client().Read({.thread = ThreadId("t"), .from = Offset(1), .until = Offset(3)});
  EXPECT_THAT(Texts(page->runs), ElementsAre("2:text of b", "3:text of c"));
  EXPECT_EQ(page->floor, Offset(2));
  EXPECT_EQ(page->last.offset, Offset(4));
}

TEST_P(LogContractTest, FloorInsideAChunkHidesItsBeginning) {
  for (int n = 1; n <= 30; ++n) client().Add("t", "u", {"e" + std::to_string(n)});
  under_test().Evict();
  ASSERT_TRUE(client().RaiseFloor("t", 18).ok());
  under_test().Evict();
  const std::vector<std::string> all = client().ReadAll("t");
  ASSERT_EQ(all.size(), 13u);
  EXPECT_EQ(all.front(), "18:text of e18");
  under_test().Reopen();
  EXPECT_EQ(client().ReadAll("t"), all);
}

TEST_P(LogContractTest, FindTellsWhereAnEventIs) {
  client().Append("t", "u", {Item("a"), Critical("b")}).status().IgnoreError();
  for (int round = 0; round < 2; ++round) {
    const auto found = client().Find("t", "b");
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->offset, Offset(2));
    EXPECT_EQ(found->epoch, client().State("t").end().epoch);
    EXPECT_EQ(found->event->json(), TextOf("b"));
    EXPECT_TRUE(found->critical);
    if (found->committed_at) {
      EXPECT_GE(*found->committed_at, found->accepted_at);
    }
    EXPECT_FALSE(client().Find("t", "a")->critical);
    EXPECT_THAT(client().Find("t", "c"), HasReason(Reason::kNotFound));
    under_test().Evict();
  }
  ASSERT_TRUE(client().RaiseFloor("t", 3).ok());
  EXPECT_THAT(client().Find("t", "b"), HasReason(Reason::kNotFound));
  EXPECT_THAT(client().Find("unknown", "b"), HasReason(Reason::kNotFound));
}

// --- Following.

TEST_P(LogContractTest, FollowerLearnsOfEverythingAfterItsState) {
  client().Add("t", "u", {"a"});
  RecordingFollower follower;
  const auto state = client().Follow("t", &follower);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->last, Offset(1));
  client().Append("t", "u", Items({"b", "c"})).status().IgnoreError();
  ASSERT_TRUE(client().Ack("t", "u", 2).ok());
  ASSERT_TRUE(client().RaiseFloor("t", 2, FloorReason::kDeleted).ok());
  EXPECT_THAT(follower.calls(),
              ElementsAre("appended 2:text of b 3:text of c", "acked 2", "floor 2 deleted"));
  client().Unfollow("t", &follower);
}

// Told of owners too.
class RecordingDelivery : public RecordingFollower, public OwnerWatcher {
 public:
  void OnThreadOwned(const ThreadId&, const UserId& owner) override { Add("owner " + owner.str()); }
};

TEST_P(LogContractTest, OwnerIsToldBeforeWhatStandsInTheSameCommit) {
  RecordingDelivery delivery;
  under_test().log()->WatchOwners(&delivery);
  EXPECT_TRUE(client().Follow("t", &delivery)->owner.empty());
  client().Add("t", "u", {"a"});
  EXPECT_THAT(delivery.calls(), ElementsAre("owner u", "appended 1:text of a"));
  client().Unfollow("t", &delivery);
  under_test().log()->WatchOwners(&owners_);
}

TEST_P(LogContractTest, FollowerIsToldBeforeTheProducer) {
  RecordingFollower follower;
  ASSERT_TRUE(client().Follow("t", &follower).ok());
  std::promise<size_t> calls_at_answer;
  under_test().log()->Append(
      {ThreadId("t"), UserId("u"), Items({"a"})},
      [&](absl::StatusOr<AppendResult>) { calls_at_answer.set_value(follower.calls().size()); });
  EXPECT_EQ(calls_at_answer.get_future().get(), 1u);
  client().Unfollow("t", &follower);
}

TEST_P(LogContractTest, RepetitionsAndRefusalsAreNotTold) {
  client().Add("t", "u", {"a"});
  RecordingFollower follower;
  ASSERT_TRUE(client().Follow("t", &follower).ok());
  client().Append("t", "u", Items({"a"})).status().IgnoreError();
  client().Append("t", "v", Items({"b"})).status().IgnoreError();
  client().Ack("t", "u", Position{}).status().IgnoreError();
  EXPECT_THAT(follower.calls(), IsEmpty());
  client().Unfollow("t", &follower);
}

TEST_P(LogContractTest, StateOfAFollowThatRacesWithAppendsHasNoGapAndNoRepeat) {
  constexpr int kEvents = 300;
  for (int n = 1; n <= kEvents; ++n) {
    under_test().log()->Append({ThreadId("t"), UserId("u"), {Item("e" + std::to_string(n))}},
                               [](absl::StatusOr<AppendResult>) {});
  }
  RecordingFollower follower;
  const auto state = client().Follow("t", &follower);  // somewhere in between
  client().Add("t", "u", {"last"});
  uint64_t next = state->last.value() + 1;
  for (const std::string& event : follower.events()) {
    EXPECT_THAT(event, HasSubstr(std::to_string(next) + ":"));
    ++next;
  }
  EXPECT_EQ(next, uint64_t(kEvents + 2));
  client().Unfollow("t", &follower);
}

TEST_P(LogContractTest, FollowingAgainGivesTheStateBetweenTheCalls) {
  RecordingFollower follower;
  ASSERT_TRUE(client().Follow("t", &follower).ok());
  client().Add("t", "u", {"a", "b"});
  const auto again = client().Follow("t", &follower);
  EXPECT_EQ(again->last, Offset(2));
  client().Add("t", "u", {"c"});
  EXPECT_THAT(follower.events(), ElementsAre("1:text of a", "2:text of b", "3:text of c"));
  client().Unfollow("t", &follower);
}

TEST_P(LogContractTest, NothingIsToldAfterUnfollow) {
  RecordingFollower follower;
  ASSERT_TRUE(client().Follow("t", &follower).ok());
  client().Unfollow("t", &follower);
  client().Add("t", "u", {"a"});
  EXPECT_THAT(follower.calls(), IsEmpty());
}

TEST_P(LogContractTest, FollowerKeepsFollowingAThreadThatLeavesMemory) {
  client().Add("t", "u", {"a"});
  RecordingFollower follower;
  ASSERT_TRUE(client().Follow("t", &follower).ok());
  under_test().Evict();
  client().Add("t", "u", {"b"});
  EXPECT_THAT(follower.events(), ElementsAre("2:text of b"));
  client().Unfollow("t", &follower);
}

// --- Threads.

TEST_P(LogContractTest, ThreadsAreListedByOwnerMostRecentlyActiveFirstByPages) {
  for (const char* thread : {"t1", "t2", "t3", "t4", "t5"}) {
    client().Add(thread, "u", {"a"});
    under_test().Pass(std::chrono::seconds(1));
  }
  client().Add("t2", "u", {"b"});
  client().Add("other", "v", {"a"});
  ASSERT_TRUE(client().Assign("empty", "u").ok());
  under_test().Evict();
  std::vector<std::string> listed;
  std::string token;
  do {
    const auto page = client().List("u", token, 2);
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_LE(page->threads.size(), 2u);
    for (const ThreadState& state : page->threads) {
      EXPECT_EQ(state.owner, UserId("u"));
      listed.push_back(state.thread.str());
    }
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_THAT(listed, ElementsAre("t2", "t5", "t4", "t3", "t1", "empty"));
  EXPECT_EQ(client().List("")->threads.size(), 7u);
  EXPECT_THAT(client().List("nobody")->threads, IsEmpty());
  EXPECT_THAT(client().List("u", "made up"), HasReason(Reason::kContextInvalid));
}

TEST_P(LogContractTest, EveryThreadIsOnAPageOfEverybodysWhateverIsAppendedBetweenThem) {
  for (const char* thread : {"t1", "t2", "t3", "t4", "t5"}) {
    client().Add(thread, thread[1] % 2 == 0 ? "u" : "v", {"a"});
  }
  std::vector<std::string> listed;
  std::string token;
  do {
    const auto page = client().List("", token, 2);
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_LE(page->threads.size(), 2u);
    for (const ThreadState& state : page->threads) listed.push_back(state.thread.str());
    token = page->next_page_token;
    // In a list by activity these would come to the front.
    under_test().Pass(std::chrono::seconds(1));
    for (const char* thread : {"t4", "t5"})
      client().Add(thread, thread[1] == '4' ? "u" : "v", {"b" + std::to_string(listed.size())});
  } while (!token.empty());
  EXPECT_THAT(listed, testing::UnorderedElementsAre("t1", "t2", "t3", "t4", "t5"));
  EXPECT_THAT(client().List("", "made-up"), HasReason(Reason::kContextInvalid));
}

TEST_P(LogContractTest, EveryThreadIsOnAPageOfIdsWhateverIsAppendedBetweenThem) {
  std::vector<std::string> threads;
  for (int n = 10; n < 30; ++n) {
    threads.push_back("t" + std::to_string(n));
    client().Add(threads.back(), "u", {"a"});
  }
  client().Add("t15.others", "v", {"a"});
  std::vector<std::string> listed;
  for (;;) {
    const auto page = client().ListIds("u", listed.empty() ? "" : listed.back(), 3);
    ASSERT_TRUE(page.ok()) << page.status();
    listed.insert(listed.end(), page->begin(), page->end());
    if (page->size() < 3) break;
    // What is active moves, but not out of this list; what comes ahead of it is on it as well.
    for (const std::string& thread : threads) {
      client().Add(thread, "u", {"b" + std::to_string(listed.size())});
    }
    if (listed.size() == 9) client().Add("t25.new", "u", {"a"});
  }
  threads.insert(threads.begin() + 16, "t25.new");
  EXPECT_EQ(listed, threads);
}

TEST_P(LogContractTest, PageOfIdsKnowsAssignedAndErasedThreadsAndNobodyElses) {
  ASSERT_TRUE(client().Assign("b", "u").ok());
  client().Add("a", "u", {"a"});
  client().Add("c", "u", {"a"});
  client().Add("d", "uu", {"a"});
  ASSERT_TRUE(*client().Erase("c"));
  EXPECT_THAT(*client().ListIds("u"), ElementsAre("a", "b"));
  EXPECT_THAT(*client().ListIds("u", "a"), ElementsAre("b"));
  EXPECT_THAT(*client().ListIds("u", "aa", 0), ElementsAre("b"));
  EXPECT_THAT(*client().ListIds("u", "b"), IsEmpty());
  EXPECT_THAT(*client().ListIds("nobody"), IsEmpty());
  EXPECT_THAT(client().ListIds(""), HasReason(Reason::kContextInvalid));
}

TEST_P(LogContractTest, OwnerWhoseIdBeginsAnotherOwnersSeesOnlyItsOwn) {
  client().Add("t1", "u", {"a"});
  client().Add("t2", "uu", {"a"});
  const auto page = client().List("u");
  ASSERT_EQ(page->threads.size(), 1u);
  EXPECT_EQ(page->threads[0].thread, ThreadId("t1"));
}

TEST_P(LogContractTest, ErasedThreadIsAsIfItNeverWas) {
  client().Append("t", "u", {Start("s", "r"), Item("a")}).status().IgnoreError();
  const Epoch before = client().State("t").end().epoch;
  under_test().Evict();
  EXPECT_TRUE(*client().Erase("t"));
  EXPECT_FALSE(*client().Erase("t"));
  EXPECT_TRUE(client().State("t").owner.empty());
  EXPECT_THAT(client().ReadAll("t"), IsEmpty());
  EXPECT_THAT(client().List("u")->threads, IsEmpty());
  EXPECT_EQ(client().Add("t", "v", {"a"}), 1u);
  EXPECT_NE(client().State("t").end().epoch, before);
  under_test().Reopen();
  EXPECT_EQ(client().State("t").owner, UserId("v"));
  EXPECT_THAT(client().ReadAll("t"), ElementsAre("1:text of a"));
}

// --- Lives.

TEST_P(LogContractTest, ClosingAndOpeningKeepsTheEpoch) {
  client().Add("t", "u", {"a"});
  const Epoch before = client().State("t").end().epoch;
  under_test().Reopen();
  client().Add("t", "u", {"b"});
  const ThreadState state = client().State("t");
  ASSERT_EQ(state.epochs.size(), 1u);
  EXPECT_EQ(state.epochs[0].epoch, before);
  EXPECT_THAT(client().ReadAll("t"), ElementsAre("1:text of a", "2:text of b"));
}

TEST_P(LogContractTest, EverythingOfAThreadOutlivesEvictionAndReopening) {
  client()
      .Append("t", "u", {Start("s", "r", "facts"), Item("a"), Item("b")})
      .status()
      .IgnoreError();
  ASSERT_TRUE(client().Ack("t", "u", 2).ok());
  ASSERT_TRUE(client().RaiseFloor("t", 2).ok());
  const ThreadState before = client().State("t");
  under_test().Evict();
  for (int round = 0; round < 2; ++round) {
    const ThreadState after = client().State("t");
    EXPECT_EQ(after.owner, before.owner);
    EXPECT_EQ(after.last, before.last);
    EXPECT_EQ(after.floor, before.floor);
    EXPECT_EQ(after.acknowledged, before.acknowledged);
    EXPECT_EQ(after.acknowledged_count, before.acknowledged_count);
    EXPECT_EQ(after.expired_count, before.expired_count);
    EXPECT_EQ(after.last_append, before.last_append);
    EXPECT_EQ(after.end().epoch, before.end().epoch);
    EXPECT_EQ(client().Run("t", "r")->data, "facts");
    under_test().Reopen();
  }
}

TEST_P(LogContractTest, CloseAnswersWhatWasAsked) {
  std::atomic<int> answers = 0;
  for (int n = 0; n < 50; ++n) {
    under_test().log()->Append({ThreadId("t" + std::to_string(n)), UserId("u"), Items({"a"})},
                               [&](absl::StatusOr<AppendResult> result) {
                                 EXPECT_TRUE(result.ok()) << result.status();
                                 ++answers;
                               });
    under_test().log()->Read({.thread = ThreadId("t")},
                             [&](absl::StatusOr<ReadResult>) { ++answers; });
  }
  under_test().Reopen();
  EXPECT_EQ(answers, 100);
  EXPECT_EQ(client().List("u")->threads.size(), 50u);
}

}  // namespace
}  // namespace clarion::log
