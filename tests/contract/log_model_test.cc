// Random interleavings of everything a log can be asked, against a model that is plain enough to be
// right by looking at it. The seed is printed with every failure; CLARION_SEED runs one seed alone.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "tests/contract/log_embedded_testing.h"

namespace clarion::log {
namespace {

// One thread as the contract says it must be.
struct ModelThread {
  struct Event {
    std::string id;
    std::string text;
  };
  std::string owner;
  std::vector<Event> events;  // offset 1 first; those below the floor stay for counting
  uint64_t floor = 1;
  uint64_t acknowledged = 0;
  std::map<std::string, std::pair<uint64_t, uint64_t>> runs;  // start and end

  uint64_t last() const { return events.size(); }
  bool deleted = false;
  // Each event by itself: what became of it.
  std::vector<char> fates;  // 'p'ending, 'a'cknowledged, 'e'xpired

  uint64_t Find(const std::string& id) const {
    for (uint64_t offset = last(); offset >= floor; --offset) {
      if (events[offset - 1].id == id) return offset;
    }
    return 0;
  }
  void RaiseFloor(uint64_t to) {
    to = std::min(to, last() + 1);
    for (; floor < to; ++floor) {
      if (fates[floor - 1] == 'p') fates[floor - 1] = 'e';
    }
    std::erase_if(
        runs, [&](const auto& run) { return run.second.second != 0 && run.second.second < floor; });
  }
  void Ack(uint64_t to) {
    for (uint64_t offset = 1; offset <= to; ++offset) {
      if (fates[offset - 1] == 'p') fates[offset - 1] = 'a';
    }
    acknowledged = std::max(acknowledged, to);
  }
  uint64_t Count(char fate) const { return std::count(fates.begin(), fates.end(), fate); }
};

// A follower that checks what it is told as it comes.
class CheckingFollower : public Follower {
 public:
  void Begin(const ThreadState& state) {
    MutexLock lock(mutex_);
    next_ = state.last.value() + 1;
    floor_ = state.floor.value();
    acknowledged_ = state.acknowledged.value();
  }
  void OnAppended(const ThreadId&, const EventRun& run) override {
    MutexLock lock(mutex_);
    EXPECT_EQ(run.first.value(), next_);
    next_ = run.last().value() + 1;
  }
  void OnFloorRaised(const ThreadId&, Offset floor, FloorReason) override {
    MutexLock lock(mutex_);
    EXPECT_GT(floor.value(), floor_);
    floor_ = floor.value();
  }
  void OnAcknowledged(const ThreadId&, Offset acknowledged) override {
    MutexLock lock(mutex_);
    EXPECT_GT(acknowledged.value(), acknowledged_);
    acknowledged_ = acknowledged.value();
  }
  void OnInterrupted(const ThreadId&) override { ADD_FAILURE() << "nothing failed"; }
  void OnDeleted(const ThreadId&, Offset last) override {
    MutexLock lock(mutex_);
    EXPECT_EQ(last.value() + 1, next_);
    next_ = floor_ = 1;
    acknowledged_ = 0;
  }
  void ExpectAt(const ModelThread& thread) {
    MutexLock lock(mutex_);
    EXPECT_EQ(next_, thread.last() + 1);
    EXPECT_EQ(floor_, thread.floor);
    EXPECT_EQ(acknowledged_, thread.acknowledged);
  }

 private:
  Mutex mutex_;
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t floor_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t acknowledged_ ABSL_GUARDED_BY(mutex_) = 0;
};

class ModelRun {
 public:
  explicit ModelRun(uint64_t seed) : random_(seed), log_(Options()) {}
  ~ModelRun() { StopFollowing(); }

  void Steps(int steps) {
    for (int n = 0; n < steps && !testing::Test::HasFailure(); ++n) Step();
    for (const std::string& thread : kThreads) Check(thread);
  }

 private:
  static constexpr int kRuns = 5;
  const std::vector<std::string> kThreads = {"t1", "t2", "t3", "t4", "t5"};

  EmbeddedOptions Options() {
    EmbeddedOptions options = TightOptions();
    if (Pick(2) == 0) options.max_threads = 100;
    options.max_journal_bytes = Pick(2) == 0 ? 1500 : 50'000;
    options.tail_events = 2 + Pick(8);
    options.chunk_bytes = 40 + Pick(200);
    return options;
  }

  uint64_t Pick(uint64_t below) { return random_() % below; }
  LogClient client() { return LogClient(log_.log()); }
  const std::string& AnyThread() { return kThreads[Pick(kThreads.size())]; }

  void Step() {
    const uint64_t kind = Pick(100);
    if (kind < 50) return Append(AnyThread());
    if (kind < 60) return Ack(AnyThread());
    if (kind < 67) return RaiseFloor(AnyThread());
    if (kind < 77) return Read(AnyThread());
    if (kind < 87) return Check(AnyThread());
    if (kind < 91) return Find(AnyThread());
    if (kind < 95) return Follow(AnyThread());
    if (kind < 97) return log_.Evict();
    if (kind < 98) return Delete(AnyThread());
    Reopen();
  }

  void Append(const std::string& name) {
    ModelThread& thread = model_[name];
    std::vector<AppendItem> items;
    std::vector<std::string> texts;
    const uint64_t count = 1 + Pick(6);
    for (uint64_t n = 0; n < count; ++n) {
      // Sometimes an id that was there before, seldom with other words.
      const std::string id = "e" + std::to_string(Pick(4) == 0 ? Pick(next_id_ + 1) : next_id_++);
      const std::string run = "r" + std::to_string(Pick(kRuns));
      ItemOptions options{.critical = Pick(8) == 0, .run = run};
      options.text = TextOf(id) + (Pick(30) == 0 ? " otherwise" : "");
      if (Pick(8) == 0) options.effect = RunStep::kStart;
      if (Pick(8) == 0) options.effect = RunStep::kStop;
      options.run = options.effect == RunStep::kInside ? "r" : run;
      items.push_back(Item(id, options));
      texts.push_back(options.text + "/" + options.run);
    }
    const bool other_user = Pick(15) == 0;
    const std::string owner = other_user ? "v" : "u";
    const bool stop = Pick(4) == 0;
    const auto result = client().Append(name, owner, items, stop);
    ASSERT_TRUE(result.ok()) << result.status();
    bool stopped = false;
    for (uint64_t n = 0; n < count; ++n) {
      const AppendedItem& answer = result->items[n];
      if (stopped) {
        EXPECT_EQ(answer.outcome, kSkipped);
        continue;
      }
      ExpectJudged(thread, owner, items[n], texts[n], answer);
      stopped = stop && answer.outcome != kAppended && answer.outcome != kDuplicate;
    }
  }

  // What the contract says of this item; changes the model.
  void ExpectJudged(ModelThread& thread, const std::string& owner, const AppendItem& item,
                    const std::string& text, const AppendedItem& answer) {
    if (thread.deleted) {
      EXPECT_EQ(answer.outcome, kDeleted);
      return;
    }
    if (!thread.owner.empty() && thread.owner != owner) {
      EXPECT_EQ(answer.outcome, kNotOwner);
      return;
    }
    const std::string& run = item.run_id.str();
    if (const uint64_t before = thread.Find(item.event_id.str()); before != 0) {
      EXPECT_EQ(answer.outcome, thread.events[before - 1].text == text ? kDuplicate : kIdConflict);
      if (answer.outcome == kDuplicate) {
        EXPECT_EQ(answer.offset.value(), before);
      }
      return;
    }
    if (item.run_step == RunStep::kStart) {
      if (thread.runs.contains(run)) {
        EXPECT_EQ(answer.outcome, kRunExists);
        return;
      }
      const auto open = std::count_if(thread.runs.begin(), thread.runs.end(),
                                      [](const auto& entry) { return entry.second.second == 0; });
      if (static_cast<size_t>(open) >= log_.max_open_runs()) {
        EXPECT_EQ(answer.outcome, kTooManyRuns);
        return;
      }
    }
    thread.owner = owner;
    thread.events.push_back({item.event_id.str(), text});
    thread.fates.push_back('p');
    EXPECT_EQ(answer.outcome, kAppended);
    EXPECT_EQ(answer.offset.value(), thread.last());
    if (item.run_step == RunStep::kStart) thread.runs[run] = {thread.last(), 0};
    if (item.run_step == RunStep::kStop && thread.runs.contains(run) &&
        thread.runs[run].second == 0) {
      thread.runs[run].second = thread.last();
    }
  }

  void Ack(const std::string& name) {
    ModelThread& thread = model_[name];
    const uint64_t offset = Pick(thread.last() + 2);
    const auto result = client().Ack(name, "u", offset);
    if (thread.owner != "u") {
      EXPECT_THAT(result, HasReason(Reason::kThreadOwnership));
    } else if (offset > thread.last()) {
      EXPECT_THAT(result,
                  HasReason(thread.last() == 0 ? Reason::kEpochChanged : Reason::kAckInvalid));
    } else {
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->moved, offset > thread.acknowledged);
      thread.Ack(offset);
      EXPECT_EQ(result->acknowledged.value(), thread.acknowledged);
    }
  }

  // What it had counts on; the thread itself is as empty as one that never was.
  void Delete(const std::string& name) {
    ModelThread& thread = model_[name];
    if (thread.deleted) {
      EXPECT_TRUE(client().Delete(name, "u")->already_deleted);
      return;
    }
    if (thread.owner.empty()) {
      EXPECT_THAT(client().Delete(name, "u"), HasReason(Reason::kNotFound));
      return;
    }
    EXPECT_THAT(client().Delete(name, "w"), HasReason(Reason::kThreadOwnership));
    const auto deleted = client().Delete(name, thread.owner);
    ASSERT_TRUE(deleted.ok()) << deleted.status();
    EXPECT_FALSE(deleted->already_deleted);
    EXPECT_EQ(deleted->events, thread.last() + 1 - thread.floor);
    EXPECT_EQ(deleted->expired, thread.Count('p'));
    deleted_.accepted += thread.last();
    deleted_.acknowledged += thread.Count('a');
    deleted_.expired += thread.Count('e') + thread.Count('p');
    thread = ModelThread{};
    thread.deleted = true;
  }

  void RaiseFloor(const std::string& name) {
    ModelThread& thread = model_[name];
    const uint64_t floor = thread.floor + Pick(8);
    const auto result = client().RaiseFloor(name, floor);
    ASSERT_TRUE(result.ok()) << result.status();
    thread.RaiseFloor(floor);
    EXPECT_EQ(result->value(), thread.floor);
  }

  void Read(const std::string& name) {
    const ModelThread& thread = model_[name];
    const uint64_t from = 1 + Pick(thread.last() + 2);
    std::vector<std::string> expected;
    for (uint64_t offset = std::max(from, thread.floor); offset <= thread.last(); ++offset) {
      const std::string& text = thread.events[offset - 1].text;
      expected.push_back(std::to_string(offset) + ":" + text.substr(0, text.find('/')));
    }
    EXPECT_EQ(client().ReadAll(name, from, 1 + Pick(20)), expected);
  }

  void Find(const std::string& name) {
    const ModelThread& thread = model_[name];
    const std::string id = "e" + std::to_string(Pick(next_id_ + 1));
    const auto found = client().Find(name, id);
    if (const uint64_t offset = thread.Find(id); offset != 0) {
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_EQ(found->offset.value(), offset);
      const std::string& text = thread.events[offset - 1].text;
      EXPECT_EQ(found->event->json(), text.substr(0, text.find('/')));
    } else {
      EXPECT_THAT(found, HasReason(Reason::kNotFound));
    }
  }

  void Check(const std::string& name) {
    const ModelThread& thread = model_[name];
    const ThreadState state = client().State(name);
    EXPECT_EQ(state.deleted, thread.deleted);
    EXPECT_EQ(state.owner.str(), thread.owner);
    EXPECT_EQ(state.last.value(), thread.last());
    EXPECT_EQ(state.floor.value(), thread.floor);
    EXPECT_EQ(state.acknowledged.value(), thread.acknowledged);
    EXPECT_EQ(state.acknowledged_count, thread.Count('a'));
    EXPECT_EQ(state.expired_count, thread.Count('e'));
    EXPECT_EQ(state.pending(), thread.Count('p'));
    EXPECT_EQ(ExpiredOffsets(state, thread), thread.Count('e'));
    CheckLedger();
    EXPECT_LE(state.epochs.size(), 1u);
    std::map<std::string, std::pair<uint64_t, uint64_t>> runs;
    for (int n = 0; n < kRuns; ++n) {
      const std::string id = "r" + std::to_string(n);
      if (const auto run = client().Run(name, id)) {
        runs[id] = {run->start.value(), run->end.value()};
      }
    }
    EXPECT_EQ(runs, thread.runs);
    if (const auto follower = followers_.find(name); follower != followers_.end()) {
      follower->second->ExpectAt(thread);
    }
  }

  // Each range covers what expired in it and nothing else, unless it was drawn together. The sum.
  static uint64_t ExpiredOffsets(const ThreadState& state, const ModelThread& thread) {
    uint64_t sum = 0;
    uint64_t last = 0;
    for (const ExpiredRange& range : state.expired) {
      EXPECT_GT(range.from.value(), last);
      last = range.to.value();
      const auto first = thread.fates.begin() + static_cast<ptrdiff_t>(range.from.value()) - 1;
      EXPECT_EQ(std::count(first, thread.fates.begin() + static_cast<ptrdiff_t>(last), 'e'),
                static_cast<ptrdiff_t>(range.count));
      sum += range.count;
    }
    return sum;
  }

  void CheckLedger() {
    LedgerCounts sum;
    for (const auto& [name, thread] : model_) {
      sum.accepted += thread.last();
      sum.acknowledged += thread.Count('a');
      sum.expired += thread.Count('e');
    }
    sum.accepted += deleted_.accepted;
    sum.acknowledged += deleted_.acknowledged;
    sum.expired += deleted_.expired;
    EXPECT_EQ(client().TheLedger(), (Ledger{.total = sum, .deleted_threads = deleted_}));
  }

  void Follow(const std::string& name) {
    std::unique_ptr<CheckingFollower>& follower = followers_[name];
    if (follower == nullptr) follower = std::make_unique<CheckingFollower>();
    // Begin() before the first call that follows the state.
    const auto state = Await<ThreadState>([&](Log::Callback<ThreadState> done) {
      log_.log()->Follow(ThreadId(name), follower.get(),
                         [done, &follower](absl::StatusOr<ThreadState> answer) {
                           if (answer.ok()) follower->Begin(*answer);
                           done(std::move(answer));
                         });
    });
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_EQ(state->last.value(), model_[name].last());
    std::map<std::string, std::pair<uint64_t, uint64_t>> unfinished;
    for (const RunRecord& run : state->runs) {
      unfinished[run.run_id.str()] = {run.start.value(), run.end.value()};
    }
    auto expected = model_[name].runs;
    std::erase_if(expected, [&](const auto& run) {
      return run.second.second != 0 && run.second.second <= model_[name].acknowledged;
    });
    EXPECT_EQ(unfinished, expected);
  }

  void StopFollowing() {
    for (const auto& [name, follower] : followers_) client().Unfollow(name, follower.get());
    followers_.clear();
  }

  void Reopen() {
    StopFollowing();
    log_.Reopen();
  }

  std::mt19937_64 random_;
  EmbeddedUnderTest log_;
  std::map<std::string, ModelThread> model_;
  LedgerCounts deleted_;
  std::map<std::string, std::unique_ptr<CheckingFollower>> followers_;
  uint64_t next_id_ = 0;
};

TEST(LogModelTest, EmbeddedLogDoesWhatTheModelDoesOverRandomInterleavings) {
  constexpr int kSeeds = 40;
  constexpr int kStepsEach = 150;
  const char* one = std::getenv("CLARION_SEED");
  const uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
  const uint64_t seeds = one != nullptr ? 1 : kSeeds;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    SCOPED_TRACE("CLARION_SEED=" + std::to_string(seed));
    ModelRun(seed).Steps(kStepsEach);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace clarion::log
