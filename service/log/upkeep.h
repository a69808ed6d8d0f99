// Keeps the log's memory and journal within bounds: writes tails to chunks, lets idle threads leave
// memory, removes chunks below the floor, gives back the journal's space. In steps of about a
// megabyte, between commits.
//
// The commit thread's own.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "rocksdb/write_batch.h"
#include "service/log/engine.h"

namespace clarion::log {

class Upkeep {
 public:
  explicit Upkeep(Engine& engine) : engine_(engine) {}

  // Begins anew with an empty memory and a journal whose needed part begins at byte 0.
  void Reset();

  // The thread is in memory now.
  void Add(const std::shared_ptr<ThreadLog>& thread);
  // It is used just now.
  void Touch(ThreadLog& thread) { used_.splice(used_.end(), used_, thread.used); }
  // Its memory changed.
  void Account(ThreadLog& thread, size_t memory_bytes);
  // Record `sequence`, before which the journal had `journal_bytes`, says something of the thread.
  void MarkDirty(ThreadLog& thread, uint64_t sequence, uint64_t journal_bytes);
  // Its tail is over its bounds, or it has chunks to remove.
  void Queue(ThreadLog& thread, const ThreadImage& image);
  // It is gone.
  void Remove(ThreadLog& thread);

  // A round over the threads in memory, in steps of the caller's: it meets each one that was there
  // when it began and still is, and none that came later.
  void BeginRound() { next_in_round_ = members_.begin(); }
  void EndRound() { next_in_round_ = members_.end(); }
  bool InRound() const { return next_in_round_ != members_.end(); }
  // Requires InRound().
  ThreadLog& NextOfRound() { return **next_in_round_++; }

  // One step, of about `budget` bytes at least. `sequence` and `journal_bytes` are those of the
  // last commit. After an error what is in memory is not to be trusted.
  absl::Status Step(const std::shared_ptr<Store>& store, uint64_t sequence, uint64_t journal_bytes,
                    size_t budget);
  // Gives up the journal up to this record, in the steps that come.
  void Purge(uint64_t until) { purge_until_ = until; }
  // Once: that is done, durably, and the journal begins here.
  std::optional<uint64_t> TakePurgeable() { return std::exchange(purgeable_, std::nullopt); }
  // Whether another step has something to do.
  bool Pending(uint64_t journal_bytes) const;

 private:
  struct Spill {
    std::shared_ptr<ThreadLog> thread;
    std::vector<ChunkInfo> chunks;
  };

  bool OverMemory() const;
  bool OverJournal(uint64_t journal_bytes) const;
  void PlanSpill(Store& store, ThreadLog& thread, uint64_t sequence);
  void PlanEvictions(Store& store, uint64_t sequence, size_t budget);
  void PlanPrunes(Store& store);
  void PlanTrim(Store& store, uint64_t sequence, uint64_t journal_bytes);
  void PostTrim(const std::shared_ptr<Store>& store);
  void FinishSpills();
  void FinishEvictions();
  void Clean(ThreadLog& thread);
  void LeaveMembers(ThreadLog& thread);

  Engine& engine_;
  std::list<std::shared_ptr<ThreadLog>> used_;  // least recently first
  std::list<ThreadLog*> members_;               // newest first: a round never gets to who comes
  std::list<ThreadLog*>::iterator next_in_round_ = members_.end();
  std::list<ThreadLog*> dirty_;  // oldest record first
  std::deque<std::weak_ptr<ThreadLog>> spill_queue_;
  std::deque<std::weak_ptr<ThreadLog>> prune_queue_;
  size_t memory_bytes_ = 0;
  uint64_t purge_until_ = 0;  // 0: no purge is wanted
  std::optional<uint64_t> purgeable_;
  uint64_t trimmed_bytes_ = 0;  // of the journal, up to which it was asked to be given back
  // Up to which it was; set by the disk's threads.
  std::shared_ptr<std::atomic<uint64_t>> given_back_bytes_ =
      std::make_shared<std::atomic<uint64_t>>(0);

  // --- The step being made.
  rocksdb::WriteBatch batch_;
  std::vector<Spill> spills_;
  std::vector<std::shared_ptr<ThreadLog>> evictions_;
  uint64_t trim_sequence_ = 0;
};

}  // namespace clarion::log
