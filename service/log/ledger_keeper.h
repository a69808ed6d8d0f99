// The ledger's sums over all threads, moved by every commit; and what metrics and log lines say of
// what becomes of events.
#pragma once

#include <vector>

#include "proto/base/mutex.h"
#include "service/log/effects.h"
#include "service/log/log.h"
#include "service/log/log_metrics.h"
#include "telemetry/failure_limiter.h"

namespace clarion::log {

// Canaries are in no ledger.
inline bool CountsInLedger(const UserId& owner) {
  return !owner.empty() && !IsReservedUser(owner.str());
}

// The commit thread moves it, any thread asks.
class LedgerKeeper {
 public:
  // `metrics` outlives it.
  explicit LedgerKeeper(LogMetrics& metrics) : metrics_(metrics) {}

  // As recovery found it.
  void Adopt(const Ledger& ledger) { Set(ledger); }
  Ledger now() const {
    MutexLock lock(mutex_);
    return now_;
  }

  // --- The commit being made. The commit thread's own.
  void Begin() { next_ = now(); }
  void Move(const Counters& before, const Counters& after) { Move(before, after, next_.total); }
  // A thread as it was, and as it ends: all of it belongs to deleted_threads from now on.
  void Delete(const Counters& before, const Counters& after) {
    Move(before, after, next_.total);
    Move(Counters{}, after, next_.deleted_threads);
  }
  const Ledger& next() const { return next_; }
  // It is written.
  void Show() { Set(next_); }

  // What a commit that is written did to one thread, as counters; and as lines: at most 20 a
  // second, the next one says how many were left out.
  void Count(const Counters& before, const Counters& after,
             const std::vector<ExpiredRange>& expired);
  void WriteLines(const ThreadId& thread, const UserId& owner,
                  const std::vector<ExpiredRange>& expired);

 private:
  static void Move(const Counters& before, const Counters& after, LedgerCounts& counts);
  void Set(const Ledger& ledger);

  LogMetrics& metrics_;
  mutable Mutex mutex_;
  Ledger now_ ABSL_GUARDED_BY(mutex_);
  Ledger next_;
  FailureLimiter lines_;
};

}  // namespace clarion::log
