#include "service/log/retention_scan.h"

#include <utility>

#include "proto/contract/error.h"
#include "service/log/retention.h"
#include "service/log/stored_thread.h"
#include "telemetry/log.h"

namespace clarion::log {
namespace {

// Each is read into memory: not too many at once.
constexpr size_t kDueAtOnce = 256;

absl::Status ScanFailure(std::string_view thread, const absl::Status& cause) {
  return MakeError(Reason::kLogUnavailable, "retention cannot read the event log",
                   {.thread_id = std::string(thread),
                    .operation = "Retention",
                    .cause = std::string(cause.message())});
}

}  // namespace

std::vector<ThreadId> RetentionScan::Run(Store& store, const EmbeddedOptions& options,
                                         WallTime now) {
  std::vector<ThreadId> due;
  {
    MutexLock lock(mutex_);
    wanted_ = now;
    if (std::exchange(busy_, true)) return due;
  }
  for (;;) {
    {
      MutexLock lock(mutex_);
      if (!wanted_.has_value() || due.size() >= kDueAtOnce) {
        busy_ = false;
        return due;
      }
      now = *std::exchange(wanted_, std::nullopt);
    }
    Scan(store, options, now, due);
  }
}

void RetentionScan::Scan(Store& store, const EmbeddedOptions& options, WallTime now,
                         std::vector<ThreadId>& due) {
  size_t left = options.retention_scan_threads;
  bool at_end = true;
  absl::Status status =
      store.Scan(Family::kThreads, "", cursor_, nullptr,
                 [&](std::string_view key, std::string_view value) -> absl::StatusOr<bool> {
                   if (left == 0 || due.size() >= kDueAtOnce) {
                     cursor_ = std::string(key);
                     at_end = false;
                     return false;
                   }
                   --left;
                   const absl::StatusOr<StoredMeta> meta = DecodeMeta(value);
                   if (!meta.ok()) {
                     metrics_.unreadable_checkpoints.Add();
                     LogFailure(ScanFailure(key, meta.status()));
                   } else if (MayExpire(*meta, options.retention, now)) {
                     due.emplace_back(key);
                   }
                   return true;
                 });
  if (!status.ok()) LogFailure(ScanFailure("", status));
  if (at_end || !status.ok()) cursor_.clear();
}

}  // namespace clarion::log
