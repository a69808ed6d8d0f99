// What is left of a deleted thread for a while: that it was deleted, under a hash of its id.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "proto/base/mutex.h"
#include "rocksdb/write_batch.h"
#include "service/log/log.h"
#include "service/log/store.h"

namespace clarion::log {

// In the family `default`. SHA-256, cut to 128 bits: whoever has the key cannot tell the id.
std::string TombstoneKey(const ThreadId& thread);
void AddTombstone(Store& store, const ThreadId& thread, WallTime at, rocksdb::WriteBatch& batch);
absl::StatusOr<bool> HasTombstone(Store& store, const ThreadId& thread,
                                  const rocksdb::Snapshot* snapshot);

// Removes tombstones that are old enough. Thread-safe: one that finds another under way does
// nothing.
class TombstoneSweep {
 public:
  // Goes on where the last one stopped, over `most` of them: removes those from before `until`.
  // What fails is said and tried again the next time round.
  void Run(Store& store, WallTime until, size_t most);

 private:
  absl::Status Sweep(Store& store, WallTime until, size_t most);

  Mutex mutex_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  std::string cursor_;  // of whoever made busy_ true
};

}  // namespace clarion::log
