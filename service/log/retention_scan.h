// Looks through the checkpoints of threads that are not in memory for those where retention has
// something to do.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "proto/base/mutex.h"
#include "service/log/embedded_options.h"
#include "service/log/log.h"
#include "service/log/log_metrics.h"
#include "service/log/store.h"

namespace clarion::log {

// Thread-safe: one that finds another under way leaves its time to that and does nothing.
class RetentionScan {
 public:
  // `metrics` outlives it.
  explicit RetentionScan(LogMetrics& metrics) : metrics_(metrics) {}

  // Goes on where the last one stopped, over options.retention_scan_threads checkpoints; answers a
  // few hundred threads at most. A checkpoint that says nonsense is said, counted and passed over;
  // a part of the database that cannot be read ends the scan there, which is said each time.
  std::vector<ThreadId> Run(Store& store, const EmbeddedOptions& options, WallTime now);

 private:
  LogMetrics& metrics_;
  void Scan(Store& store, const EmbeddedOptions& options, WallTime now, std::vector<ThreadId>& due);

  Mutex mutex_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<WallTime> wanted_ ABSL_GUARDED_BY(mutex_);
  std::string cursor_;  // of whoever made busy_ true
};

}  // namespace clarion::log
