// The embedded log's ledger as metrics show it, and what erasure leaves: tombstones, and nothing on
// the disk.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "service/log/store.h"
#include "service/log/tombstone.h"
#include "telemetry/metrics.h"
#include "tests/contract/log_embedded_testing.h"

namespace clarion::log {
namespace {

using namespace std::chrono_literals;

// --- The ledger's metrics.

TEST_F(EmbeddedLogTest, GaugesSayWhatBecameOfAllEventsAlsoAfterOpening) {
  const auto events = [](const char* state) {
    return GetGauge("clarion_events", "", {{"state", state}}).value();
  };
  const auto expect = [&](int64_t acknowledged, int64_t pending, int64_t expired) {
    EXPECT_EQ(events("acknowledged"), acknowledged);
    EXPECT_EQ(events("pending"), pending);
    EXPECT_EQ(events("expired"), expired);
  };
  Open();
  expect(0, 0, 0);
  client().Add("t", "u", {"a", "b", "c", "d"});
  client().Add("canary", kCanaryUser, {"a", "b"});
  expect(0, 4, 0);
  ASSERT_TRUE(client().Ack("t", "u", 1).ok());
  ASSERT_TRUE(client().RaiseFloor("t", 3).ok());
  expect(1, 2, 1);
  EmbeddedUnderTest other;  // in this process there is one set of gauges
  expect(0, 0, 0);
  log().Reopen();
  expect(1, 2, 1);
}

TEST_F(EmbeddedLogTest, CountersCountEachEventOfPeopleOnce) {
  const Counter& accepted = GetCounter("clarion_events_accepted_total", "");
  const Counter& duplicate = GetCounter("clarion_events_duplicate_total", "");
  const Counter& acknowledged = GetCounter("clarion_events_acknowledged_total", "");
  const auto expired = [](const char* reason) -> const Counter& {
    return GetCounter("clarion_events_expired_total", "", {{"reason", reason}});
  };
  const auto counts = [&] {
    return std::vector<uint64_t>{accepted.value(), duplicate.value(), acknowledged.value(),
                                 expired("expired").value(), expired("deleted").value()};
  };
  Open();
  const std::vector<uint64_t> before = counts();
  for (const std::string_view user : {std::string_view("u"), kCanaryUser}) {
    const std::string id = "thread" + std::to_string(user.size());
    client().Add(id, user, {"a", "b", "c", "d", "e"});
    client().Append(id, user, Items({"a", "e"})).status().IgnoreError();
    ASSERT_TRUE(client().Ack(id, user, 1).ok());
    ASSERT_TRUE(client().RaiseFloor(id, 4).ok());
    ASSERT_TRUE(client().RaiseFloor(id, 5, FloorReason::kDeleted).ok());
  }
  std::vector<uint64_t> moved = counts();
  for (size_t n = 0; n < moved.size(); ++n) moved[n] -= before[n];
  EXPECT_THAT(moved, ElementsAre(5, 2, 1, 2, 1));
}

TEST_F(EmbeddedLogTest, LedgerIsKeptWhenNoRecordOfTheJournalIsLeft) {
  Open([](EmbeddedOptions& options) {
    options.max_threads = 1;
    options.max_journal_bytes = 8;  // everything goes to chunks at once
  });
  for (int n = 0; n < 20; ++n) client().Add("t", "u", {"e" + std::to_string(n)});
  log().Evict();
  log().Close();
  {
    const auto store = Store::Open(log().options(), [] {});
    ASSERT_TRUE(store.ok()) << store.status();
    const auto start = (*store)->Get(Family::kMeta, "journal_start");
    ASSERT_TRUE(start.ok() && start->has_value());
    size_t records = 0;
    ASSERT_TRUE((*store)
                    ->Scan(Family::kJournal, "", JournalKey(static_cast<uint8_t>((**start)[0])),
                           nullptr,
                           [&](std::string_view, std::string_view) -> absl::StatusOr<bool> {
                             ++records;
                             return true;
                           })
                    .ok());
    EXPECT_EQ(records, 0u) << "the test shows nothing otherwise";
  }
  log().Open();
  EXPECT_EQ(client().TheLedger(), (Ledger{.total = {.accepted = 20}}));
}

// --- Deleted threads.

TEST_F(EmbeddedLogTest, TombstoneIsSweptWhenItsTimeIsOverAndTheIdIsFree) {
  Open([](EmbeddedOptions& options) { options.tombstone_age = 24h; });
  client().Add("t", "u", {"a"});
  client().Add("other", "u", {"a"});
  ASSERT_TRUE(client().Delete("t", "u").ok());
  log().clock().Advance(23h);
  ASSERT_TRUE(client().Delete("other", "u").ok());
  EXPECT_TRUE(client().State("t").deleted);
  log().clock().Advance(2h);
  // A sweep that finds the one before under way leaves it to the next, which comes with the clock.
  while (client().State("t").deleted) log().clock().Advance(1s);
  EXPECT_EQ(client().Add("t", "v", {"a"}), 1u);
  EXPECT_TRUE(client().State("other").deleted);
  EXPECT_EQ(client().TheLedger().total, (LedgerCounts{.accepted = 3, .expired = 2}));
}

TEST_F(EmbeddedLogTest, TombstoneSaysNothingOfTheThread) {
  Open();
  client().Add("the-thread-of-ada", "u", {"a"});
  ASSERT_TRUE(client().Delete("the-thread-of-ada", "u").ok());
  EXPECT_THAT(TombstoneKey(ThreadId("the-thread-of-ada")), testing::Not(HasSubstr("ada")));
  EXPECT_EQ(TombstoneKey(ThreadId("the-thread-of-ada")).size(), 8u + 16u);
}

// Deletes one thread among others, and looks for what it held in every file there is.
class PurgeTest : public EmbeddedLogTest {
 protected:
  static constexpr char kMarker[] = "MARKER-of-what-is-to-go";
  static constexpr char kThread[] = "thread-that-is-to-go";
  // Of this thread alone.
  static constexpr char kOwner[] = "owner-of-what-is-to-go";

  void Publish(const std::string& thread, const std::string& owner, const std::string& text,
               int count) {
    for (int n = 0; n < count; ++n) {
      const std::string id = text + std::to_string(n);
      std::string words = text;
      words.append("-").append(id);
      ASSERT_TRUE(
          client().Append(thread, owner, {Item(id, {.critical = n % 3 == 0, .text = words})}).ok());
    }
    ASSERT_TRUE(client()
                    .Append(thread, owner, {Start(text + "-start", text + "-run", text + "-data")})
                    .ok());
  }
  // Files that hold `text`.
  std::vector<std::string> FilesWith(const std::string& text) {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(log().options().path)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(file), {}};
      if (bytes.find(text) != std::string::npos) files.push_back(entry.path().filename());
    }
    return files;
  }
  // Those that hold anything of the deleted thread: events, run, its id, its owner.
  std::vector<std::string> FilesWithAny() {
    std::vector<std::string> files;
    for (const char* text : {kMarker, kThread, kOwner}) {
      for (const std::string& file : FilesWith(text)) files.push_back(file + " has " + text);
    }
    return files;
  }
  // What holds after a purge. The database's list of files names first and last keys, also of files
  // that are gone, so it may name thread and owner, and nothing else, until it is written anew.
  void ExpectPurged() {
    for (const std::string& found : FilesWithAny()) {
      EXPECT_TRUE(found.starts_with("MANIFEST-")) << found;
    }
    EXPECT_THAT(FilesWith(kMarker), IsEmpty());
  }
  static const Counter& Purged() { return GetCounter("clarion_log_purged_threads_total", ""); }
  // Turns the clock, again if a purge has to be tried again, until another one has ended.
  void AwaitPurge(uint64_t before) {
    for (log().clock().Advance(log().options().purge_after);;
         log().clock().Advance(log().options().retention_interval)) {
      const auto patience = std::chrono::steady_clock::now() + 500ms;
      while (std::chrono::steady_clock::now() < patience) {
        if (Purged().value() != before) return;
        std::this_thread::yield();
      }
    }
  }
};

TEST_F(PurgeTest, NoFileHoldsWhatADeletedThreadHeldAWhileLater) {
  // Where it stands when it is deleted: after a reopening the journal is in tables as well.
  enum class In { kMemoryAndJournal, kJournalsTables, kChunks };
  for (const In in : {In::kMemoryAndJournal, In::kJournalsTables, In::kChunks}) {
    SCOPED_TRACE(static_cast<int>(in));
    Open([&](EmbeddedOptions& options) {
      options.purge_after = 1min;
      if (in == In::kChunks) return;
      options.max_threads = 100;
      options.max_journal_bytes = 64u << 20;
      options.tail_events = 1000;
      options.tail_bytes = 1u << 20;
    });
    Publish("before", "u", "kept", 5);
    Publish(kThread, kOwner, kMarker, 40);
    Publish("after", "u", "kept too", 5);
    if (in == In::kChunks) log().Evict();
    if (in == In::kJournalsTables) log().Reopen();
    const auto kept = client().ReadAll("before");
    for (const char* text : {kMarker, kThread, kOwner}) {
      ASSERT_FALSE(FilesWith(text).empty()) << "the test would show nothing of " << text;
    }
    const uint64_t before = Purged().value();
    ASSERT_TRUE(client().Delete(kThread, kOwner).ok());
    client().Add("after", "u", {"later"});
    AwaitPurge(before);
    ExpectPurged();
    EXPECT_THAT(client().ReadAll("before"), testing::ElementsAreArray(kept));
    EXPECT_EQ(client().State("after").last, Offset(7));
    log().Reopen();
    EXPECT_THAT(FilesWithAny(), IsEmpty()) << "opening writes the list of files anew";
    EXPECT_THAT(client().ReadAll("before"), testing::ElementsAreArray(kept));
    EXPECT_TRUE(client().State(kThread).deleted);
    ASSERT_TRUE(client().Delete("before", "u").ok());
    ASSERT_TRUE(client().Delete("after", "u").ok());
    AwaitPurge(Purged().value());
    Close();
  }
}

TEST_F(PurgeTest, WhatAnEarlierProcessDeletedIsPurgedAfterOpening) {
  Open([](EmbeddedOptions& options) { options.purge_after = 1h; });
  Publish(kThread, kOwner, kMarker, 40);
  log().Evict();
  ASSERT_TRUE(client().Delete(kThread, kOwner).ok());
  log().Reopen();
  ASSERT_FALSE(FilesWith(kMarker).empty()) << "the test would show nothing";
  AwaitPurge(Purged().value());
  ExpectPurged();
}

TEST_F(PurgeTest, ListOfFilesNamesADeletedThreadOnlyUntilItHasGrown) {
  Open([](EmbeddedOptions& options) { options.purge_after = 1min; });
  const auto purge = [&](const std::string& thread, const std::string& owner) {
    Publish(thread, owner, "x", 4);
    log().Evict();
    const uint64_t before = Purged().value();
    ASSERT_TRUE(client().Delete(thread, owner).ok());
    AwaitPurge(before);
  };
  purge(kThread, kOwner);
  ASSERT_FALSE(FilesWithAny().empty()) << "the test would show nothing";
  for (int n = 0; n < 200 && !FilesWithAny().empty(); ++n) purge("t" + std::to_string(n), "u");
  EXPECT_THAT(FilesWithAny(), IsEmpty());
}

TEST_F(PurgeTest, PurgeWaitsForItsTimeAndTakesWhatWasDeletedMeanwhile) {
  Open([](EmbeddedOptions& options) { options.purge_after = 1min; });
  const Gauge& pending = GetGauge("clarion_log_purge_pending_threads", "");
  const uint64_t before = Purged().value();
  for (const char* thread : {"t1", "t2", "t3"}) {
    client().Add(thread, "u", {"a"});
    ASSERT_TRUE(client().Delete(thread, "u").ok());
    log().clock().Advance(15s);
  }
  EXPECT_EQ(pending.value(), 3);
  EXPECT_EQ(Purged().value(), before);
  AwaitPurge(before);
  EXPECT_EQ(Purged().value(), before + 3);
  EXPECT_EQ(pending.value(), 0);
}

}  // namespace
}  // namespace clarion::log
