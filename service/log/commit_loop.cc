#include "service/log/commit_loop.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "proto/contract/error.h"
#include "service/log/checkpoint.h"
#include "service/log/new_epoch.h"
#include "service/log/retention.h"
#include "service/log/stored_thread.h"
#include "service/log/tombstone.h"
#include "telemetry/log.h"

namespace clarion::log {
namespace {

// Written by one step of upkeep at least, so that small commits do not leave work behind.
constexpr size_t kUpkeepBytes = 1u << 20;
// Threads whose retention is looked at between two commits.
constexpr size_t kRetentionStep = 256;

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

}  // namespace

CommitLoop::CommitLoop(Engine& engine, Recovered recovered) : engine_(engine), upkeep_(engine) {
  context_.options = &engine.options;
  context_.new_epoch = [this] { return NewEpoch(incarnation_); };
  Adopt(std::move(recovered));
}

void CommitLoop::Start() {
  thread_ = std::thread([this] { Run(); });
}

void CommitLoop::Join() {
  if (thread_.joinable()) thread_.join();
}

// --- The loop.

void CommitLoop::Run() {
  pthread_setname_np(pthread_self(), "log-commit");
  for (;;) {
    const bool more = (health_ == Health::kOpen &&
                       (!ready_.empty() || upkeep_.InRound() || upkeep_.Pending(journal_bytes_))) ||
                      (taken_.closing && loading_.empty());
    std::optional<std::chrono::steady_clock::time_point> until;
    if (health_ == Health::kBroken || health_ == Health::kClosed) until = next_attempt_;
    engine_.queue.Take(taken_, more, until);
    engine_.health.WorkBegins(engine_.options.scheduler->now());
    Cycle();
    engine_.health.WorkEnded();
    const bool idle = ready_.empty() && loading_.empty();
    if (taken_.closing && taken_.ops.empty() && taken_.loaded.empty() && idle) break;
    taken_.Clear();
  }
  Finish();
}

void CommitLoop::Cycle() {
  if (taken_.store_closed && health_ == Health::kClosing) {
    health_ = Health::kClosed;
    next_attempt_ = std::chrono::steady_clock::now();
  }
  if (health_ != Health::kOpen) TryToReopen();
  for (Loaded& loaded : taken_.loaded) Install(loaded);
  for (const Purged& purged : taken_.purged) OnPurged(purged);
  if (taken_.retention_tick) BeginRetention();
  ContinueRetention();
  for (ThreadId& thread : taken_.due) ready_.push_back({std::move(thread), 0, RetainOp{}});
  const uint64_t journal_before = journal_bytes_;
  std::vector<Op> ready = std::move(ready_);
  ready_.clear();
  Process(ready);
  Process(taken_.ops);
  AnswerFollows();
  DropBlank();
  engine_.queue.Release(std::exchange(released_ops_, 0), std::exchange(released_bytes_, 0));
  if (health_ != Health::kOpen) return;
  // Twice what was written, so that upkeep cannot fall behind.
  const size_t budget = std::max<size_t>(kUpkeepBytes, 2 * (journal_bytes_ - journal_before));
  if (absl::Status status = upkeep_.Step(store_, sequence_, journal_bytes_, budget); !status.ok()) {
    Break(status);
  } else if (const std::optional<uint64_t> start = upkeep_.TakePurgeable()) {
    PostPurge(*start);
  }
}

void CommitLoop::Finish() {
  if (health_ == Health::kOpen) {
    if (absl::Status status = MarkCleanShutdown(*store_); !status.ok()) {
      clarion::Log(Severity::kWarning, "the event log was not closed cleanly",
                   {{"cause", std::string(status.message())}});
    }
  }
  store_.reset();
}

void CommitLoop::Process(std::vector<Op>& ops) {
  context_.now = engine_.Now();
  for (Op& op : ops) ProcessOne(op);
  Commit();
}

void CommitLoop::ProcessOne(Op& op) {
  if (std::holds_alternative<UnfollowOp>(op.what)) {
    follows_.push_back(std::move(op));
    return;
  }
  ThreadLog* thread = Admit(op);
  if (thread == nullptr) return;
  if (std::holds_alternative<FollowOp>(op.what)) {
    follows_.push_back(std::move(op));
  } else if (std::holds_alternative<EraseOp>(op.what) ||
             std::holds_alternative<DeleteOp>(op.what)) {
    if (!Commit()) return Refuse(op, Unavailable("write", op.thread));
    std::holds_alternative<EraseOp>(op.what) ? EraseThread(*thread, op) : DeleteThread(*thread, op);
  } else {
    JudgeOp(*thread, op);
    in_commit_.push_back(std::move(op));
    if (staged_bytes_ >= engine_.options.max_commit_bytes) Commit();
  }
}

void CommitLoop::AnswerFollows() {
  for (Op& op : follows_) {
    if (auto* unfollow = std::get_if<UnfollowOp>(&op.what)) {
      if (const auto entry = followers_.find(op.thread); entry != followers_.end()) {
        std::erase(entry->second, unfollow->follower);
        if (entry->second.empty()) followers_.erase(entry);
      }
      unfollow->done();
    } else if (auto* follow = std::get_if<FollowOp>(&op.what)) {
      const std::shared_ptr<ThreadLog> thread = engine_.threads.Find(op.thread);
      if (health_ != Health::kOpen && (thread == nullptr || thread->loading)) {
        Refuse(op, Unavailable("Follow", op.thread));
        continue;
      }
      std::vector<Follower*>& all = followers_[op.thread];
      if (std::find(all.begin(), all.end(), follow->follower) == all.end()) {
        all.push_back(follow->follower);
      }
      ThreadState state;
      state.thread = op.thread;
      if (thread != nullptr && !thread->loading) {
        MutexLock lock(thread->mutex);
        state = thread->image->State();
        state.runs = thread->image->UnfinishedRuns();
      } else {  // it was in memory when this call came, and was removed behind it
        state.deleted = deleted_now_.contains(op.thread);
      }
      follow->done(std::move(state));
    }
    Answered(op);
  }
  follows_.clear();
  deleted_now_.clear();
}

// Anybody can ask about threads that do not exist: they must not push those that do out of memory.
void CommitLoop::DropBlank() {
  for (const std::shared_ptr<ThreadLog>& thread : blank_) {
    if (engine_.threads.Find(thread->id) != thread) continue;  // erased
    bool blank = false;
    {
      MutexLock lock(thread->mutex);
      blank = thread->image->blank();
    }
    if (blank) upkeep_.Remove(*thread);
  }
  blank_.clear();
}

// --- One commit.

ThreadLog* CommitLoop::Admit(Op& op) {
  std::shared_ptr<ThreadLog> thread = engine_.threads.Find(op.thread);
  if (health_ != Health::kOpen) {
    // What was committed can still be told.
    if (thread != nullptr && std::holds_alternative<FollowOp>(op.what)) return thread.get();
    Refuse(op, Unavailable("write", op.thread));
    return nullptr;
  }
  if (thread == nullptr) {
    // Most threads that are not in memory are new: that can be told without the disk.
    const auto stored = store_->GetFromMemory(Family::kThreads, op.thread.str());
    const auto deleted = store_->GetFromMemory(Family::kMeta, TombstoneKey(op.thread));
    const bool told = stored.ok() && deleted.ok() && !stored->has_value();
    if (told) {
      auto image = std::make_unique<ThreadImage>(op.thread);
      if (deleted->has_value()) image->SetDeleted();
      thread = AddThread(op.thread, std::move(image));
      upkeep_.Add(thread);
      blank_.push_back(thread);
    } else {
      thread = AddThread(op.thread, nullptr);
      RequestLoad(*thread);
    }
  }
  if (thread->loading) {
    thread->parked.push_back(std::move(op));
    return nullptr;
  }
  upkeep_.Touch(*thread);
  return thread.get();
}

std::shared_ptr<ThreadLog> CommitLoop::AddThread(const ThreadId& id,
                                                 std::unique_ptr<ThreadImage> image) {
  auto thread = std::make_shared<ThreadLog>(id);
  {
    MutexLock lock(thread->mutex);
    thread->image = std::move(image);
  }
  engine_.threads.Insert(thread);
  return thread;
}

void CommitLoop::RequestLoad(ThreadLog& thread) {
  thread.loading = true;
  loading_.insert(&thread);
  engine_.metrics.loads.Add();
  // Commits wait for it; those who only read wait their turn behind it.
  engine_.disk.PostFirst(
      [this, id = thread.id, generation = generation_, store = store_]() mutable {
        auto image = LoadThread(*store, id, StoreSnapshot(store).get());
        store.reset();
        engine_.queue.PushLoaded({std::move(id), generation, std::move(image)});
      });
}

void CommitLoop::Install(Loaded& loaded) {
  if (loaded.generation != generation_) return;
  const std::shared_ptr<ThreadLog> thread = engine_.threads.Find(loaded.thread);
  loading_.erase(thread.get());
  thread->loading = false;
  std::vector<Op> parked = std::move(thread->parked);
  thread->parked.clear();
  if (!loaded.image.ok()) {
    engine_.threads.Erase(loaded.thread);
    clarion::Log(Severity::kError, "a thread cannot be read from the event log",
                 {{"thread_id", loaded.thread.str()},
                  {"cause", std::string(loaded.image.status().message())}});
    for (Op& op : parked) Refuse(op, Unreadable(loaded.image.status(), "load", op.thread));
    return;
  }
  {
    MutexLock lock(thread->mutex);
    thread->image = *std::move(loaded.image);
    if (thread->image->blank()) blank_.push_back(thread);
  }
  upkeep_.Add(thread);
  for (Op& op : parked) ready_.push_back(std::move(op));
}

void CommitLoop::JudgeOp(ThreadLog& thread, Op& op) {
  Staged& staged = StagedOf(thread);
  const uint64_t bytes_before = staged.event_bytes;
  MutexLock lock(thread.mutex);
  Judge judge(*thread.image, staged, context_);
  std::visit(
      Overloaded{
          [&](AppendOp& append) { append.result = judge.Append(append.request); },
          [&](AckOp& ack) { ack.result = judge.Ack(ack.user, ack.position); },
          [&](FloorOp& floor) { floor.result = judge.RaiseFloor(floor.floor, floor.reason); },
          [&](AssignOp& assign) { assign.result = judge.Assign(assign.owner); },
          [&](TakeOverOp& over) { over.result = judge.TakeOver(over.owner, over.producer); },
          [&](RetainOp&) { judge.Retain(); },
          [](auto&) {},
      },
      op.what);
  thread.counts = CountsInLedger(judge.owner());
  // Its checkpoint said that something is due: whatever came of it, the next one says it anew.
  if (std::holds_alternative<RetainOp>(op.what)) {
    upkeep_.MarkDirty(thread, sequence_ + 1, journal_bytes_);
  }
  staged_bytes_ += staged.event_bytes - bytes_before;
}

Staged& CommitLoop::StagedOf(ThreadLog& thread) {
  if (thread.staged != nullptr) return *thread.staged;
  if (spare_staged_.empty()) {
    thread.staged = std::make_unique<Staged>();
  } else {
    thread.staged = std::move(spare_staged_.back());
    spare_staged_.pop_back();
  }
  touched_.push_back(&thread);
  MutexLock lock(thread.mutex);
  thread.staged->Begin(thread.image->counters());
  return *thread.staged;
}

bool CommitLoop::Commit() {
  if (in_commit_.empty()) return health_ == Health::kOpen;
  if (!WriteStaged()) return false;
  Show();
  for (const ThreadLog* thread : touched_) {
    if (thread->counts) engine_.metrics.duplicates.Add(thread->staged->duplicates);
  }
  AnswerCommitted();
  ReleaseStaged();
  return true;
}

bool CommitLoop::WriteStaged() {
  engine_.ledger.Begin();
  for (const ThreadLog* thread : touched_) {
    const Staged& staged = *thread->staged;
    if (thread->counts) engine_.ledger.Move(staged.before, staged.effects.counters);
  }
  record_.Begin(engine_.ledger.next());
  batch_.Clear();
  bool sync = false;
  for (const ThreadLog* thread : touched_) {
    const Staged& staged = *thread->staged;
    if (!staged.changed) continue;
    sync |= staged.needs_sync;
    record_.Add(thread->id, staged.effects);
    if (staged.effects.owner) {
      batch_.Put(store_->family(Family::kOwners), OwnerKey(*staged.effects.owner, thread->id), "");
    }
  }
  if (record_.empty()) return true;
  batch_.Put(store_->family(Family::kJournal), JournalKey(sequence_ + 1), record_.bytes());
  if (absl::Status status = store_->Write(batch_, sync); !status.ok()) {
    Break(status);
    return false;
  }
  engine_.metrics.commits.Add();
  if (sync) engine_.metrics.synced_commits.Add();
  return true;
}

void CommitLoop::Show() {
  if (record_.empty()) return;
  ++sequence_;
  engine_.ledger.Show();
  committed_at_ = engine_.Now();
  shown_.clear();
  for (ThreadLog* thread : touched_) {
    shown_.emplace_back();
    if (thread->staged->changed) ShowToReaders(*thread);
  }
  journal_bytes_ += record_.bytes().size();
  for (size_t i = 0; i < touched_.size(); ++i) {
    const Staged& staged = *touched_[i]->staged;
    if (!staged.changed) continue;
    if (staged.effects.owner) ShowOwner(touched_[i]->id, *staged.effects.owner);
    if (!staged.turned_runs.empty()) ShowRuns(*touched_[i]);
    if (touched_[i]->counts && !staged.effects.expired.empty()) SayExpired(*touched_[i]);
    if (!followers_.empty()) ShowToFollowers(*touched_[i], shown_[i]);
  }
}

void CommitLoop::SayExpired(ThreadLog& thread) {
  UserId owner;
  {
    MutexLock lock(thread.mutex);
    owner = thread.image->owner();
  }
  engine_.ledger.WriteLines(thread.id, owner, thread.staged->effects.expired);
}

void CommitLoop::ShowOwner(const ThreadId& thread, const UserId& owner) {
  if (OwnerWatcher* watcher = engine_.owners) watcher->OnThreadOwned(thread, owner);
}

void CommitLoop::ShowRuns(const ThreadLog& thread) {
  RunWatcher* const watcher = engine_.runs;
  if (watcher == nullptr || !thread.counts) return;
  const std::vector<Offset>& turned = thread.staged->turned_runs;
  for (const RunRecord& run : thread.staged->effects.runs) {
    if (std::find(turned.begin(), turned.end(), run.start) != turned.end())
      watcher->OnRun(thread.id, run);
  }
}

void CommitLoop::ShowToReaders(ThreadLog& thread) {
  Staged& staged = *thread.staged;
  Effects& effects = staged.effects;
  engine_.metrics.event_bytes.Add(staged.event_bytes);
  EventRun& run = shown_.back();
  if (!effects.events.empty() && followers_.contains(thread.id)) {
    run.first = staged.before.last.next();
    for (const LoggedEvent& logged : effects.events) run.events.push_back(logged.event);
  }
  for (LoggedEvent& logged : effects.events) logged.committed_at = committed_at_;
  MutexLock lock(thread.mutex);
  ThreadImage& image = *thread.image;
  image.Apply(effects);
  if (thread.counts) engine_.ledger.Count(staged.before, effects.counters, effects.expired);
  if (!run.events.empty()) run.epoch = image.epochs().back().epoch;
  upkeep_.MarkDirty(thread, sequence_, journal_bytes_);
  upkeep_.Account(thread, image.memory_bytes());
  upkeep_.Queue(thread, image);
}

void CommitLoop::ShowToFollowers(const ThreadLog& thread, const EventRun& run) {
  const auto entry = followers_.find(thread.id);
  if (entry == followers_.end()) return;
  const Staged& staged = *thread.staged;
  const Effects& effects = staged.effects;
  for (Follower* follower : entry->second) {
    if (!run.events.empty()) follower->OnAppended(thread.id, run);
    if (effects.counters.floor != staged.before.floor) {
      follower->OnFloorRaised(thread.id, effects.counters.floor, effects.floor_reason);
    }
    if (effects.counters.acknowledged != staged.before.acknowledged) {
      follower->OnAcknowledged(thread.id, effects.counters.acknowledged);
    }
  }
}

void CommitLoop::AnswerCommitted() {
  for (Op& op : in_commit_) {
    std::visit(Overloaded{
                   [](AppendOp& append) { append.done(std::move(append.result)); },
                   [](AckOp& ack) { ack.done(std::move(ack.result)); },
                   [](FloorOp& floor) { floor.done(floor.result); },
                   [](AssignOp& assign) { assign.done(std::move(assign.result)); },
                   [](TakeOverOp& over) { over.done(std::move(over.result)); },
                   [](auto&) {},
               },
               op.what);
    Answered(op);
  }
  in_commit_.clear();
}

void CommitLoop::ReleaseStaged() {
  for (ThreadLog* thread : touched_) {
    thread->staged->effects.Clear();
    spare_staged_.push_back(std::move(thread->staged));
  }
  touched_.clear();
  staged_bytes_ = 0;
}

// --- Answers.

void CommitLoop::Refuse(Op& op, const absl::Status& status) {
  std::visit(Overloaded{
                 [](UnfollowOp& unfollow) { unfollow.done(); },
                 [](RetainOp&) {},
                 [&](auto& call) { call.done(status); },
             },
             op.what);
  Answered(op);
}

void CommitLoop::Answered(const Op& op) {
  if (std::holds_alternative<RetainOp>(op.what)) return;  // took no room
  ++released_ops_;
  released_bytes_ += op.bytes;
}

absl::Status CommitLoop::Unavailable(std::string_view operation, const ThreadId& thread) const {
  return MakeError(
      Reason::kLogUnavailable, "the event log cannot be written at the moment",
      {.thread_id = thread.str(), .operation = std::string(operation), .cause = why_broken_});
}

// --- Retention.

void CommitLoop::BeginRetention() {
  if (health_ != Health::kOpen) return;
  if (upkeep_.InRound()) {
    round_again_ = true;
  } else {
    upkeep_.BeginRound();
  }
  BeginPurge();
  engine_.disk.Post([this, store = store_, now = engine_.Now()] {
    tombstone_sweep_.Run(*store, now - engine_.options.tombstone_age,
                         engine_.options.retention_scan_threads);
    std::vector<ThreadId> due = retention_scan_.Run(*store, engine_.options, now);
    if (!due.empty()) engine_.queue.PushDue(std::move(due));
  });
}

void CommitLoop::ContinueRetention() {
  const WallTime now = engine_.Now();
  const RetentionLimits& limits = engine_.options.retention;
  Effects nothing;
  for (size_t n = 0; n < kRetentionStep && upkeep_.InRound(); ++n) {
    ThreadLog& thread = upkeep_.NextOfRound();
    MutexLock lock(thread.mutex);
    nothing.counters = thread.image->counters();
    if (RetentionFloor(*thread.image, nothing, limits, now) > nothing.counters.floor) {
      ready_.push_back({thread.id, 0, RetainOp{}});
    }
  }
  if (!upkeep_.InRound() && std::exchange(round_again_, false)) upkeep_.BeginRound();
}

}  // namespace clarion::log
