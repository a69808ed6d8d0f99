// CommitLoop after a failed write: refuses everything, opens the database anew, and shows what
// became of the commits that nobody knows about.
#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/log/commit_loop.h"
#include "service/log/new_epoch.h"
#include "telemetry/log.h"

namespace clarion::log {

void CommitLoop::Break(const absl::Status& why) {
  why_broken_ = std::string(why.message());
  health_ = Health::kBroken;
  next_attempt_ = std::chrono::steady_clock::now();
  reopen_wait_ = engine_.options.reopen_interval;
  ++generation_;
  engine_.metrics.failed_commits.Add();
  engine_.health.Broke(why_broken_);
  MarkDoubt(engine_.options);
  clarion::Log(Severity::kError, "the event log cannot be written", {{"cause", why_broken_}});
  for (const ThreadLog* thread : touched_) {
    if (thread->staged->changed) doubtful_.insert(thread->id);
  }
  // The ids that were reserved stay: nobody is judged by this memory again.
  ReleaseStaged();
  std::vector<Op> refused = std::move(in_commit_);
  in_commit_.clear();
  for (ThreadLog* thread : loading_) {
    std::move(thread->parked.begin(), thread->parked.end(), std::back_inserter(refused));
    engine_.threads.Erase(ThreadId(thread->id));
  }
  loading_.clear();
  std::move(ready_.begin(), ready_.end(), std::back_inserter(refused));
  ready_.clear();
  upkeep_.EndRound();
  for (Op& op : refused) Refuse(op, Unavailable("write", op.thread));
}

void CommitLoop::TryToReopen() {
  if (taken_.closing) return;  // what is on disk will be found by whoever opens it next
  if (health_ == Health::kClosing || std::chrono::steady_clock::now() < next_attempt_) return;
  if (health_ == Health::kClosed) {
    Reopen();
    return;
  }
  if (!ProbeDisk(engine_.options).ok()) {
    TryLater();
    return;
  }
  // The last reader to let go closes the files and says so through the queue.
  health_ = Health::kClosing;
  // A purge holds the files while it writes tables anew: it begins again on the new ones.
  store_->db().DisableManualCompaction();
  engine_.store.Set(nullptr);
  store_.reset();
}

void CommitLoop::Reopen() {
  absl::StatusOr<Recovered> recovered =
      Recover(engine_.options, sequence_, [this] { engine_.queue.PushStoreClosed(); });
  if (!recovered.ok()) {
    why_broken_ = std::string(recovered.status().message());
    engine_.health.Broke(why_broken_);
    TryLater();
    return;
  }
  const bool lost = recovered->last_sequence < sequence_;
  clarion::Log(lost ? Severity::kError : Severity::kWarning, "the event log was opened again",
               {{"cause", why_broken_},
                {"incarnation", absl::StrCat(recovered->incarnation)},
                {"lost_commits", absl::StrCat(lost ? sequence_ - recovered->last_sequence : 0)}});
  if (lost) {
    for (const auto& [thread, all] : followers_) doubtful_.insert(thread);
  }
  engine_.metrics.reopened.Add();
  Adopt(*std::move(recovered));
  ShowAgain(std::exchange(doubtful_, {}));
}

// An attempt may write a good deal before it fails: not all the time.
void CommitLoop::TryLater() {
  next_attempt_ = std::chrono::steady_clock::now() + reopen_wait_;
  reopen_wait_ = std::min(2 * reopen_wait_, engine_.options.reopen_interval_max);
}

void CommitLoop::Adopt(Recovered recovered) {
  health_ = Health::kOpen;
  why_broken_.clear();
  engine_.health.Mended();
  store_ = recovered.store;
  incarnation_ = context_.incarnation = recovered.incarnation;
  sequence_ = recovered.last_sequence;
  journal_bytes_ = recovered.journal_bytes;
  engine_.ledger.Adopt(recovered.ledger);
  purge_ = std::move(recovered.purge);
  purging_ = 0;
  purge_due_ = {};
  engine_.metrics.purge_pending.Set(static_cast<int64_t>(purge_.size()));
  engine_.metrics.incarnation.Set(static_cast<int64_t>(incarnation_));
  upkeep_.Reset();
  absl::flat_hash_map<ThreadId, std::shared_ptr<ThreadLog>> former;
  engine_.threads.Swap(former);
  for (RecoveredThread& thread : recovered.threads) {
    const ThreadId id = thread.image->id();
    const std::shared_ptr<ThreadLog> added = AddThread(id, std::move(thread.image));
    upkeep_.Add(added);
    upkeep_.MarkDirty(*added, thread.first_sequence, thread.journal_bytes_before);
  }
  // Only now: a thread that is not in memory is looked for in the database.
  engine_.store.Set(store_);
}

void CommitLoop::ShowAgain(const absl::flat_hash_set<ThreadId>& threads) {
  for (const ThreadId& thread : threads) {
    // A commit that survived stands in the journal, hence the thread in memory.
    if (const std::shared_ptr<ThreadLog> known = engine_.threads.Find(thread)) {
      UserId owner;
      {
        MutexLock lock(known->mutex);
        owner = known->image->owner();
      }
      if (!owner.empty()) ShowOwner(thread, owner);
    }
    const auto entry = followers_.find(thread);
    if (entry == followers_.end()) continue;
    for (Follower* follower : entry->second) follower->OnInterrupted(thread);
  }
}

}  // namespace clarion::log
