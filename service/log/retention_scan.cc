#include "service/log/retention_scan.h"

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
  if (busy_.exchange(true, std::memory_order_acquire)) return due;
  size_t left = options.retention_scan_threads;
  bool at_end = true;
  absl::Status status =
      store.Scan(Family::kThreads, "", cursor_, nullptr,
                 [&](std::string_view key, std::string_view value) -> absl::StatusOr<bool> {
                   if (left == 0 || due.size() == kDueAtOnce) {
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
  busy_.store(false, std::memory_order_release);
  return due;
}

}  // namespace clarion::log
