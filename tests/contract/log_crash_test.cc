// The embedded log on a machine that dies, a process that dies, a disk that fails and one that
// stands still.
#include <cstdlib>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <utility>

#include "rocksdb/write_batch.h"
#include "service/log/upkeep.h"
#include "tests/contract/log_crash_fs.h"
#include "tests/contract/log_embedded_testing.h"

namespace clarion::log {
namespace {

using namespace std::chrono_literals;

// A place in a thread in one epoch, and what stands there.
using Places = std::map<std::pair<std::string, uint64_t>, std::string>;

EmbeddedOptions CrashOptions(rocksdb::Env* env) {
  EmbeddedOptions options = TightOptions();
  options.env = env;
  options.tail_events = 20;
  options.tail_bytes = 2000;
  options.max_journal_bytes = 4000;
  options.reopen_interval = 1ms;
  return options;
}

// Producers that write without waiting, and what they and a follower were told.
class Traffic {
 public:
  explicit Traffic(uint64_t seed) : random_(seed) {}

  struct Accepted {
    std::string thread;
    std::string id;
    bool critical;
    bool answered;  // as accepted; otherwise only seen by the follower
  };

  // Sends `batches` appends to a few threads; each answer is noted as it comes.
  void Send(Log* log, int batches) {
    for (int n = 0; n < batches; ++n) {
      const std::string thread = "t" + std::to_string(random_() % 4);
      std::vector<AppendItem> items;
      std::vector<std::pair<std::string, bool>> sent;
      for (uint64_t count = 1 + random_() % 4; count > 0; --count) {
        const std::string id = "e" + std::to_string(next_++);
        const bool critical = random_() % 6 == 0;
        items.push_back(critical ? Critical(id) : Item(id));
        sent.emplace_back(id, critical);
      }
      Begin();
      log->Append({ThreadId(thread), UserId("u"), std::move(items)},
                  [this, thread, sent](absl::StatusOr<AppendResult> result) {
                    Note(thread, sent, result);
                  });
      if (random_() % 6 == 0) MoveLedger(log, thread);
      if (random_() % 20 == 0) DeleteOne(log);
      // Sometimes a producer waits for its answer.
      if (random_() % 5 == 0) WaitForAnswers();
    }
  }

  void WaitForAnswers() {
    MutexLock lock(mutex_);
    while (waiting_ > 0) changed_.Wait(mutex_);
  }

  // Both by epoch and offset; the same place must never get another event.
  std::map<std::string, Places> seen() const {
    MutexLock lock(mutex_);
    return seen_;
  }
  std::vector<Accepted> accepted() const {
    MutexLock lock(mutex_);
    return accepted_;
  }
  // Threads whose deletion was answered.
  std::vector<std::string> deleted() const {
    MutexLock lock(mutex_);
    return deleted_;
  }
  std::mt19937_64& random() { return random_; }

 private:
  void Begin() {
    MutexLock lock(mutex_);
    ++waiting_;
  }
  void Answered() {
    MutexLock lock(mutex_);
    --waiting_;
    changed_.NotifyAll();
  }
  // A page acknowledges what it has, somewhere near the beginning.
  void MoveLedger(Log* log, const std::string& thread) {
    Begin();
    log->GetState(ThreadId(thread), [this, log, thread](absl::StatusOr<ThreadState> state) {
      if (!state.ok() || state->last == Offset{}) return Answered();
      const Position seen{state->end().epoch, Offset(state->last.value() / 2 + 1)};
      log->Ack(ThreadId(thread), UserId("u"), seen,
               [this](const absl::StatusOr<AckResult>&) { Answered(); });
    });
  }
  // A thread of its own, which comes and goes.
  void DeleteOne(Log* log) {
    const std::string thread = "gone" + std::to_string(next_++);
    Begin();
    log->Append({ThreadId(thread), UserId("u"), {Item("a"), Critical("b"), Start("s", "r")}},
                [this](const absl::StatusOr<AppendResult>&) { Answered(); });
    Begin();
    log->Delete(ThreadId(thread), UserId("u"),
                [this, thread](const absl::StatusOr<DeletedThread>& result) {
                  {
                    MutexLock lock(mutex_);
                    if (result.ok()) deleted_.push_back(thread);
                  }
                  Answered();
                });
  }
  void Note(const std::string& thread, const std::vector<std::pair<std::string, bool>>& sent,
            const absl::StatusOr<AppendResult>& result) {
    MutexLock lock(mutex_);
    --waiting_;
    changed_.NotifyAll();
    if (!result.ok()) {
      EXPECT_EQ(ReasonOf(result.status()), Reason::kLogUnavailable) << result.status();
      return;
    }
    for (size_t n = 0; n < sent.size(); ++n) {
      const AppendedItem& item = result->items[n];
      EXPECT_EQ(item.outcome, AppendOutcome::kAppended);
      accepted_.push_back({thread, sent[n].first, sent[n].second, true});
      const auto place = std::make_pair(item.epoch.str(), item.offset.value());
      const auto [entry, fresh] = seen_[thread].try_emplace(place, TextOf(sent[n].first));
      EXPECT_TRUE(fresh || entry->second == TextOf(sent[n].first))
          << thread << " " << item.offset.value() << " means two events";
    }
  }

  std::mt19937_64 random_;
  int next_ = 0;
  mutable Mutex mutex_;
  CondVar changed_;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Accepted> accepted_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Places> seen_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> deleted_ ABSL_GUARDED_BY(mutex_);
};

class CrashTest : public testing::Test {
 protected:
  void Open(const std::string& boot_id) {
    EmbeddedOptions options = WithSmallDatabase(CrashOptions(fs_->env()));
    options.path = folder_.path() + "/log";
    options.scheduler = &clock_;
    options.boot_id = boot_id;
    absl::StatusOr<std::unique_ptr<Log>> log = OpenEmbeddedLog(options);
    ASSERT_TRUE(log.ok()) << log.status();
    log_ = *std::move(log);
  }
  void OpenFresh(const std::string& boot_id) {
    log_.reset();
    std::filesystem::remove_all(folder_.path() + "/log");
    fs_ = CrashFileSystem::Make();
    Open(boot_id);
  }
  LogClient client() { return LogClient(log_.get()); }

  // What a thread holds now, by epoch and offset.
  Places Now(const std::string& thread) {
    Places places;
    for (Offset next(1);;) {
      const auto page = client().Read({.thread = ThreadId(thread), .from = next});
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok() || page->runs.empty()) return places;
      for (const EventRun& run : page->runs) {
        uint64_t offset = run.first.value();
        for (const EventPtr& event : run.events) {
          places[{run.epoch.str(), offset++}] = std::string(event->json());
        }
      }
      next = page->runs.back().last().next();
    }
  }

  // No place that anybody saw holds something else now; offsets have no gaps.
  void ExpectNoPlaceMeansTwoEvents(const Traffic& traffic) {
    for (const auto& [thread, places] : traffic.seen()) {
      const Places now = Now(thread);
      for (const auto& [place, text] : places) {
        const auto entry = now.find(place);
        if (entry != now.end()) {
          EXPECT_EQ(entry->second, text) << thread << " " << place.second;
        }
      }
      EXPECT_EQ(now.size(), client().State(thread).last.value());
    }
  }

  // The sums that commits kept are those of the threads there are.
  void ExpectLedgerBalances() {
    const Ledger ledger = client().TheLedger();
    LedgerCounts sum = ledger.deleted_threads;
    EXPECT_EQ(sum.pending(), 0u);
    std::string token;
    do {
      const auto page = client().List("", token);
      ASSERT_TRUE(page.ok()) << page.status();
      for (const ThreadState& state : page->threads) {
        EXPECT_EQ(state.acknowledged_count + state.expired_count + state.pending(),
                  state.last.value());
        sum.accepted += state.last.value();
        sum.acknowledged += state.acknowledged_count;
        sum.expired += state.expired_count;
      }
      token = page->next_page_token;
    } while (!token.empty());
    EXPECT_EQ(ledger.total, sum);
  }

  // Whose deletion was answered stays deleted, and refuses what comes late.
  void ExpectDeleted(const Traffic& traffic) {
    for (const std::string& thread : traffic.deleted()) {
      EXPECT_TRUE(client().State(thread).deleted) << thread;
      const auto late = client().Append(thread, "u", Items({"late"}));
      ASSERT_TRUE(late.ok()) << late.status();
      EXPECT_THAT(Outcomes(*late), ElementsAre(kDeleted));
    }
  }

  std::shared_ptr<CrashFileSystem> fs_ = CrashFileSystem::Make();
  TemporaryFolder folder_;
  ManualScheduler clock_;
  std::unique_ptr<Log> log_;
};

uint64_t FirstSeed() {
  const char* one = std::getenv("CLARION_SEED");
  return one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
}
uint64_t SeedCount(uint64_t usual) {
  return std::getenv("CLARION_SEED") != nullptr ? 1 : usual;
}

TEST_F(CrashTest, MachineCrashLosesNoCriticalEventAndNoPlaceMeansTwo) {
  int lost_something = 0;
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + SeedCount(120); ++seed) {
    SCOPED_TRACE("CLARION_SEED=" + std::to_string(seed));
    OpenFresh("boot 0");
    if (HasFatalFailure()) return;
    Traffic traffic(seed);
    traffic.Send(log_.get(), 30);
    traffic.WaitForAnswers();
    std::map<std::string, ThreadState> before;
    for (int boot = 1; boot <= 2; ++boot) {
      // The power goes at some write from now on.
      fs_->PowerOffAfter(1 + traffic.random()() % 120);
      traffic.Send(log_.get(), 60);
      traffic.WaitForAnswers();
      fs_->PowerOff();
      for (const auto& [thread, places] : traffic.seen()) before[thread] = client().State(thread);
      log_.reset();
      fs_->ForgetUnsynced(traffic.random());
      Open("boot " + std::to_string(boot));
      if (HasFatalFailure()) return;

      for (const Traffic::Accepted& event : traffic.accepted()) {
        const auto found = client().Find(event.thread, event.id);
        if (event.critical) {
          EXPECT_TRUE(found.ok()) << event.thread << " lost " << event.id;
        }
      }
      for (const auto& [thread, state] : before) {
        const ThreadState now = client().State(thread);
        lost_something += now.last < state.last;
        // The next append opens an epoch right behind what is left.
        const auto next = client().Append(thread, "u", {Item("after" + std::to_string(boot))});
        ASSERT_TRUE(next.ok()) << next.status();
        EXPECT_EQ(next->items[0].offset, now.last.next());
        const ThreadState then = client().State(thread);
        EXPECT_EQ(then.epochs.back().first, now.last.next());
        EXPECT_NE(then.epochs.back().epoch, state.end().epoch);
        // What followed a lost event is lost as well: the rest is a beginning of what was.
        EXPECT_LE(now.epochs.size(), state.epochs.size() + 1);
      }
      ExpectLedgerBalances();
      ExpectDeleted(traffic);
      ExpectNoPlaceMeansTwoEvents(traffic);
      if (HasFailure()) return;
    }
  }
  if (SeedCount(2) > 1) {
    EXPECT_GT(lost_something, 0) << "no crash lost anything: the test tests nothing";
  }
}

TEST_F(CrashTest, LostTailIsAPrefixCutOfWhatWasSeen) {
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + SeedCount(20); ++seed) {
    SCOPED_TRACE("CLARION_SEED=" + std::to_string(seed));
    OpenFresh("boot 0");
    Traffic traffic(seed);
    fs_->PowerOffAfter(30 + traffic.random()() % 60);
    traffic.Send(log_.get(), 100);
    traffic.WaitForAnswers();
    fs_->PowerOff();
    log_.reset();
    fs_->ForgetUnsynced(traffic.random());
    Open("boot 1");
    if (HasFatalFailure()) return;
    for (const auto& [thread, places] : traffic.seen()) {
      const Places now = Now(thread);
      const uint64_t left = client().State(thread).last.value();
      for (const auto& [place, text] : places) {
        EXPECT_EQ(now.contains(place), place.second <= left) << thread << " " << place.second;
      }
    }
    if (HasFailure()) return;
  }
}

TEST_F(CrashTest, ProcessCrashLosesNothingAcceptedAndKeepsTheEpoch) {
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + SeedCount(20); ++seed) {
    SCOPED_TRACE("CLARION_SEED=" + std::to_string(seed));
    OpenFresh("the boot");
    Traffic traffic(seed);
    std::map<std::string, Epoch> epochs;
    for (int life = 0; life < 3; ++life) {
      traffic.Send(log_.get(), 40);
      traffic.WaitForAnswers();
      for (const auto& [thread, places] : traffic.seen()) {
        epochs.try_emplace(thread, client().State(thread).end().epoch);
      }
      // Nothing is written any more, the mark of a clean shutdown neither; nothing is forgotten.
      fs_->PowerOff();
      log_.reset();
      fs_ = CrashFileSystem::Make();
      Open("the boot");
      if (HasFatalFailure()) return;
      for (const auto& [thread, places] : traffic.seen()) EXPECT_EQ(Now(thread), places);
      ExpectLedgerBalances();
      ExpectDeleted(traffic);
    }
    for (const auto& [thread, epoch] : epochs) {
      client().Add(thread, "u", {"after"});
      EXPECT_EQ(client().State(thread).end().epoch, epoch);
    }
    if (HasFailure()) return;
  }
}

TEST_F(CrashTest, SecondCrashRightAfterOpeningLosesNothingOfTheFirst) {
  OpenFresh("boot 0");
  client().Add("t", "u", {"a", "b"});
  fs_->PowerOff();
  log_.reset();  // the process dies, the machine does not
  fs_->PowerOffAfter(0);
  std::mt19937_64 random(1);
  // Power is on again with everything that was written, synced or not.
  auto kept = CrashFileSystem::Make();
  fs_ = kept;
  Open("boot 0");
  const uint64_t last = client().State("t").last.value();
  EXPECT_EQ(last, 2u);
  fs_->PowerOff();
  log_.reset();
  fs_->ForgetUnsynced(random);
  Open("boot 1");
  EXPECT_EQ(client().State("t").last, Offset(2))
      << "what was seen after opening was not synced first";
}

TEST_F(CrashTest, WhatExpiresAcrossEpochsIsARangeOfEach) {
  OpenFresh("boot 0");
  ASSERT_TRUE(client().Append("t", "u", {Critical("a"), Critical("b")}).ok());
  ASSERT_TRUE(client().Ack("t", "u", 1).ok());
  ASSERT_TRUE(client().Append("t", "u", {Critical("c")}).ok());  // makes the ack durable
  fs_->PowerOff();
  log_.reset();
  fs_ = CrashFileSystem::Make();
  Open("boot 1");
  client().Add("t", "u", {"d", "e"});
  const std::vector<EpochRecord> epochs = client().State("t").epochs;
  ASSERT_EQ(epochs.size(), 2u);
  ASSERT_TRUE(client().RaiseFloor("t", 5).ok());
  const ThreadState state = client().State("t");
  EXPECT_THAT(RangesOf(state), ElementsAre("2-3 2 expired", "4-4 1 expired"));
  EXPECT_EQ(state.expired.at(0).epoch, epochs[0].epoch);
  EXPECT_EQ(state.expired.at(1).epoch, epochs[1].epoch);
  // A late ack of the older epoch counts nothing that expired.
  ASSERT_TRUE(client().Ack("t", "u", Position{epochs[0].epoch, Offset(3)}).ok());
  EXPECT_EQ(client().State("t").acknowledged_count, 1u);
  EXPECT_EQ(client().State("t").expired_count, 3u);
  ExpectLedgerBalances();
}

// --- Failing writes.

class FailingWriteTest : public CrashTest,
                         public testing::WithParamInterface<CrashFileSystem::Failure> {};

INSTANTIATE_TEST_SUITE_P(EveryWay, FailingWriteTest,
                         testing::Values(CrashFileSystem::Failure::kNothingWritten,
                                         CrashFileSystem::Failure::kHalfWritten,
                                         CrashFileSystem::Failure::kWrittenButNotSaid));

TEST_P(FailingWriteTest, AcceptedEventsStayAndARepeatedAppendSortsOutTheRest) {
  for (uint64_t n = 1; n < 200; ++n) {
    SCOPED_TRACE("failing write " + std::to_string(n));
    OpenFresh("the boot");
    if (HasFatalFailure()) return;
    RecordingFollower follower;
    ASSERT_TRUE(client().Follow("t", &follower).ok());
    // Of the write-ahead log, of tables, of everything.
    fs_->FailOnce(n, GetParam(), n % 2 == 0 ? ".log" : "");
    std::map<uint64_t, std::string> accepted;
    for (int event = 0; event < 25; ++event) {
      const std::string id = "e" + std::to_string(event);
      std::optional<uint64_t> offset;
      // A producer repeats until it is answered.
      for (int attempt = 0; attempt < 100'000 && !offset; ++attempt) {
        const auto result = client().Append("t", "u", {event % 4 == 0 ? Critical(id) : Item(id)});
        if (!result.ok()) {
          EXPECT_THAT(result, HasReason(Reason::kLogUnavailable));
          continue;
        }
        const AppendedItem& item = result->items[0];
        EXPECT_TRUE(item.outcome == kAppended || item.outcome == kDuplicate);
        offset = item.offset.value();
      }
      ASSERT_TRUE(offset.has_value()) << "the log did not recover";
      EXPECT_TRUE(accepted.emplace(*offset, TextOf(id)).second) << *offset << " means two events";
    }
    std::vector<std::string> expected;
    expected.reserve(accepted.size());
    for (const auto& [offset, text] : accepted) {
      expected.push_back(std::to_string(offset) + ":" + text);
    }
    EXPECT_EQ(client().ReadAll("t"), expected);
    EXPECT_EQ(expected.size(), 25u);
    ExpectLedgerBalances();
    // A follower that was not interrupted was told everything.
    const auto calls = follower.calls();
    if (std::find(calls.begin(), calls.end(), "interrupted") == calls.end()) {
      EXPECT_EQ(follower.events(), expected);
    }
    client().Unfollow("t", &follower);
    const bool failed = fs_->failed();
    fs_->FailOnce(0, GetParam(), "");  // not while opening
    log_->Close();
    Open("the boot");
    if (HasFatalFailure()) return;
    EXPECT_EQ(client().ReadAll("t"), expected);
    if (HasFailure()) return;
    if (!failed) {
      EXPECT_GT(n, 20u) << "nothing ever failed";
      return;
    }
  }
}

TEST_F(CrashTest, WhileNothingCanBeWrittenCallsFailAndReadsDoNot) {
  OpenFresh("the boot");
  client().Add("t", "u", {"a"});
  fs_->FailAll(true);
  EXPECT_THAT(client().Append("t", "u", Items({"b"})), HasReason(Reason::kLogUnavailable));
  EXPECT_THAT(client().Append("t", "u", Items({"c"})), HasReason(Reason::kLogUnavailable));
  EXPECT_THAT(client().Ack("t", "u", 1), HasReason(Reason::kLogUnavailable));
  EXPECT_EQ(log_->Writable().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(client().ReadAll("t"), ElementsAre("1:text of a"));
  RecordingFollower follower;
  EXPECT_EQ(client().Follow("t", &follower)->last, Offset(1));
  fs_->FailAll(false);
  // Whoever repeats gets through once the disk is back.
  absl::StatusOr<AppendResult> result = absl::UnknownError("");
  while (!result.ok()) result = client().Append("t", "u", Items({"b"}));
  EXPECT_EQ(result->items[0].offset, Offset(2));
  EXPECT_TRUE(log_->Writable().ok());
  client().Unfollow("t", &follower);
}

TEST_F(CrashTest, ProcessThatDiesWithAFailedWriteLeavesANewIncarnation) {
  OpenFresh("the boot");
  client().Add("t", "u", {"a"});
  fs_->FailAll(true);
  EXPECT_THAT(client().Append("t", "u", Items({"b"})), HasReason(Reason::kLogUnavailable));
  log_.reset();
  fs_->FailAll(false);
  Open("the boot");
  client().Add("t", "u", {"c"});
  EXPECT_EQ(client().State("t").epochs.size(), 2u);
  // Once only.
  log_.reset();
  Open("the boot");
  client().Add("t", "u", {"d"});
  EXPECT_EQ(client().State("t").epochs.size(), 2u);
}

TEST_F(CrashTest, FollowerOfADoubtfulCommitIsInterruptedAndFindsOutByFollowingAgain) {
  OpenFresh("the boot");
  client().Add("t", "u", {"a"});
  RecordingFollower follower;
  ASSERT_TRUE(client().Follow("t", &follower).ok());
  fs_->FailOnce(1, CrashFileSystem::Failure::kWrittenButNotSaid, ".log");
  EXPECT_THAT(client().Append("t", "u", Items({"b"})), HasReason(Reason::kLogUnavailable));
  follower.WaitFor("interrupted");
  const auto state = client().Follow("t", &follower);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->last, Offset(client().ReadAll("t").size()));
  client().Unfollow("t", &follower);
}

TEST_F(CrashTest, OwnerOfADoubtfulCommitThatSurvivedIsTold) {
  RecordingOwners owners;
  OpenFresh("the boot");
  log_->WatchOwners(&owners);
  fs_->FailOnce(1, CrashFileSystem::Failure::kWrittenButNotSaid, ".log");
  EXPECT_THAT(client().Append("t", "u", Items({"a"})), HasReason(Reason::kLogUnavailable));
  owners.WaitFor(1);
  EXPECT_THAT(owners.owned(), ElementsAre("t u"));
  EXPECT_THAT(client().ReadAll("t"), ElementsAre("1:text of a"));
  log_.reset();
}

TEST_F(CrashTest, JournalThatCouldNotBeTrimmedIsCountedAndNotTakenForGivenBack) {
  EmbeddedOptions options = WithSmallDatabase(CrashOptions(fs_->env()));
  options.path = folder_.path() + "/log";
  options.scheduler = &clock_;
  options.disk_readers = 1;
  Engine engine(options);
  absl::StatusOr<std::shared_ptr<Store>> store = Store::Open(options, [] {});
  ASSERT_TRUE(store.ok()) << store.status();
  rocksdb::ColumnFamilyHandle* journal = (*store)->family(Family::kJournal);
  rocksdb::WriteBatch records;
  for (uint64_t n = 1; n <= 50; ++n) records.Put(journal, JournalKey(n), "record");
  ASSERT_TRUE((*store)->Write(records, true).ok());
  // Only files that were merged once are removed whole.
  ASSERT_TRUE((*store)->db().Flush({}, journal).ok());
  ASSERT_TRUE((*store)->db().CompactRange({}, journal, nullptr, nullptr).ok());

  Upkeep upkeep(engine);
  const auto step = [&](uint64_t sequence, uint64_t journal_bytes) {
    EXPECT_TRUE(upkeep.Step(*store, sequence, journal_bytes, 1).ok());
    std::promise<void> trimmed;
    engine.disk.Post([&] { trimmed.set_value(); });
    trimmed.get_future().wait();
  };
  step(20, 5000);
  step(20, 5000);
  EXPECT_EQ(engine.metrics.journal_bytes.value(), 0);
  const uint64_t failures = engine.metrics.failed_trims.value();
  fs_->FailOnce(1, CrashFileSystem::Failure::kNothingWritten, "MANIFEST");
  step(60, 9000);
  step(60, 9000);
  EXPECT_EQ(engine.metrics.failed_trims.value(), failures + 1);
  EXPECT_EQ(engine.metrics.journal_bytes.value(), 4000);
  engine.disk.Stop();
}

// --- A disk that stands still.

TEST_F(CrashTest, StalledDiskStopsNeitherCallersNorReadsOfTheTail) {
  OpenFresh("the boot");
  client().Add("t", "u", {"a"});
  fs_->StallSyncs();
  std::promise<absl::Status> committed;
  log_->Append({ThreadId("t"), UserId("u"), {Critical("b")}},
               [&](absl::StatusOr<AppendResult> result) { committed.set_value(result.status()); });
  fs_->WaitUntilSyncStalls();
  // The caller is not held up, and is told when the queue is full; what is committed can be read.
  std::promise<absl::Status> later;
  log_->Append({ThreadId("t"), UserId("u"), Items({"c"})},
               [&](absl::StatusOr<AppendResult> result) { later.set_value(result.status()); });
  EXPECT_THAT(client().ReadAll("t"), ElementsAre("1:text of a"));
  EXPECT_EQ(client().State("t").last, Offset(1));
  EXPECT_TRUE(client().Find("t", "a").ok());
  EXPECT_TRUE(log_->Writable().ok());
  clock_.Advance(5s);
  EXPECT_THAT(log_->Writable().message(), HasSubstr("for 5 s"));
  auto done = committed.get_future();
  EXPECT_EQ(done.wait_for(0s), std::future_status::timeout);
  fs_->Go();
  EXPECT_TRUE(done.get().ok());
  EXPECT_TRUE(later.get_future().get().ok());
  EXPECT_EQ(client().State("t").last, Offset(3));
  EXPECT_TRUE(log_->Writable().ok());
}

}  // namespace
}  // namespace clarion::log
