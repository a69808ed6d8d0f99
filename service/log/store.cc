#include "service/log/store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rocksdb/cache.h"
#include "rocksdb/convenience.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/iterator.h"
#include "rocksdb/table.h"
#include "rocksdb/write_batch.h"
#include "service/log/database_reports.h"

namespace clarion::log {
namespace {

void AppendBigEndian(uint64_t value, std::string* out) {
  for (int shift = 56; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

rocksdb::Env* EnvOf(const EmbeddedOptions& options) {
  return options.env != nullptr ? options.env : rocksdb::Env::Default();
}

std::string DoubtPath(const EmbeddedOptions& options) {
  return options.path + "/DOUBT";
}

rocksdb::DBOptions DatabaseOptions(const EmbeddedOptions& options) {
  rocksdb::DBOptions db;
  db.env = EnvOf(options);
  db.create_if_missing = true;
  db.create_missing_column_families = true;
  // A log cut short by a crash ends at the cut; what comes before it is whole.
  db.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  // What recovery read goes to a table file, synced, before anybody sees it.
  db.avoid_flush_during_recovery = false;
  db.max_background_jobs = 2;
  db.max_subcompactions = 1;
  db.max_total_wal_size = 4 * options.write_buffer_bytes + (64u << 20);
  // Written back bit by bit, so that no sync has to wait for tens of megabytes.
  db.bytes_per_sync = 1u << 20;
  db.wal_bytes_per_sync = 512u << 10;
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;
  db.max_open_files = 512;
  // The list of files names first and last keys, also of files that are gone (purge.h): written
  // anew when it has grown so far, it holds few of those.
  db.max_manifest_file_size = 64u << 10;
  RouteReports(db);
  // One thread writes: nothing to gain from the machinery for many.
  db.allow_concurrent_memtable_write = false;
  db.enable_write_thread_adaptive_yield = false;
  return db;
}

rocksdb::ColumnFamilyOptions FamilyOptions(const EmbeddedOptions& options, Family family,
                                           const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::ColumnFamilyOptions cf;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.format_version = 5;
  cf.compression = rocksdb::kLZ4Compression;
  cf.max_write_buffer_number = 3;
  cf.write_buffer_size = options.write_buffer_bytes;
  switch (family) {
    case Family::kJournal:
      // Read at recovery only, and soon gone: neither compressed nor cached nor merged.
      cf.compression = rocksdb::kNoCompression;
      table.block_size = 64u << 10;
      cf.level0_file_num_compaction_trigger = 2;
      cf.level0_slowdown_writes_trigger = 40;
      cf.level0_stop_writes_trigger = 64;
      break;
    case Family::kChunks:
      // What was just written is soon merged: only what stays is worth compressing.
      cf.compression_per_level = {rocksdb::kNoCompression, rocksdb::kLZ4Compression};
      break;
    case Family::kThreads:
    case Family::kMeta:
    case Family::kOwners:
    case Family::kRuns:
    case Family::kIds:
      table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
      cf.write_buffer_size = std::min<size_t>(options.write_buffer_bytes, 8u << 20);
      break;
  }
  cf.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return cf;
}

}  // namespace

absl::Status FromRocks(const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  if (status.IsCorruption()) return absl::DataLossError(status.ToString());
  return absl::UnavailableError(status.ToString());
}

absl::StatusOr<std::shared_ptr<Store>> Store::Open(const EmbeddedOptions& options,
                                                   std::function<void()> on_closed) {
  const auto cache = rocksdb::NewLRUCache(options.block_cache_bytes);
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  descriptors.reserve(kFamilyNames.size());
  for (size_t i = 0; i < kFamilyNames.size(); ++i) {
    descriptors.emplace_back(kFamilyNames[i], FamilyOptions(options, Family(i), cache));
  }
  std::shared_ptr<Store> store(new Store);
  // The database would make it too, and report that it was missing. What fails here fails there.
  EnvOf(options)->CreateDirIfMissing(options.path).PermitUncheckedError();
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(DatabaseOptions(options), options.path,
                                                   descriptors, &store->families_, &db);
  store->db_.reset(db);
  if (!status.ok()) {
    return absl::UnavailableError(
        absl::StrCat("the event log at ", options.path, " cannot be opened: ", status.ToString()));
  }
  store->on_closed_ = std::move(on_closed);
  return store;
}

Store::~Store() {
  if (db_ != nullptr) {
    for (rocksdb::ColumnFamilyHandle* family : families_) db_->DestroyColumnFamilyHandle(family);
    db_->Close().PermitUncheckedError();
    db_.reset();
  }
  if (on_closed_) on_closed_();
}

absl::Status Store::Write(rocksdb::WriteBatch& batch, bool sync) {
  rocksdb::WriteOptions options;
  options.sync = sync;
  return FromRocks(db_->Write(options, &batch));
}

absl::StatusOr<std::optional<std::string>> Store::Get(Family family, std::string_view key,
                                                      const rocksdb::Snapshot* snapshot) {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  std::string value;
  const rocksdb::Status status = db_->Get(options, this->family(family), ToSlice(key), &value);
  if (status.IsNotFound()) return std::nullopt;
  if (!status.ok()) return FromRocks(status);
  return value;
}

absl::StatusOr<std::optional<std::string>> Store::GetFromMemory(Family family,
                                                                std::string_view key) {
  rocksdb::ReadOptions options;
  options.read_tier = rocksdb::kBlockCacheTier;
  std::string value;
  const rocksdb::Status status = db_->Get(options, this->family(family), ToSlice(key), &value);
  if (status.IsNotFound()) return std::nullopt;
  if (!status.ok()) return FromRocks(status);
  return value;
}

absl::Status Store::Scan(Family family, std::string_view prefix, std::string_view from,
                         const rocksdb::Snapshot* snapshot, const Visitor& visit) {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options, this->family(family)));
  for (it->Seek(ToSlice(from)); it->Valid() && it->key().starts_with(ToSlice(prefix)); it->Next()) {
    absl::StatusOr<bool> more = visit(ToView(it->key()), ToView(it->value()));
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
  }
  return FromRocks(it->status());
}

absl::Status Store::TrimJournal(uint64_t sequence) {
  const std::string end = JournalKey(sequence);
  const rocksdb::Slice limit(end);
  return FromRocks(rocksdb::DeleteFilesInRange(db_.get(), family(Family::kJournal), nullptr, &limit,
                                               /*include_end=*/false));
}

void MarkDoubt(const EmbeddedOptions& options) {
  // Not synced: it is for the next process. Empty: a full disk mostly has room for a name. Where
  // even this fails nothing more can be done.
  std::unique_ptr<rocksdb::WritableFile> mark;
  EnvOf(options)
      ->NewWritableFile(DoubtPath(options), &mark, rocksdb::EnvOptions())
      .PermitUncheckedError();
}

bool IsDoubtful(const EmbeddedOptions& options) {
  return EnvOf(options)->FileExists(DoubtPath(options)).ok();
}

void ClearDoubt(const EmbeddedOptions& options) {
  EnvOf(options)->DeleteFile(DoubtPath(options)).PermitUncheckedError();
}

absl::Status ProbeDisk(const EmbeddedOptions& options) {
  rocksdb::Env* env = EnvOf(options);
  const std::string path = options.path + "/PROBE";
  // Enough to notice a full disk before the database does again.
  const std::string data(1u << 20, '.');
  absl::Status status =
      FromRocks(rocksdb::WriteStringToFile(env, data, path, /*should_sync=*/true));
  env->DeleteFile(path).PermitUncheckedError();
  return status;
}

std::string JournalKey(uint64_t sequence) {
  std::string key;
  AppendBigEndian(sequence, &key);
  return key;
}
uint64_t SequenceOfKey(std::string_view key) {
  uint64_t value = 0;
  for (char byte : key.substr(0, 8)) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

// Ids hold no byte 0, so no thread's prefix is another's.
std::string ThreadPrefix(const ThreadId& thread) {
  std::string key;
  key.reserve(thread.str().size() + 9);
  key.append(thread.str()).push_back('\0');
  return key;
}
std::string OffsetKey(const ThreadId& thread, Offset offset) {
  std::string key = ThreadPrefix(thread);
  AppendBigEndian(offset.value(), &key);
  return key;
}

std::string OwnerPrefix(const UserId& owner) {
  std::string key = owner.str();
  key.push_back('\0');
  return key;
}
std::string OwnerKey(const UserId& owner, const ThreadId& thread) {
  return OwnerPrefix(owner) + thread.str();
}
ThreadId ThreadOfOwnerKey(std::string_view key) {
  return ThreadId(key.substr(key.find('\0') + 1));
}

}  // namespace clarion::log
