// The contract, over the embedded log with much room and with very little; and what is the embedded
// log's own: retention, incarnations, bounds. Ledger and erasure: log_ledger_test.cc.
#include <filesystem>
#include <map>
#include <thread>

#include "rocksdb/write_batch.h"
#include "service/log/retention.h"
#include "service/log/store.h"
#include "service/log/upkeep.h"
#include "telemetry/metrics.h"
#include "tests/contract/log_contract.h"
#include "tests/contract/log_embedded_testing.h"

namespace clarion::log {
namespace {

const auto kEngines = testing::Values(
    LogEngine{"roomy", [] { return std::make_unique<EmbeddedUnderTest>(); }},
    LogEngine{"tight", [] { return std::make_unique<EmbeddedUnderTest>(TightOptions()); }});
INSTANTIATE_TEST_SUITE_P(Embedded, LogContractTest, kEngines, NameOfEngine);
INSTANTIATE_TEST_SUITE_P(Embedded, LogRunsTest, kEngines, NameOfEngine);

using namespace std::chrono_literals;

// --- Retention.

TEST_F(EmbeddedLogTest, EventsExpireWithAgeAndAreCounted) {
  Open([](EmbeddedOptions& options) { options.retention.age = 1h; });
  client().Add("t", "u", {"a", "b"});
  log().clock().Advance(30min);
  client().Add("t", "u", {"c"});
  ExpectFloorAfter(31min, 3);
  const ThreadState state = client().State("t");
  EXPECT_EQ(state.expired_count, 2u);
  EXPECT_EQ(state.pending(), 1u);
  EXPECT_THAT(client().ReadAll("t"), ElementsAre("3:text of c"));
}

TEST_F(EmbeddedLogTest, EventsOfAThreadThatLeftMemoryExpireToo) {
  Open([](EmbeddedOptions& options) { options.retention.age = 1h; });
  for (int n = 1; n <= 20; ++n) client().Add("t", "u", {"e" + std::to_string(n)});
  RecordingFollower follower;
  ASSERT_TRUE(client().Follow("t", &follower).ok());
  log().Evict();
  log().clock().Advance(2h);
  follower.WaitFor("floor 21 expired");
  client().Unfollow("t", &follower);
  EXPECT_EQ(client().State("t").expired_count, 20u);
  // Its chunks go with it, not only from view.
  log().Reopen();
  EXPECT_THAT(client().ReadAll("t"), IsEmpty());
}

TEST_F(EmbeddedLogTest, OneTickExpiresMoreThreadsThanAreLookedAtInOneGo) {
  Open([](EmbeddedOptions& options) {
    options.retention.age = 1h;
    options.retention_interval = 61min;
    options.max_threads = 2000;
    options.max_journal_bytes = 4u << 20;
  });
  constexpr int kThreads = 700;
  for (int n = 0; n < kThreads; ++n) client().Add("t" + std::to_string(n), "u", {"a"});
  log().clock().Advance(61min);
  for (int n = 0; n < kThreads; ++n) {
    while (client().State("t" + std::to_string(n)).floor == Offset(1)) std::this_thread::yield();
  }
}

TEST(RetentionTest, ChunksThatWaitToBeRemovedAreNotForgotten) {
  ThreadImage image(ThreadId("t"));
  StoredMeta meta;
  meta.counters.last = Offset(2);
  image.Restore(meta);
  image.AddChunk({.first = Offset(1), .last = Offset(2), .bytes = 10, .last_time = WallTime(1h)},
                 {{}, {.id = Digest::Of("b")}});
  image.SetComplete();
  Effects expiry;
  expiry.counters = image.counters();
  expiry.counters.floor = Offset(3);
  image.Apply(expiry);
  const WallTime now(2h);
  const StoredMeta before = image.Meta(1);
  EXPECT_TRUE(MayExpire(before, RetentionLimits{}, now));
  ThreadImage restored(ThreadId("t"));
  restored.Restore(before);
  EXPECT_FALSE(restored.complete()) << "it knows nothing of its chunks";
  EXPECT_EQ(restored.Meta(1).oldest, before.oldest);
  EXPECT_THAT(image.TakeDeadChunks(64), ElementsAre(Offset(2)));
  const StoredMeta after = image.Meta(2);
  EXPECT_FALSE(MayExpire(after, RetentionLimits{}, now));
}

TEST(UpkeepTest, RoundMeetsEveryThreadThatStaysOnceWhateverComesGoesOrIsUsed) {
  ManualScheduler clock;
  EmbeddedOptions options;
  options.scheduler = &clock;
  Engine engine(options);
  Upkeep upkeep(engine);
  std::map<std::string, std::shared_ptr<ThreadLog>> threads;
  const auto add = [&](const std::string& id) {
    auto& thread = threads[id] = std::make_shared<ThreadLog>(ThreadId(id));
    {
      MutexLock lock(thread->mutex);
      thread->image = std::make_unique<ThreadImage>(thread->id);
    }
    upkeep.Add(thread);
  };
  for (const char* id : {"a", "b", "c", "d", "e", "f"}) add(id);
  EXPECT_FALSE(upkeep.InRound());
  upkeep.BeginRound();
  EXPECT_EQ(upkeep.NextOfRound().id, ThreadId("f"));
  upkeep.Remove(*threads["e"]);  // the next
  upkeep.Remove(*threads["f"]);  // the last that was met
  upkeep.Remove(*threads["b"]);
  upkeep.Touch(*threads["d"]);
  upkeep.Touch(*threads["c"]);
  add("new");
  std::string met;
  while (upkeep.InRound()) met += upkeep.NextOfRound().id.str();
  EXPECT_EQ(met, "dca");
  upkeep.BeginRound();
  upkeep.EndRound();
  EXPECT_FALSE(upkeep.InRound());
}

TEST_F(EmbeddedLogTest, CheckpointThatCannotBeReadIsCountedAndHoldsUpNoOthers) {
  Open([](EmbeddedOptions& options) {
    options.retention.age = 1h;
    options.retention_interval = 61min;  // one scan, that no other is in the way of
  });
  client().Add("t", "u", {"a"});
  log().Evict();
  log().Close();
  {
    const auto store = Store::Open(log().options(), [] {});
    ASSERT_TRUE(store.ok()) << store.status();
    rocksdb::WriteBatch batch;
    batch.Put((*store)->family(Family::kThreads), "broken", "no checkpoint");
    ASSERT_TRUE((*store)->Write(batch, true).ok());
  }
  log().Open();
  const Counter& unreadable = GetCounter("clarion_log_unreadable_checkpoints_total", "");
  const uint64_t before = unreadable.value();
  RecordingFollower follower;
  ASSERT_TRUE(client().Follow("t", &follower).ok());
  log().Evict();
  log().clock().Advance(61min);
  follower.WaitFor("floor 2 expired");
  client().Unfollow("t", &follower);
  EXPECT_GT(unreadable.value(), before);
  const auto refused = client().Append("broken", "u", {Item("a")});
  EXPECT_THAT(refused, HasReason(Reason::kLogUnavailable));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("cannot be read"));
}

TEST_F(EmbeddedLogTest, UnacknowledgedCriticalEventHoldsTheFloorUntilItsOwnTimeEnds) {
  Open([](EmbeddedOptions& options) {
    options.retention.age = 1h;
    options.retention.critical_age = 3h;
  });
  ASSERT_TRUE(client().Append("t", "u", {Item("a"), Critical("b"), Item("c")}).ok());
  ExpectFloorAfter(61min, 2);
  EXPECT_EQ(client().State("t").pending(), 2u);
  ExpectFloorAfter(2h, 4);
}

TEST_F(EmbeddedLogTest, AcknowledgedCriticalEventHoldsNothing) {
  Open([](EmbeddedOptions& options) { options.retention.age = 1h; });
  ASSERT_TRUE(client().Append("t", "u", {Item("a"), Critical("b"), Item("c")}).ok());
  ASSERT_TRUE(client().Ack("t", "u", 2).ok());
  ExpectFloorAfter(61min, 4);
  EXPECT_EQ(client().State("t").expired_count, 1u);
}

TEST_F(EmbeddedLogTest, AckThatOnlyTheJournalHadHoldsNothingAfterReopening) {
  Open([](EmbeddedOptions& options) {
    options.retention.age = 1h;
    options.retention_interval = 61min;  // one scan, that no other is in the way of
  });
  ASSERT_TRUE(client().Append("t", "u", {Item("a"), Critical("b"), Item("c")}).ok());
  log().Evict();  // its checkpoint says that a critical event is pending
  ASSERT_TRUE(client().Ack("t", "u", 3).ok());
  log().Reopen();
  RecordingFollower follower;
  ASSERT_TRUE(client().Follow("t", &follower).ok());
  log().Evict();  // what retention goes by is what recovery wrote
  log().clock().Advance(61min);
  follower.WaitFor("floor 4 expired");
  client().Unfollow("t", &follower);
  EXPECT_EQ(client().State("t").acknowledged_count, 3u);
}

TEST_F(EmbeddedLogTest, MoreEventsThanAllowedPushTheOldestOut) {
  Open([](EmbeddedOptions& options) { options.retention.max_events = 10; });
  for (int n = 1; n <= 25; ++n) {
    client().Add("t", "u", {"e" + std::to_string(n)});
    const ThreadState state = client().State("t");
    EXPECT_EQ(state.last.value() + 1 - state.floor.value(), uint64_t(std::min(n, 10)));
  }
}

TEST_F(EmbeddedLogTest, CountGivesWayToACriticalEventAndBytesDoNot) {
  Open([](EmbeddedOptions& options) {
    options.retention.max_events = 3;
    options.retention.max_bytes = 400;
  });
  ASSERT_TRUE(client().Append("t", "u", {Critical("first")}).ok());
  for (int n = 0; n < 8; ++n) client().Add("t", "u", {"e" + std::to_string(n)});
  EXPECT_EQ(client().State("t").floor, Offset(1));
  for (int n = 8; n < 40; ++n) client().Add("t", "u", {"e" + std::to_string(n)});
  EXPECT_GT(client().State("t").floor, Offset(1));
  size_t bytes = 0;
  for (const std::string& text : client().ReadAll("t")) bytes += 2 * text.size();
  EXPECT_LE(bytes, 400u + 100u);
}

TEST_F(EmbeddedLogTest, NewestEventStaysHoweverLargeItIs) {
  Open([](EmbeddedOptions& options) { options.retention.max_bytes = 50; });
  client().Add("t", "u", {"a"});
  ASSERT_TRUE(client().Append("t", "u", {Item("b", {.text = std::string(200, 'x')})}).ok());
  EXPECT_EQ(client().ReadAll("t").size(), 1u);
  EXPECT_EQ(client().State("t").floor, Offset(2));
}

TEST_F(EmbeddedLogTest, TimesOfAThreadDoNotGoBack) {
  Open();
  client().Add("t", "u", {"a"});
  const WallTime first = client().Find("t", "a")->accepted_at;
  log().clock().Advance(5s);
  client().Add("t", "u", {"b"});
  EXPECT_EQ(client().Find("t", "b")->accepted_at - first, 5s);
}

// --- Incarnations and epochs.

TEST_F(EmbeddedLogTest, AnotherBootWithoutCleanShutdownIsToldByCrashTests) {
  // A clean shutdown makes another boot harmless.
  Open();
  client().Add("t", "u", {"a"});
  Open([](EmbeddedOptions& options) { options.boot_id = "second boot"; });
  client().Add("t", "u", {"b"});
  EXPECT_EQ(client().State("t").epochs.size(), 1u);
}

TEST_F(EmbeddedLogTest, EveryThreadHasAnEpochOfItsOwnName) {
  Open();
  client().Add("t1", "u", {"a"});
  client().Add("t2", "u", {"a"});
  EXPECT_NE(client().State("t1").end().epoch, client().State("t2").end().epoch);
}

// --- Bounds.

TEST_F(EmbeddedLogTest, FullQueueRefusesAtOnceAndLosesNothingElse) {
  Open([](EmbeddedOptions& options) {
    options.max_queued_ops = 4;
    options.max_queued_bytes = 1u << 20;
  });
  std::promise<void> block;
  std::shared_future<void> blocked = block.get_future().share();
  // The commit thread stands in this callback.
  log().log()->Append({ThreadId("t"), UserId("u"), Items({"first"})},
                      [blocked](absl::StatusOr<AppendResult>) { blocked.wait(); });
  std::vector<std::future<absl::Status>> answers;
  for (int n = 0; n < 20; ++n) {
    auto promise = std::make_shared<std::promise<absl::Status>>();
    answers.push_back(promise->get_future());
    log().log()->Append(
        {ThreadId("t"), UserId("u"), {Item("e" + std::to_string(n))}},
        [promise](absl::StatusOr<AppendResult> result) { promise->set_value(result.status()); });
  }
  // The last ones were refused although nothing moves.
  const absl::Status refused = answers.back().get();
  EXPECT_EQ(ReasonOf(refused), Reason::kBufferOverflow);
  EXPECT_TRUE(RetryAfterOf(refused).has_value());
  answers.pop_back();
  block.set_value();
  size_t accepted = 1;
  for (auto& answer : answers) {
    const absl::Status status = answer.get();
    accepted += status.ok();
    if (!status.ok()) {
      EXPECT_EQ(ReasonOf(status), Reason::kBufferOverflow) << status;
    }
  }
  EXPECT_EQ(client().State("t").last, Offset(accepted));
}

TEST_F(EmbeddedLogTest, ReadsBeyondThoseThatMayWaitAreRefusedAndTheOthersAnswered) {
  Open([](EmbeddedOptions& options) {
    options.max_queued_reads = 4;
    options.disk_readers = 1;
  });
  for (int n = 1; n <= 20; ++n) client().Add("cold", "u", {"e" + std::to_string(n)});
  log().Evict();
  client().Add("hot", "u", {"a"});
  // The first waits for the tails, the second for the disk.
  for (const std::string thread : {"hot", "cold"}) {
    std::promise<void> standing;
    std::promise<void> block;
    const ReadRequest read{.thread = ThreadId(thread), .from = Offset(1)};
    log().log()->Read(read, [&](absl::StatusOr<ReadResult>) {
      standing.set_value();
      block.get_future().wait();
    });
    standing.get_future().wait();
    std::vector<std::promise<absl::Status>> answers(12);
    for (std::promise<absl::Status>& answer : answers) {
      log().log()->Read(read, [&](absl::StatusOr<ReadResult> page) {
        answer.set_value(page.ok() && page->runs.empty() ? absl::UnknownError("no events")
                                                         : page.status());
      });
      // One after the other to the disk's queue: it is that one's bound that counts.
      if (thread == "cold") {
        EXPECT_EQ(client().State("hot").last, Offset(1));
      }
    }
    block.set_value();
    int answered = 0;
    for (std::promise<absl::Status>& answer : answers) {
      const absl::Status status = answer.get_future().get();
      answered += status.ok();
      if (!status.ok()) {
        EXPECT_EQ(ReasonOf(status), Reason::kBufferOverflow) << status;
      }
    }
    EXPECT_EQ(answered, 4) << thread;
  }
}

TEST_F(EmbeddedLogTest, ThreadsLeaveMemoryByTheirBytesAndTheOneInUseStays) {
  Open([](EmbeddedOptions& options) {
    options.max_threads = 1000;
    options.max_memory_bytes = 40'000;
    options.tail_events = 1000;
    options.tail_bytes = 1u << 20;
    options.max_journal_bytes = 4u << 20;
  });
  const std::string text(1000, 'x');  // twice in each event
  for (int n = 0; n < 10; ++n) {
    const auto result = client().Append("small" + std::to_string(n), "u", {Item("a")});
    ASSERT_TRUE(result.ok()) << result.status();
  }
  const uint64_t loads = Loads();
  for (int n = 0; n < 40; ++n) {
    ASSERT_TRUE(
        client().Append("large", "u", {Item("e" + std::to_string(n), {.text = text})}).ok());
  }
  EXPECT_EQ(Loads(), loads);  // larger than the bound by itself, and still not read back
  for (int n = 0; n < 10; ++n) client().Add("small" + std::to_string(n), "u", {"b"});
  EXPECT_EQ(Loads(), loads + 10);
  EXPECT_EQ(client().ReadAll("large").size(), 40u);
}

TEST_F(EmbeddedLogTest, AppendLargerThanTheQueueIsRefused) {
  Open([](EmbeddedOptions& options) { options.max_queued_bytes = 2000; });
  EXPECT_THAT(client().Append("t", "u", {Item("a", {.text = std::string(3000, 'x')})}),
              HasReason(Reason::kBufferOverflow));
  client().Add("t", "u", {"b"});
}

TEST_F(EmbeddedLogTest, AppendToAThreadThatLeftMemoryIsNotBehindTheReadsThatWait) {
  Open([](EmbeddedOptions& options) { options.disk_readers = 1; });
  for (int n = 1; n <= 20; ++n) client().Add("cold", "u", {"e" + std::to_string(n)});
  for (int n = 1; n <= 20; ++n) client().Add("read", "u", {"e" + std::to_string(n)});
  log().Evict();
  client().Add("hot", "u", {"a"});
  std::promise<void> block;
  std::promise<void> standing;
  std::promise<absl::Status> appended;
  const std::shared_future<absl::Status> answer = appended.get_future().share();
  // The disk's thread stands in the first, and in the others until the append is answered.
  const ReadRequest from_disk{.thread = ThreadId("read"), .from = Offset(1)};
  log().log()->Read(from_disk, [&](absl::StatusOr<ReadResult>) {
    standing.set_value();
    block.get_future().wait();
  });
  standing.get_future().wait();
  std::vector<std::promise<bool>> in_time(3);
  for (std::promise<bool>& read : in_time) {
    log().log()->Read(from_disk, [&](absl::StatusOr<ReadResult>) {
      read.set_value(answer.wait_for(5s) == std::future_status::ready);
    });
  }
  EXPECT_EQ(client().State("hot").last, Offset(1));  // the reads have reached the disk's queue
  log().log()->Append(
      {ThreadId("cold"), UserId("u"), Items({"b"})},
      [&](absl::StatusOr<AppendResult> result) { appended.set_value(result.status()); });
  client().Add("hot", "u", {"b"});  // so has the load
  block.set_value();
  for (std::promise<bool>& read : in_time) EXPECT_TRUE(read.get_future().get());
  EXPECT_TRUE(answer.get().ok());
}

TEST_F(EmbeddedLogTest, CallsOnThreadsThatDoNotExistPushNoneOutOfMemory) {
  Open();
  client().Add("t1", "u", {"a"});
  client().Add("t2", "u", {"a"});
  const uint64_t loads = Loads();
  RecordingFollower follower;
  for (int n = 0; n < 10; ++n) {
    const std::string unknown = "unknown" + std::to_string(n);
    ASSERT_TRUE(client().Follow(unknown, &follower).ok());
    EXPECT_THAT(client().Ack(unknown, "u", Position{}), HasReason(Reason::kThreadOwnership));
    EXPECT_EQ(*client().RaiseFloor(unknown, 1), Offset(1));
    EXPECT_FALSE(*client().Erase(unknown));
  }
  client().Add("t1", "u", {"b"});
  client().Add("t2", "u", {"b"});
  EXPECT_EQ(Loads(), loads);
  // Whoever follows one hears of it when it begins.
  client().Add("unknown3", "u", {"a"});
  EXPECT_THAT(follower.calls(), ElementsAre("appended 1:text of a"));
  for (int n = 0; n < 10; ++n) client().Unfollow("unknown" + std::to_string(n), &follower);
}

TEST_F(EmbeddedLogTest, JournalStaysShortAndEverythingIsStillThere) {
  Open([](EmbeddedOptions& options) { options.max_threads = 100; });
  std::map<std::string, std::vector<std::string>> expected;
  for (int n = 1; n <= 400; ++n) {
    const std::string thread = "t" + std::to_string(n % 17);
    const std::string id = "e" + std::to_string(n);
    const uint64_t offset = client().Add(thread, "u", {id});
    expected[thread].push_back(std::to_string(offset) + ":" + TextOf(id));
  }
  for (int round = 0; round < 2; ++round) {
    for (const auto& [thread, texts] : expected) EXPECT_EQ(client().ReadAll(thread), texts);
    log().Reopen();
  }
}

TEST_F(EmbeddedLogTest, CommitThatTheCheckpointHoldsIsNotAppliedAgain) {
  Open([](EmbeddedOptions& options) {
    options.tail_events = 2;
    options.max_journal_bytes = 4u << 20;  // the record stays
  });
  // One commit, written to chunks right behind it: the checkpoint's `applied` is this very record.
  ASSERT_TRUE(client().Append("t", "u", Items({"a", "b", "c", "d"})).ok());
  const ThreadState before = client().State("t");
  for (int round = 0; round < 2; ++round) {
    log().Reopen();
    if (HasFatalFailure()) return;
    EXPECT_EQ(client().State("t").last, before.last);
    EXPECT_EQ(client().ReadAll("t").size(), 4u);
  }
}

TEST(EmbeddedLogOpenTest, FolderThatCannotBeMadeIsOneSentence) {
  ManualScheduler clock;
  EmbeddedOptions options;
  options.path = "/proc/no/such/folder";
  options.scheduler = &clock;
  const auto log = OpenEmbeddedLog(options);
  ASSERT_FALSE(log.ok());
  EXPECT_THAT(std::string(log.status().message()), HasSubstr("/proc/no/such/folder"));
}

TEST(EmbeddedLogOpenTest, FolderInUseIsRefused) {
  EmbeddedUnderTest first;
  ManualScheduler clock;
  EmbeddedOptions options = first.options();
  options.scheduler = &clock;
  EXPECT_FALSE(OpenEmbeddedLog(options).ok());
}

TEST(EmbeddedLogOpenTest, DatabaseKeepsNoLogFileOnTheDiskWhoseFailuresItReports) {
  EmbeddedUnderTest log;
  LogClient(log.log()).Add("t", "u", {"a"});
  for (const auto& file : std::filesystem::directory_iterator(log.options().path)) {
    EXPECT_FALSE(file.path().filename().string().starts_with("LOG")) << file.path();
  }
}

}  // namespace
}  // namespace clarion::log
