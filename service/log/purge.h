// Erased bytes leave the disk.
//
// What a deletion removes is hidden at once, but its bytes stay in the database's files: in tables
// until these are merged, in the write-ahead log until its memory is flushed, in the journal until
// that part is given back. A purge brings all of that about.
//
// What may stay for longer is a thread's id, with its owner's: the database's list of files
// (MANIFEST) names the first and last key of each table, also of tables that are gone, until it is
// written anew, which is when it has grown to 64 KiB or at the next opening.
//
// Each deletion leaves an entry in the database, in the same write, until a purge has seen to it;
// so one that a crash cut short is made up for after the next opening.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rocksdb/write_batch.h"
#include "service/log/store.h"

namespace clarion::log {

// A thread whose bytes are to leave the disk.
struct PurgeEntry {
  // The commit that erased it: it and all records before it are to leave the journal.
  uint64_t sequence = 0;
  ThreadId thread;
  UserId owner;
};

void AddPurgeEntry(Store& store, const PurgeEntry& entry, rocksdb::WriteBatch& batch);
// Ascending by sequence.
absl::StatusOr<std::vector<PurgeEntry>> ReadPurgeEntries(Store& store);

// Nothing that is needed stands in the journal before `journal_start`, durably, and all `entries`
// lie before it. When this returns OK, no file of the database holds what the threads had, nor the
// entries; but for the list of files, see above. Takes as long as the disk needs to write the
// tables anew that hold some of it; commits go on meanwhile. UNAVAILABLE: a read that began before
// the deletion is still under way; to be tried again.
absl::Status Purge(Store& store, uint64_t journal_start, const std::vector<PurgeEntry>& entries);

}  // namespace clarion::log
