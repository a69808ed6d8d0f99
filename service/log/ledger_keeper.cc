#include "service/log/ledger_keeper.h"

#include <chrono>
#include <optional>
#include <string>

#include "proto/contract/reason.h"
#include "telemetry/log.h"

namespace clarion::log {

void LedgerKeeper::Move(const Counters& before, const Counters& after, LedgerCounts& counts) {
  counts.accepted += after.last.value() - before.last.value();
  counts.acknowledged += after.acknowledged_count - before.acknowledged_count;
  counts.expired += after.expired_count - before.expired_count;
}

void LedgerKeeper::Set(const Ledger& ledger) {
  {
    MutexLock lock(mutex_);
    now_ = ledger;
  }
  metrics_.events_acknowledged.Set(static_cast<int64_t>(ledger.total.acknowledged));
  metrics_.events_pending.Set(static_cast<int64_t>(ledger.total.pending()));
  metrics_.events_expired.Set(static_cast<int64_t>(ledger.total.expired));
}

void LedgerKeeper::Count(const Counters& before, const Counters& after,
                         const std::vector<ExpiredRange>& expired) {
  metrics_.accepted.Add(after.last.value() - before.last.value());
  metrics_.acknowledged.Add(after.acknowledged_count - before.acknowledged_count);
  for (const ExpiredRange& range : expired) {
    (range.reason == FloorReason::kDeleted ? metrics_.deleted : metrics_.expired).Add(range.count);
  }
}

void LedgerKeeper::WriteLines(const ThreadId& thread, const UserId& owner,
                              const std::vector<ExpiredRange>& expired) {
  for (const ExpiredRange& range : expired) {
    const std::optional<uint64_t> left_out = lines_.Admit(std::chrono::steady_clock::now());
    if (!left_out) continue;
    clarion::Log(Severity::kWarning, "events are gone that nobody had acknowledged",
                 {{"user_id", owner.str()},
                  {"thread_id", thread.str()},
                  {"epoch", range.epoch.str()},
                  {"from_offset", std::to_string(range.from.value())},
                  {"to_offset", std::to_string(range.to.value())},
                  {"events", std::to_string(range.count)},
                  {"reason", std::string(NameOf(Reason::kEventDropped))},
                  {"cause", range.reason == FloorReason::kDeleted ? "deleted" : "expired"},
                  {"left_out", std::to_string(*left_out)}});
  }
}

}  // namespace clarion::log
