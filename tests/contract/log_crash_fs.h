// A file system for RocksDB that can do what a bad day does: lose what was not synced, fail a
// write, stand still.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "proto/base/mutex.h"
#include "rocksdb/env.h"
#include "rocksdb/file_system.h"

namespace clarion::log {

// Over the operating system's files. Thread-safe.
//
// Durable is what Sync or Fsync returned for; of a new name, what a sync of its folder returned
// for. Renaming and deleting are durable at once, as RocksDB syncs what it relies on before.
class CrashFileSystem : public rocksdb::FileSystemWrapper {
 public:
  CrashFileSystem();

  const char* Name() const override { return "CrashFileSystem"; }
  // For EmbeddedOptions::env; lives as long as this.
  rocksdb::Env* env() { return env_.get(); }
  static std::shared_ptr<CrashFileSystem> Make();

  // --- The machine dies.
  // From now on nothing can be written: the power is off, though the program does not know it yet.
  void PowerOff();
  // After this many more writes or syncs; the last write is cut in the middle.
  void PowerOffAfter(uint64_t operations);
  bool is_off() const;
  // When every file is closed: cuts each to what was durable, and perhaps a part of what was not.
  // Then the power is on again.
  void ForgetUnsynced(std::mt19937_64& random);

  // --- The disk fails.
  enum class Failure {
    kNothingWritten,
    kHalfWritten,
    kWrittenButNotSaid,  // the write happens, the answer is an error
  };
  // The n-th write or sync from now on (1: the next; 0: none) of a file whose name contains `part`
  // fails, once.
  void FailOnce(uint64_t n, Failure failure, std::string part);
  // Nothing reaches the disk until it is called with false. Small files that need not be synced
  // still get as far as the operating system's memory: the database's are not among them, DOUBT is.
  void FailAll(bool fail);
  // FailOnce has happened.
  bool failed() const;

  // --- The disk stands still.
  void StallSyncs();
  void WaitUntilSyncStalls() const;
  void Go();

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus ReopenWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* result,
                                       rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus ReuseWritableFile(const std::string& name, const std::string& old_name,
                                      const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSWritableFile>* result,
                                      rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus NewDirectory(const std::string& name, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus DeleteFile(const std::string& name, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;

 private:
  class File;
  class Directory;
  enum class Verdict { kGo, kFail, kHalf, kGoButFail };

  Verdict Judge(const std::string& name);
  bool FailsLocked(const std::string& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SyncedTo(const std::string& name, uint64_t size);
  void FolderSynced(const std::string& folder);
  void StallIfAsked();
  rocksdb::IOStatus Refused() const;

  mutable Mutex mutex_;
  mutable CondVar changed_;
  bool off_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t off_after_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: never
  bool fail_all_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t fail_in_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: no failure waits
  Failure failure_ ABSL_GUARDED_BY(mutex_) = Failure::kNothingWritten;
  std::string fail_part_ ABSL_GUARDED_BY(mutex_);
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
  bool stall_ ABSL_GUARDED_BY(mutex_) = false;
  int stalled_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, uint64_t> durable_ ABSL_GUARDED_BY(mutex_);  // bytes, of files written here
  std::set<std::string> new_names_ ABSL_GUARDED_BY(mutex_);  // whose folder was not synced since
  std::unique_ptr<rocksdb::Env> env_;
};

}  // namespace clarion::log
