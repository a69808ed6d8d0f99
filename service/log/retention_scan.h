// Looks through the checkpoints of threads that are not in memory for those where retention has
// something to do.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "service/log/embedded_options.h"
#include "service/log/log.h"
#include "service/log/log_metrics.h"
#include "service/log/store.h"

namespace clarion::log {

// Thread-safe: a scan that finds another under way does nothing.
class RetentionScan {
 public:
  // `metrics` outlives it.
  explicit RetentionScan(LogMetrics& metrics) : metrics_(metrics) {}

  // Goes on where the last one stopped, over options.retention_scan_threads checkpoints; answers a
  // few hundred threads at most. What cannot be read is said, counted and passed over.
  std::vector<ThreadId> Run(Store& store, const EmbeddedOptions& options, WallTime now);

 private:
  LogMetrics& metrics_;
  std::atomic<bool> busy_{false};
  std::string cursor_;  // of whoever made busy_ true
};

}  // namespace clarion::log
