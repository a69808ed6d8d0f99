// What the parts of the embedded log share.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "proto/base/mutex.h"
#include "service/log/embedded_options.h"
#include "service/log/ledger_keeper.h"
#include "service/log/log_metrics.h"
#include "service/log/op.h"
#include "service/log/store.h"
#include "service/log/thread_log.h"
#include "service/log/worker.h"
#include "service/log/write_health.h"

namespace clarion::log {

// The database as it is now. Null while it is being opened again.
class StoreHolder {
 public:
  std::shared_ptr<Store> get() const {
    MutexLock lock(mutex_);
    return store_;
  }
  void Set(std::shared_ptr<Store> store) {
    {
      MutexLock lock(mutex_);
      store_.swap(store);
    }
    // Releasing the former one may close files: not under the lock.
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<Store> store_ ABSL_GUARDED_BY(mutex_);
};

struct Engine {
  explicit Engine(EmbeddedOptions chosen)
      : options(std::move(chosen)),
        queue(options.max_queued_ops, options.max_queued_bytes),
        disk("log-disk", options.disk_readers),
        memory("log-memory", 1),
        purge("log-purge", 1) {}

  WallTime Now() const {
    return std::chrono::floor<std::chrono::milliseconds>(options.scheduler->wall_now());
  }

  const EmbeddedOptions options;
  LogMetrics metrics;
  LedgerKeeper ledger{metrics};
  WriteHealth health;
  ThreadTable threads;
  StoreHolder store;
  CommitQueue queue;
  std::atomic<OwnerWatcher*> owners = nullptr;
  std::atomic<RunWatcher*> runs = nullptr;
  // Reads from disk; reads from memory and answers that must not come inside the call.
  Worker disk;
  Worker memory;
  // Rewrites tables that hold what was deleted: may take long.
  Worker purge;
};

}  // namespace clarion::log
