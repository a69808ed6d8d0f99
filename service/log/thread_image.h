// Everything the log knows of one thread as of its last commit. Plain data with the rules of its
// own consistency; decides nothing (judge.h), does no input or output (store.h).
//
// Not thread-safe: ThreadLog guards it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "service/log/effects.h"
#include "service/log/log.h"

namespace clarion::log {

// Events that were written together, contiguous.
struct ChunkInfo {
  Offset first;
  Offset last;
  uint64_t bytes = 0;  // of the events
  WallTime last_time;  // of the newest
};

// Where an event id was accepted.
struct IdSlot {
  Offset offset;
  Digest content;
};

struct DigestHash {
  size_t operator()(const Digest& digest) const { return digest.low; }
};

struct PendingCritical {
  Offset offset;
  WallTime accepted_at;
};

// How much a page may still take.
struct PageBudget {
  size_t bytes = 0;
  size_t events = 0;
  bool first = true;
  // Whether an event of this size still fits, and takes its room. The first always fits.
  bool Take(size_t size);
};

// A thread's checkpoint, without its runs.
struct StoredMeta {
  // The commit up to which the checkpoint speaks.
  uint64_t applied = 0;
  UserId owner;
  Counters counters;
  std::vector<EpochMark> epochs;
  std::vector<ExpiredRange> expired;
  // When the oldest chunk's newest event was accepted (kLongAgo: only chunks that wait to be
  // removed are left), and the oldest critical event that is pending (1970: none, or not known
  // without the chunks): by these retention knows whether the thread is worth loading.
  static constexpr WallTime kLongAgo{std::chrono::milliseconds(1)};
  WallTime oldest;
  WallTime oldest_critical;
};

// Adds `range`, which lies beyond those in `ranges`: to the last one if it goes on there in the
// same epoch for the same reason. The oldest two become one where there would be more than `most`.
void AddExpired(const ExpiredRange& range, size_t most, std::vector<ExpiredRange>& ranges);

// Of an event in a chunk, what is needed to judge repetitions.
struct StoredId {
  Digest id;
  Digest content;
  bool critical = false;
  WallTime accepted_at;
};

class ThreadImage {
 public:
  explicit ThreadImage(ThreadId id) : id_(std::move(id)) {}

  // --- Building from a checkpoint: Restore, then AddRun for each, AddChunk for each in ascending
  // order, SetComplete. Without the chunks it is fit for Apply and Meta, but not to be judged by.
  void Restore(const StoredMeta& meta);
  void AddRun(const RunRecord& run);
  void AddChunk(const ChunkInfo& chunk, const std::vector<StoredId>& ids);
  void SetComplete() { hints_.reset(); }
  bool complete() const { return !hints_.has_value(); }
  // There is a tombstone and nothing else.
  void SetDeleted() { deleted_ = true; }
  bool deleted() const { return deleted_; }

  // --- Commits. The ids of effects.events are in the table already: ReserveId, or IndexEvents at
  // recovery. Moves the events out of `effects`.
  void Apply(Effects& effects);
  void IndexEvents(const Effects& effects);
  struct Reserved {
    IdSlot* slot;  // valid until the next call
    bool inserted;
  };
  Reserved ReserveId(const Digest& id, const IdSlot& slot);
  void ForgetId(const Digest& id) { ids_.erase(id); }
  // Null: not known, or below the floor, or not committed.
  const IdSlot* FindId(const Digest& id) const;

  // --- What is known.
  const ThreadId& id() const { return id_; }
  const UserId& owner() const { return owner_; }
  const Counters& counters() const { return counters_; }
  Offset first_pending() const;  // max(W, F-1) + 1
  const std::vector<EpochMark>& epochs() const { return epochs_; }
  // Requires an offset from the floor to L.
  const EpochMark& EpochOf(Offset offset) const;
  const RunRecord* FindRun(const RunId& run) const;
  size_t open_runs() const { return open_runs_.size(); }
  const std::deque<ChunkInfo>& chunks() const { return chunks_; }
  const std::deque<PendingCritical>& pending_criticals() const { return criticals_; }
  // No owner, no events: nothing that must be remembered.
  bool blank() const { return owner_.empty() && counters_.last == Offset{}; }
  // Without runs; a thread may have very many.
  ThreadState State() const;
  // Ascending by start: the open ones; those and the ones that end beyond W; those that start last.
  std::vector<RunRecord> OpenRuns() const;
  std::vector<RunRecord> UnfinishedRuns() const;
  std::vector<RunRecord> LastRuns(size_t count) const;
  StoredMeta Meta(uint64_t applied) const;

  // --- The tail: events from tail_first() to L are in memory.
  Offset tail_first() const { return Offset(counters_.last.value() - tail_.size() + 1); }
  const LoggedEvent& TailAt(Offset offset) const;
  size_t tail_events() const { return tail_.size(); }
  size_t tail_bytes() const { return tail_bytes_; }
  // Adds events from `from` (at least tail_first()) to `until`; false: the budget ended it.
  bool ReadTail(Offset from, Offset until, PageBudget& budget, std::vector<EventRun>& out) const;

  // --- Chunks. Events from spilled().next() to L are nowhere but in memory and in the journal.
  Offset spilled() const { return spilled_; }
  uint64_t stored_bytes() const { return chunk_bytes_ + unspilled_bytes_; }
  // All events are in chunks now, these being the new ones.
  void MarkSpilled(const std::vector<ChunkInfo>& chunks);
  // Drops spilled events from the front of the tail until it keeps to both bounds.
  void TrimTail(size_t max_events, size_t max_bytes);
  // Chunks wholly below the floor, which may be deleted; by last offset. Takes at most `max`.
  std::vector<Offset> TakeDeadChunks(size_t max);
  bool has_dead_chunks() const { return !dead_chunks_.empty(); }

  // --- Runs that changed since the last checkpoint, by start.
  const absl::flat_hash_set<uint64_t>& changed_runs() const { return changed_runs_; }
  void MarkRunsStored() { changed_runs_.clear(); }
  const RunRecord* RunAt(uint64_t start) const;
  const std::map<uint64_t, RunRecord>& runs() const { return runs_; }

  // About how much memory all this takes.
  size_t memory_bytes() const;

 private:
  void PutRun(const RunRecord& run);
  void NoteLast(const LoggedEvent& event, Offset last);
  void RaiseFloor(Offset floor);
  void PruneRuns();
  void PruneEpochs();
  void PruneIds(uint64_t gone);

  const ThreadId id_;
  bool deleted_ = false;
  UserId owner_;
  Counters counters_;
  std::vector<EpochMark> epochs_;
  std::vector<ExpiredRange> expired_;

  std::map<uint64_t, RunRecord> runs_;  // by start
  absl::flat_hash_map<std::string, uint64_t> run_starts_;
  absl::flat_hash_set<uint64_t> changed_runs_;
  std::set<uint64_t> open_runs_;              // starts
  std::map<uint64_t, uint64_t> unseen_ends_;  // starts of those that end beyond W, by end
  size_t run_bytes_ = 0;

  std::deque<LoggedEvent> tail_;
  size_t tail_bytes_ = 0;
  Offset spilled_;
  uint64_t unspilled_bytes_ = 0;
  std::deque<ChunkInfo> chunks_;
  uint64_t chunk_bytes_ = 0;
  std::vector<Offset> dead_chunks_;

  // While the chunks are not known: what the checkpoint said of them.
  struct Hints {
    WallTime oldest;
    WallTime oldest_critical;
  };
  std::optional<Hints> hints_;

  std::deque<PendingCritical> criticals_;
  absl::flat_hash_map<Digest, IdSlot, DigestHash> ids_;
  uint64_t stale_ids_ = 0;
};

// Appends one event to the runs of events of a page.
void AppendToRuns(const Epoch& epoch, Offset offset, EventPtr event, std::vector<EventRun>& runs);

}  // namespace clarion::log
