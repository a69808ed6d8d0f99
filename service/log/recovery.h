// From what is on disk to what the log goes on with.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "service/log/embedded_options.h"
#include "service/log/purge.h"
#include "service/log/store.h"
#include "service/log/thread_image.h"

namespace clarion::log {

// A thread of which the journal holds what nothing else does.
struct RecoveredThread {
  std::unique_ptr<ThreadImage> image;  // complete
  uint64_t first_sequence = 0;
  uint64_t journal_bytes_before = 0;
};

struct Recovered {
  std::shared_ptr<Store> store;
  uint64_t incarnation = 0;
  uint64_t last_sequence = 0;
  uint64_t journal_bytes = 0;
  Ledger ledger;
  std::vector<PurgeEntry> purge;
  std::vector<RecoveredThread> threads;  // ascending by first_sequence
};

// Opens the database, replays the journal over the checkpoints, decides which incarnation this is,
// and erases the mark of a clean shutdown; all that is durable when it returns. `shown`: the last
// commit that this process has shown to anybody; if it is missing, a new incarnation begins.
absl::StatusOr<Recovered> Recover(const EmbeddedOptions& options, std::optional<uint64_t> shown,
                                  std::function<void()> on_closed);

// Writes the mark, durably, and all that was written before.
absl::Status MarkCleanShutdown(Store& store);

// Records that the journal before `sequence` is not needed, in `batch`. `ledger`: as of the last
// commit, as there may be no record left that says it.
void AddJournalStart(Store& store, uint64_t sequence, const Ledger& ledger,
                     rocksdb::WriteBatch& batch);

}  // namespace clarion::log
