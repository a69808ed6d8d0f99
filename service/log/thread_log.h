// A thread (conversation) in memory, and the table of them.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "proto/base/mutex.h"
#include "service/log/judge.h"
#include "service/log/op.h"
#include "service/log/thread_image.h"

namespace clarion::log {

struct ThreadLog {
  explicit ThreadLog(ThreadId thread) : id(std::move(thread)) {}
  ThreadLog(const ThreadLog&) = delete;
  ThreadLog& operator=(const ThreadLog&) = delete;

  const ThreadId id;

  // Changed by the commit thread only; readers hold the mutex for as long as they copy.
  Mutex mutex;
  // Null while it is being loaded: what is on disk is what holds.
  std::unique_ptr<ThreadImage> image ABSL_GUARDED_BY(mutex);

  // --- The commit thread's own.
  // What the commit being made will do; null: nothing.
  std::unique_ptr<Staged> staged;
  // Its events count in the ledger; valid while something is staged.
  bool counts = false;
  // Calls that wait for the image.
  std::vector<Op> parked;
  bool loading = false;
  // Place among the least recently used; valid once it is loaded.
  std::list<std::shared_ptr<ThreadLog>>::iterator used;
  // Place among all, which use does not change; likewise.
  std::list<ThreadLog*>::iterator member;
  // Journal records that only the journal has, from this one on, and the journal's size before it.
  struct Dirty {
    uint64_t sequence = 0;
    uint64_t journal_bytes = 0;
    std::list<ThreadLog*>::iterator place;
  };
  std::optional<Dirty> dirty;
  size_t memory_bytes = 0;
  bool spill_queued = false;
  bool prune_queued = false;
};

// Which threads are in memory. Thread-safe; changed by the commit thread only.
class ThreadTable {
 public:
  // Null: not in memory.
  std::shared_ptr<ThreadLog> Find(const ThreadId& id) const {
    MutexLock lock(mutex_);
    const auto entry = threads_.find(id);
    return entry == threads_.end() ? nullptr : entry->second;
  }
  void Insert(std::shared_ptr<ThreadLog> thread) {
    MutexLock lock(mutex_);
    const ThreadId& id = thread->id;
    threads_.insert_or_assign(id, std::move(thread));
  }
  void Erase(const ThreadId& id) {
    MutexLock lock(mutex_);
    threads_.erase(id);
  }
  void Swap(absl::flat_hash_map<ThreadId, std::shared_ptr<ThreadLog>>& threads) {
    MutexLock lock(mutex_);
    threads_.swap(threads);
  }

 private:
  mutable Mutex mutex_;
  absl::flat_hash_map<ThreadId, std::shared_ptr<ThreadLog>> threads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace clarion::log
