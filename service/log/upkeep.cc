#include "service/log/upkeep.h"

#include <algorithm>
#include <string>
#include <utility>

#include "proto/contract/error.h"
#include "service/log/checkpoint.h"
#include "service/log/recovery.h"
#include "telemetry/log.h"

namespace clarion::log {
namespace {

// Chunks removed in one step.
constexpr size_t kPrunesPerStep = 64;

}  // namespace

void Upkeep::Reset() {
  used_.clear();
  members_.clear();
  EndRound();
  dirty_.clear();
  spill_queue_.clear();
  prune_queue_.clear();
  memory_bytes_ = 0;
  trimmed_bytes_ = 0;
  purge_until_ = 0;
  purgeable_.reset();
  // A trim of the former database may still be under way.
  given_back_bytes_ = std::make_shared<std::atomic<uint64_t>>(0);
  spills_.clear();
  evictions_.clear();
}

void Upkeep::Add(const std::shared_ptr<ThreadLog>& thread) {
  thread->used = used_.insert(used_.end(), thread);
  thread->member = members_.insert(members_.begin(), thread.get());
  MutexLock lock(thread->mutex);
  Account(*thread, thread->image->memory_bytes());
  Queue(*thread, *thread->image);
}

void Upkeep::Account(ThreadLog& thread, size_t memory_bytes) {
  memory_bytes_ += memory_bytes - thread.memory_bytes;
  thread.memory_bytes = memory_bytes;
}

void Upkeep::MarkDirty(ThreadLog& thread, uint64_t sequence, uint64_t journal_bytes) {
  if (thread.dirty) return;
  thread.dirty.emplace(ThreadLog::Dirty{sequence, journal_bytes, {}});
  thread.dirty->place = dirty_.insert(dirty_.end(), &thread);
}

void Upkeep::Queue(ThreadLog& thread, const ThreadImage& image) {
  const EmbeddedOptions& options = engine_.options;
  const bool over =
      image.tail_events() > options.tail_events || image.tail_bytes() > options.tail_bytes;
  if (over && !thread.spill_queued) {
    thread.spill_queued = true;
    spill_queue_.push_back(*thread.used);
  }
  if (image.has_dead_chunks() && !thread.prune_queued) {
    thread.prune_queued = true;
    prune_queue_.push_back(*thread.used);
  }
}

void Upkeep::Remove(ThreadLog& thread) {
  Clean(thread);
  thread.spill_queued = thread.prune_queued = false;
  memory_bytes_ -= thread.memory_bytes;
  LeaveMembers(thread);
  engine_.threads.Erase(thread.id);
  used_.erase(thread.used);  // may be the last reference
}

absl::Status Upkeep::Step(const std::shared_ptr<Store>& store, uint64_t sequence,
                          uint64_t journal_bytes, size_t budget) {
  batch_.Clear();
  trim_sequence_ = 0;
  while (!spill_queue_.empty() && batch_.GetDataSize() < budget) {
    if (auto thread = spill_queue_.front().lock(); thread != nullptr && thread->spill_queued) {
      PlanSpill(*store, *thread, sequence);
    }
    spill_queue_.pop_front();
  }
  while (OverJournal(journal_bytes) && batch_.GetDataSize() < budget) {
    PlanSpill(*store, *dirty_.front(), sequence);
  }
  PlanEvictions(*store, sequence, budget);
  PlanPrunes(*store);
  PlanTrim(*store, sequence, journal_bytes);
  if (batch_.Count() > 0) {
    // The chunks and checkpoints that stand in for a part of the journal must not be lost after it.
    const bool sync = trim_sequence_ != 0;
    if (absl::Status status = store->Write(batch_, sync); !status.ok()) return status;
  }
  FinishSpills();
  FinishEvictions();
  if (trim_sequence_ != 0) {
    PostTrim(store);
    if (purge_until_ != 0 && trim_sequence_ > purge_until_) {
      purge_until_ = 0;
      purgeable_ = trim_sequence_;
    }
  }
  engine_.metrics.threads.Set(static_cast<int64_t>(used_.size()));
  engine_.metrics.memory_bytes.Set(static_cast<int64_t>(memory_bytes_));
  return absl::OkStatus();
}

void Upkeep::PostTrim(const std::shared_ptr<Store>& store) {
  engine_.disk.Post([store, &metrics = engine_.metrics, given_back = given_back_bytes_,
                     until = trim_sequence_, bytes = trimmed_bytes_] {
    if (absl::Status status = store->TrimJournal(until); !status.ok()) {
      // What stays goes the next time.
      metrics.failed_trims.Add();
      LogFailure(MakeError(Reason::kLogUnavailable,
                           "the space of the event log's journal is not given back",
                           {.operation = "TrimJournal", .cause = std::string(status.message())}));
      return;
    }
    // Of two at once, the one that began later may end first.
    uint64_t before = given_back->load();
    while (before < bytes && !given_back->compare_exchange_weak(before, bytes)) {
    }
  });
}

bool Upkeep::Pending(uint64_t journal_bytes) const {
  return !spill_queue_.empty() || !prune_queue_.empty() || OverJournal(journal_bytes) ||
         OverMemory() || purge_until_ != 0;
}

bool Upkeep::OverMemory() const {
  // The thread used last stays, however large it is: it would only be read back.
  return used_.size() > 1 && (used_.size() > engine_.options.max_threads ||
                              memory_bytes_ > engine_.options.max_memory_bytes);
}

bool Upkeep::OverJournal(uint64_t journal_bytes) const {
  if (dirty_.empty()) return false;
  const ThreadLog::Dirty& oldest = *dirty_.front()->dirty;
  return oldest.sequence <= purge_until_ ||
         journal_bytes - oldest.journal_bytes > engine_.options.max_journal_bytes;
}

void Upkeep::PlanSpill(Store& store, ThreadLog& thread, uint64_t sequence) {
  thread.spill_queued = false;
  if (thread.dirty) {
    MutexLock lock(thread.mutex);
    spills_.push_back(
        {*thread.used, AddCheckpoint(store, *thread.image, sequence, engine_.options, batch_)});
    Clean(thread);
  } else {
    spills_.push_back({*thread.used, {}});  // only its tail is to be trimmed
  }
}

void Upkeep::PlanEvictions(Store& store, uint64_t sequence, size_t budget) {
  while (OverMemory() && batch_.GetDataSize() < budget) {
    const std::shared_ptr<ThreadLog> thread = used_.front();
    if (thread->dirty) PlanSpill(store, *thread, sequence);
    memory_bytes_ -= thread->memory_bytes;
    thread->memory_bytes = 0;
    // Who still reads it may hold on to it; the queues must not.
    thread->spill_queued = thread->prune_queued = false;
    LeaveMembers(*thread);
    used_.pop_front();
    evictions_.push_back(thread);
  }
}

void Upkeep::PlanPrunes(Store& store) {
  for (size_t room = kPrunesPerStep; room > 0 && !prune_queue_.empty();) {
    const std::shared_ptr<ThreadLog> thread = prune_queue_.front().lock();
    if (thread == nullptr || !thread->prune_queued) {
      prune_queue_.pop_front();
      continue;
    }
    MutexLock lock(thread->mutex);
    const std::vector<Offset> dead = thread->image->TakeDeadChunks(room);
    for (const Offset last : dead) {
      const std::string key = OffsetKey(thread->id, last);
      batch_.Delete(store.family(Family::kChunks), key);
      batch_.Delete(store.family(Family::kIds), key);
    }
    room -= dead.size();
    if (thread->image->has_dead_chunks()) continue;
    thread->prune_queued = false;
    prune_queue_.pop_front();
  }
}

void Upkeep::PlanTrim(Store& store, uint64_t sequence, uint64_t journal_bytes) {
  // What this step spills is not dirty any more: the checkpoints and this mark are one write.
  uint64_t first_needed = sequence + 1;
  uint64_t before = journal_bytes;
  if (!dirty_.empty()) {
    first_needed = dirty_.front()->dirty->sequence;
    before = dirty_.front()->dirty->journal_bytes;
  }
  engine_.metrics.journal_bytes.Set(
      static_cast<int64_t>(journal_bytes - given_back_bytes_->load()));
  const bool purges = purge_until_ != 0 && first_needed > purge_until_;
  if (!purges && before - trimmed_bytes_ <= engine_.options.max_journal_bytes / 8) return;
  trimmed_bytes_ = before;
  trim_sequence_ = first_needed;
  AddJournalStart(store, first_needed, engine_.ledger.now(), batch_);
}

void Upkeep::FinishSpills() {
  const EmbeddedOptions& options = engine_.options;
  for (Spill& spill : spills_) {
    ThreadLog& thread = *spill.thread;
    MutexLock lock(thread.mutex);
    ThreadImage& image = *thread.image;
    if (image.spilled() != image.counters().last) image.MarkSpilled(spill.chunks);
    image.MarkRunsStored();
    if (image.tail_events() > options.tail_events || image.tail_bytes() > options.tail_bytes) {
      image.TrimTail(options.tail_events / 2, options.tail_bytes / 2);
    }
    if (thread.memory_bytes != 0) Account(thread, image.memory_bytes());
    engine_.metrics.spills.Add();
  }
  spills_.clear();
}

void Upkeep::FinishEvictions() {
  for (const std::shared_ptr<ThreadLog>& thread : evictions_) {
    engine_.threads.Erase(thread->id);
    engine_.metrics.evictions.Add();
  }
  evictions_.clear();
}

void Upkeep::LeaveMembers(ThreadLog& thread) {
  if (next_in_round_ == thread.member) ++next_in_round_;
  members_.erase(thread.member);
}

void Upkeep::Clean(ThreadLog& thread) {
  if (!thread.dirty) return;
  dirty_.erase(thread.dirty->place);
  thread.dirty.reset();
}

}  // namespace clarion::log
