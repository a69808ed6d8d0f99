// The database: RocksDB with our column families and keys (FORMAT.md). Knows bytes, not rules.
//
// Thread-safe. Held by shared_ptr: whoever reads keeps it open; `on_closed` is called when the last
// one let go and the files are closed.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/contract/ids.h"
#include "rocksdb/db.h"
#include "service/log/embedded_options.h"

namespace clarion::log {

enum class Family { kMeta, kJournal, kChunks, kIds, kThreads, kRuns, kOwners };
inline constexpr std::array kFamilyNames = {"default", "journal", "chunks", "ids",
                                            "threads", "runs",    "owners"};

// DATA_LOSS: the files are broken; UNAVAILABLE: everything else.
absl::Status FromRocks(const rocksdb::Status& status);

class Store {
 public:
  // Creates what is missing. What Open recovered is on stable storage when it returns.
  static absl::StatusOr<std::shared_ptr<Store>> Open(const EmbeddedOptions& options,
                                                     std::function<void()> on_closed);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  rocksdb::DB& db() { return *db_; }
  rocksdb::ColumnFamilyHandle* family(Family family) {
    return families_[static_cast<size_t>(family)];
  }

  absl::Status Write(rocksdb::WriteBatch& batch, bool sync);
  // Nothing: no such key.
  absl::StatusOr<std::optional<std::string>> Get(Family family, std::string_view key,
                                                 const rocksdb::Snapshot* snapshot = nullptr);
  // Without touching the disk; UNAVAILABLE: it would have to.
  absl::StatusOr<std::optional<std::string>> GetFromMemory(Family family, std::string_view key);

  // Calls `visit` for every key that begins with `prefix`, from `from` on, until it answers false.
  using Visitor = std::function<absl::StatusOr<bool>(std::string_view key, std::string_view value)>;
  absl::Status Scan(Family family, std::string_view prefix, std::string_view from,
                    const rocksdb::Snapshot* snapshot, const Visitor& visit);

  // Gives back the space of journal records before `sequence`. What makes them needless is on
  // stable storage.
  absl::Status TrimJournal(uint64_t sequence);

 private:
  Store() = default;

  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
  std::function<void()> on_closed_;
};

// A file beside the database that says: a write failed, and what was shown may not be on the disk
// although the machine never stopped. Whoever opens the database next cannot trust the boot id.
void MarkDoubt(const EmbeddedOptions& options);
bool IsDoubtful(const EmbeddedOptions& options);
void ClearDoubt(const EmbeddedOptions& options);

// Whether files can be written and synced in the database's folder, whatever state the database is
// in.
absl::Status ProbeDisk(const EmbeddedOptions& options);

// --- Keys.
std::string JournalKey(uint64_t sequence);
uint64_t SequenceOfKey(std::string_view key);
// Of chunks and ids (by last offset) and runs (by start).
std::string ThreadPrefix(const ThreadId& thread);
std::string OffsetKey(const ThreadId& thread, Offset offset);
std::string OwnerPrefix(const UserId& owner);
std::string OwnerKey(const UserId& owner, const ThreadId& thread);
ThreadId ThreadOfOwnerKey(std::string_view key);

inline rocksdb::Slice ToSlice(std::string_view bytes) {
  return {bytes.data(), bytes.size()};
}
inline std::string_view ToView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

// A snapshot of the database for as long as it lives.
class StoreSnapshot {
 public:
  explicit StoreSnapshot(std::shared_ptr<Store> store)
      : store_(std::move(store)), snapshot_(store_->db().GetSnapshot()) {}
  ~StoreSnapshot() { store_->db().ReleaseSnapshot(snapshot_); }
  StoreSnapshot(const StoreSnapshot&) = delete;
  StoreSnapshot& operator=(const StoreSnapshot&) = delete;
  const rocksdb::Snapshot* get() const { return snapshot_; }

 private:
  const std::shared_ptr<Store> store_;
  const rocksdb::Snapshot* const snapshot_;
};

}  // namespace clarion::log
