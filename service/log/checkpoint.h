// Writing a thread's state and its unspilled events to where they need no journal any more.
#pragma once

#include <cstdint>
#include <vector>

#include "rocksdb/write_batch.h"
#include "service/log/embedded_options.h"
#include "service/log/store.h"
#include "service/log/thread_image.h"

namespace clarion::log {

// Adds chunks, changed runs and the checkpoint of `image` as of commit `applied` to `batch`.
// When it is written: image.MarkSpilled(the answer), image.MarkRunsStored().
std::vector<ChunkInfo> AddCheckpoint(Store& store, const ThreadImage& image, uint64_t applied,
                                     const EmbeddedOptions& options, rocksdb::WriteBatch& batch);

// Adds the removal of everything that is stored of a thread outside the journal.
void AddErasure(Store& store, const ThreadImage& image, rocksdb::WriteBatch& batch);

// Reads a thread's checkpoint and what is needed to judge calls on it; blank if there is none.
absl::StatusOr<std::unique_ptr<ThreadImage>> LoadThread(Store& store, const ThreadId& thread,
                                                        const rocksdb::Snapshot* snapshot);
enum class LoadRuns : uint8_t { kNo, kYes };
// The checkpoint, and its runs: fit for State(), with runs also for Meta() and Apply().
absl::StatusOr<std::unique_ptr<ThreadImage>> LoadThreadMeta(Store& store, const ThreadId& thread,
                                                            LoadRuns runs,
                                                            const rocksdb::Snapshot* snapshot,
                                                            uint64_t* applied);

}  // namespace clarion::log
