// The log in this process, on RocksDB (DESIGN section 8; bytes on disk: FORMAT.md).
//
// One commit thread owns what is known of threads (conversations) and commits in groups; one thread
// answers reads from memory; a few read from the disk. A disk that stands still stops commits, not
// the callers and not reads of the newest events.
//
// After a failed write nobody can say whether it reached the disk. The log then answers
// LOG_UNAVAILABLE, closes the database and opens it again: what is found is what happened, and
// followers of the threads concerned get OnInterrupted. If events that had been shown are missing,
// a new incarnation begins.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "service/log/embedded_options.h"
#include "service/log/log.h"

namespace clarion::log {

// Blocks until what is on disk is recovered and synced. The error is one sentence for people.
// Destroying the log closes it.
absl::StatusOr<std::unique_ptr<Log>> OpenEmbeddedLog(EmbeddedOptions options);

}  // namespace clarion::log
