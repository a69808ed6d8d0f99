// The commit thread: takes the calls that wait, judges them in order, writes what they do as one
// journal record, and shows it only then: to readers, to followers, to the callers, in this order.
//
// Between commits it keeps memory and journal within their bounds (upkeep.h), in small steps. After
// a failed write it refuses everything and opens the database anew (embedded_log.h says why,
// commit_reopen.cc does it).
//
// Owned by EmbeddedLog. All methods but Start and Join run on its own thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "rocksdb/write_batch.h"
#include "service/log/engine.h"
#include "service/log/journal_record.h"
#include "service/log/purge.h"
#include "service/log/recovery.h"
#include "service/log/retention_scan.h"
#include "service/log/tombstone.h"
#include "service/log/upkeep.h"

namespace clarion::log {

class CommitLoop {
 public:
  CommitLoop(Engine& engine, Recovered recovered);
  CommitLoop(const CommitLoop&) = delete;
  CommitLoop& operator=(const CommitLoop&) = delete;

  void Start();
  // After engine.queue.Close(): waits until everything is answered and the mark of a clean shutdown
  // is written.
  void Join();

 private:
  enum class Health {
    kOpen,
    kBroken,   // a write failed; the database is still open, for readers
    kClosing,  // waiting until the last reader lets go
    kClosed,
  };

  // --- The loop.
  void Run();
  void Cycle();
  void Finish();
  void Process(std::vector<Op>& ops);
  void ProcessOne(Op& op);
  void AnswerFollows();
  void DropBlank();

  // --- One commit.
  // The thread in memory; null: `op` was parked or refused.
  ThreadLog* Admit(Op& op);
  std::shared_ptr<ThreadLog> AddThread(const ThreadId& id, std::unique_ptr<ThreadImage> image);
  void RequestLoad(ThreadLog& thread);
  void Install(Loaded& loaded);
  void JudgeOp(ThreadLog& thread, Op& op);
  Staged& StagedOf(ThreadLog& thread);
  // Writes and shows what is staged. False: the write failed, and everything was refused.
  bool Commit();
  bool WriteStaged();
  void Show();
  void ShowToReaders(ThreadLog& thread);
  void ShowToFollowers(const ThreadLog& thread, const EventRun& run);
  void SayExpired(ThreadLog& thread);
  void ShowOwner(const ThreadId& thread, const UserId& owner);
  void ShowRuns(const ThreadLog& thread);
  void AnswerCommitted();
  void ReleaseStaged();

  // --- Threads that go altogether (commit_erase.cc).
  void EraseThread(ThreadLog& thread, Op& op);
  void DeleteThread(ThreadLog& thread, Op& op);
  static absl::Status WhyNotDeleted(const ThreadImage& image, const UserId& user);
  bool WriteErasure(ThreadLog& thread, Op& op, bool sync);
  void NoteDeletion(const ThreadId& thread, const UserId& owner, const Staged& staged);
  void BeginPurge();
  void PostPurge(uint64_t journal_start);
  void OnPurged(const Purged& purged);

  // --- Answers.
  void Refuse(Op& op, const absl::Status& status);
  void Answered(const Op& op);
  absl::Status Unavailable(std::string_view operation, const ThreadId& thread) const;

  // --- After a failed write.
  void Break(const absl::Status& why);
  void TryToReopen();
  void Reopen();
  void TryLater();
  void Adopt(Recovered recovered);
  // What became of them is shown: whoever waits for a commit that failed and survived learns of it.
  void ShowAgain(const absl::flat_hash_set<ThreadId>& threads);

  // --- Retention.
  void BeginRetention();
  void ContinueRetention();

  Engine& engine_;
  std::shared_ptr<Store> store_;
  Upkeep upkeep_;
  std::thread thread_;
  CommitQueue::Taken taken_;

  Health health_ = Health::kOpen;
  std::string why_broken_;
  std::chrono::steady_clock::time_point next_attempt_;
  std::chrono::milliseconds reopen_wait_{};
  // Threads of commits that failed: nobody knows yet what became of them.
  absl::flat_hash_set<ThreadId> doubtful_;
  uint64_t generation_ = 1;

  uint64_t incarnation_ = 0;
  uint64_t sequence_ = 0;       // of the last commit
  uint64_t journal_bytes_ = 0;  // ever written

  // --- The commit being made.
  CommitContext context_;
  std::vector<Op> in_commit_;
  std::vector<ThreadLog*> touched_;
  size_t staged_bytes_ = 0;
  JournalRecordWriter record_;
  rocksdb::WriteBatch batch_;
  std::vector<std::unique_ptr<Staged>> spare_staged_;
  WallTime committed_at_;
  // Their events, for followers; same order as touched_.
  std::vector<EventRun> shown_;

  // Of threads that were blank when they came into memory in this cycle.
  std::vector<std::shared_ptr<ThreadLog>> blank_;
  std::vector<Op> ready_;                      // were parked
  std::vector<Op> follows_;                    // answered after the commit
  absl::flat_hash_set<ThreadId> deleted_now_;  // since those before were answered
  absl::flat_hash_set<ThreadLog*> loading_;
  absl::flat_hash_map<ThreadId, std::vector<Follower*>> followers_;
  RetentionScan retention_scan_{engine_.metrics};
  TombstoneSweep tombstone_sweep_;
  // Deleted threads whose bytes may be on the disk, ascending by sequence; a purge of the first
  // `purging_` is under way.
  std::vector<PurgeEntry> purge_;
  size_t purging_ = 0;
  WallTime purge_due_;
  bool round_again_ = false;  // a tick came during a round, which may be too early for it
  size_t released_ops_ = 0;
  size_t released_bytes_ = 0;
};

}  // namespace clarion::log
