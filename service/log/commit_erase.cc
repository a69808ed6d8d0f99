// CommitLoop: threads that go altogether, and the bytes that they leave on the disk.
#include <algorithm>
#include <utility>

#include "proto/contract/error.h"
#include "service/log/checkpoint.h"
#include "service/log/commit_loop.h"
#include "service/log/tombstone.h"
#include "telemetry/log.h"

namespace clarion::log {
namespace {

// So many deletions do not wait for their time.
constexpr size_t kMostEntries = 10'000;

}  // namespace

void CommitLoop::EraseThread(ThreadLog& thread, Op& op) {
  batch_.Clear();
  bool existed = false;
  engine_.ledger.Begin();
  {
    MutexLock lock(thread.mutex);
    existed = !thread.image->blank();
    if (existed) AddErasure(*store_, *thread.image, batch_);
    if (CountsInLedger(thread.image->owner())) {
      engine_.ledger.Move(thread.image->counters(), Counters{});
    }
  }
  if (existed) {
    if (!WriteErasure(thread, op, /*sync=*/false)) return;
    if (const auto entry = followers_.find(thread.id); entry != followers_.end()) {
      for (Follower* follower : entry->second) follower->OnInterrupted(thread.id);
    }
  }
  upkeep_.Remove(thread);
  std::get<EraseOp>(op.what).done(existed);
  Answered(op);
}

void CommitLoop::DeleteThread(ThreadLog& thread, Op& op) {
  auto& deletion = std::get<DeleteOp>(op.what);
  Staged staged;
  UserId owner;
  DeletedThread answer;
  absl::Status refusal;
  batch_.Clear();
  {
    MutexLock lock(thread.mutex);
    ThreadImage& image = *thread.image;
    owner = image.owner();
    answer.already_deleted = image.deleted();
    refusal = WhyNotDeleted(image, deletion.user);
    staged.Begin(image.counters());
    answer.events = image.counters().last.value() + 1 - image.counters().floor.value();
    Judge(image, staged, context_).RaiseFloor(image.counters().last.next(), FloorReason::kDeleted);
    if (refusal.ok() && !answer.already_deleted) AddErasure(*store_, image, batch_);
  }
  if (!refusal.ok()) return Refuse(op, refusal);
  if (!answer.already_deleted) {
    answer.expired = staged.effects.counters.expired_count - staged.before.expired_count;
    engine_.ledger.Begin();
    if (CountsInLedger(owner)) engine_.ledger.Delete(staged.before, staged.effects.counters);
    AddTombstone(*store_, thread.id, context_.now, batch_);
    purge_.push_back({sequence_ + 1, thread.id, owner});
    AddPurgeEntry(*store_, purge_.back(), batch_);
    if (!WriteErasure(thread, op, /*sync=*/true)) return;
    NoteDeletion(thread.id, owner, staged);
  }
  // Whoever asks for it from now on finds the tombstone; who asked before is answered after this.
  deleted_now_.insert(thread.id);
  upkeep_.Remove(thread);
  deletion.done(answer);
  Answered(op);
}

absl::Status CommitLoop::WhyNotDeleted(const ThreadImage& image, const UserId& user) {
  const ErrorContext context{
      .user_id = user.str(), .thread_id = image.id().str(), .operation = "Delete"};
  if (image.deleted()) return absl::OkStatus();
  if (image.owner().empty()) {
    return MakeError(Reason::kNotFound, "there is no such thread", context);
  }
  if (image.owner() != user) {
    return MakeError(Reason::kThreadOwnership, "the thread belongs to another user", context);
  }
  return absl::OkStatus();
}

// What is known: ledger, counters, a line, and whoever follows it.
void CommitLoop::NoteDeletion(const ThreadId& thread, const UserId& owner, const Staged& staged) {
  if (purge_.size() == 1) purge_due_ = engine_.Now() + engine_.options.purge_after;
  engine_.metrics.purge_pending.Set(static_cast<int64_t>(purge_.size()));
  if (CountsInLedger(owner)) {
    engine_.ledger.Count(staged.before, staged.effects.counters, staged.effects.expired);
    engine_.ledger.WriteLines(thread, owner, staged.effects.expired);
  }
  const auto entry = followers_.find(thread);
  if (entry == followers_.end()) return;
  for (Follower* follower : entry->second) {
    follower->OnDeleted(thread, staged.effects.counters.last);
  }
}

// False: it failed, and `op` was refused.
bool CommitLoop::WriteErasure(ThreadLog& thread, Op& op, bool sync) {
  Effects erasure;
  erasure.erased = true;
  record_.Begin(engine_.ledger.next());
  record_.Add(thread.id, erasure);
  batch_.Put(store_->family(Family::kJournal), JournalKey(sequence_ + 1), record_.bytes());
  if (absl::Status status = store_->Write(batch_, sync); !status.ok()) {
    doubtful_.insert(thread.id);
    Break(status);
    Refuse(op, Unavailable("write", op.thread));
    return false;
  }
  ++sequence_;
  engine_.ledger.Show();
  journal_bytes_ += record_.bytes().size();
  return true;
}

// --- Purging.

void CommitLoop::BeginPurge() {
  if (purge_.empty() || purging_ > 0) return;
  if (purge_.size() < kMostEntries && engine_.Now() < purge_due_) return;
  purging_ = purge_.size();
  upkeep_.Purge(purge_.back().sequence);
}

// The journal up to the deletions is not needed any more.
void CommitLoop::PostPurge(uint64_t journal_start) {
  const auto end = purge_.begin() + static_cast<ptrdiff_t>(purging_);
  engine_.purge.Post([this, store = store_, generation = generation_, journal_start,
                      entries = std::vector<PurgeEntry>(purge_.begin(), end)]() mutable {
    absl::Status status = Purge(*store, journal_start, entries);
    store.reset();
    engine_.queue.PushPurged({generation, std::move(status)});
  });
}

void CommitLoop::OnPurged(const Purged& purged) {
  if (purged.generation != generation_) return;
  const size_t done = std::exchange(purging_, 0);
  if (!purged.status.ok()) {
    // Begins anew with the next tick.
    engine_.metrics.failed_purges.Add();
    LogFailure(MakeError(Reason::kLogUnavailable,
                         "what deleted threads left on the disk is not gone yet",
                         {.operation = "Purge", .cause = std::string(purged.status.message())}));
    return;
  }
  engine_.metrics.purged.Add(done);
  purge_.erase(purge_.begin(), purge_.begin() + static_cast<ptrdiff_t>(done));
  engine_.metrics.purge_pending.Set(static_cast<int64_t>(purge_.size()));
  purge_due_ = engine_.Now() + engine_.options.purge_after;
}

}  // namespace clarion::log
