#include "tests/contract/log_crash_fs.h"

#include <filesystem>
#include <utility>

namespace clarion::log {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

class CrashFileSystem::File : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  File(CrashFileSystem* fs, std::string name, uint64_t size,
       std::unique_ptr<rocksdb::FSWritableFile> file)
      : FSWritableFileOwnerWrapper(std::move(file)), fs_(fs), name_(std::move(name)), size_(size) {}

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* debug) override {
    Slice written = data;
    const Verdict verdict = fs_->Judge(name_);
    if (verdict == Verdict::kFail) return fs_->Refused();
    if (verdict == Verdict::kHalf) written = Slice(data.data(), data.size() / 2);
    IOStatus status = target()->Append(written, options, debug);
    if (status.ok()) size_ += written.size();
    return verdict == Verdict::kGo ? status : fs_->Refused();
  }
  IOStatus Append(const Slice& data, const IOOptions& options, const rocksdb::DataVerificationInfo&,
                  IODebugContext* debug) override {
    return Append(data, options, debug);
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* debug) override {
    fs_->StallIfAsked();
    const Verdict verdict = fs_->Judge(name_);
    if (verdict == Verdict::kFail || verdict == Verdict::kHalf) return fs_->Refused();
    IOStatus status = target()->Flush(options, debug);  // what is tested survives no real crash
    if (status.ok()) fs_->SyncedTo(name_, size_);
    return verdict == Verdict::kGo ? status : fs_->Refused();
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return Sync(options, debug);
  }
  // Starts the writing back of a range, promises nothing.
  IOStatus RangeSync(uint64_t, uint64_t, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  // Room kept in advance would make a file longer than what was written to it.
  IOStatus Allocate(uint64_t, uint64_t, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus Truncate(uint64_t size, const IOOptions& options, IODebugContext* debug) override {
    size_ = size;
    return target()->Truncate(size, options, debug);
  }

 private:
  CrashFileSystem* const fs_;
  const std::string name_;
  uint64_t size_;
};

class CrashFileSystem::Directory : public rocksdb::FSDirectory {
 public:
  Directory(CrashFileSystem* fs, std::string name, std::unique_ptr<rocksdb::FSDirectory> target)
      : fs_(fs), name_(std::move(name)), target_(std::move(target)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    fs_->StallIfAsked();
    if (fs_->Judge(name_ + "/") != Verdict::kGo) return fs_->Refused();
    fs_->FolderSynced(name_);
    return IOStatus::OK();
  }
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* debug,
                               const rocksdb::DirFsyncOptions&) override {
    return Fsync(options, debug);
  }
  IOStatus Close(const IOOptions& options, IODebugContext* debug) override {
    return target_->Close(options, debug);
  }

 private:
  CrashFileSystem* const fs_;
  const std::string name_;
  const std::unique_ptr<rocksdb::FSDirectory> target_;
};

CrashFileSystem::CrashFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}

std::shared_ptr<CrashFileSystem> CrashFileSystem::Make() {
  auto fs = std::make_shared<CrashFileSystem>();
  // The Env must not own the file system that owns it.
  fs->env_ = rocksdb::NewCompositeEnv(
      std::shared_ptr<rocksdb::FileSystem>(std::shared_ptr<void>(), fs.get()));
  return fs;
}

void CrashFileSystem::PowerOff() {
  MutexLock lock(mutex_);
  off_ = true;
}
void CrashFileSystem::PowerOffAfter(uint64_t operations) {
  MutexLock lock(mutex_);
  off_after_ = operations;
}
bool CrashFileSystem::is_off() const {
  MutexLock lock(mutex_);
  return off_;
}

void CrashFileSystem::ForgetUnsynced(std::mt19937_64& random) {
  MutexLock lock(mutex_);
  std::error_code ignored;
  for (const std::string& name : new_names_) {
    // The name itself was lost, or not.
    if (random() % 2 == 0) std::filesystem::remove(name, ignored);
  }
  for (const auto& [name, durable] : durable_) {
    const uint64_t size = std::filesystem::file_size(name, ignored);
    if (ignored || size <= durable) continue;
    // The machine may have written back some of it by itself.
    const uint64_t kept = random() % 2 == 0 ? durable : durable + random() % (size - durable);
    std::filesystem::resize_file(name, kept, ignored);
  }
  new_names_.clear();
  durable_.clear();
  off_ = false;
  off_after_ = 0;
}

void CrashFileSystem::FailOnce(uint64_t n, Failure failure, std::string part) {
  MutexLock lock(mutex_);
  fail_in_ = n;
  failure_ = failure;
  fail_part_ = std::move(part);
  failed_ = false;
}
void CrashFileSystem::FailAll(bool fail) {
  MutexLock lock(mutex_);
  fail_all_ = fail;
}
bool CrashFileSystem::failed() const {
  MutexLock lock(mutex_);
  return failed_;
}

void CrashFileSystem::StallSyncs() {
  MutexLock lock(mutex_);
  stall_ = true;
}
void CrashFileSystem::WaitUntilSyncStalls() const {
  MutexLock lock(mutex_);
  while (stalled_ == 0) changed_.Wait(mutex_);
}
void CrashFileSystem::Go() {
  MutexLock lock(mutex_);
  stall_ = false;
  changed_.NotifyAll();
}

IOStatus CrashFileSystem::NewWritableFile(const std::string& name,
                                          const rocksdb::FileOptions& options,
                                          std::unique_ptr<rocksdb::FSWritableFile>* result,
                                          IODebugContext* debug) {
  {
    MutexLock lock(mutex_);
    if (FailsLocked(name)) return Refused();
    if (!std::filesystem::exists(name)) new_names_.insert(name);
    durable_[name] = 0;
  }
  std::unique_ptr<rocksdb::FSWritableFile> file;
  IOStatus status = target()->NewWritableFile(name, options, &file, debug);
  if (status.ok()) *result = std::make_unique<File>(this, name, 0, std::move(file));
  return status;
}

IOStatus CrashFileSystem::ReopenWritableFile(const std::string& name,
                                             const rocksdb::FileOptions& options,
                                             std::unique_ptr<rocksdb::FSWritableFile>* result,
                                             IODebugContext* debug) {
  {
    MutexLock lock(mutex_);
    if (off_ || fail_all_) return Refused();
  }
  std::error_code ignored;
  uint64_t size = std::filesystem::file_size(name, ignored);
  if (ignored) size = 0;
  std::unique_ptr<rocksdb::FSWritableFile> file;
  IOStatus status = target()->ReopenWritableFile(name, options, &file, debug);
  if (status.ok()) *result = std::make_unique<File>(this, name, size, std::move(file));
  return status;
}

IOStatus CrashFileSystem::ReuseWritableFile(const std::string&, const std::string&,
                                            const rocksdb::FileOptions&,
                                            std::unique_ptr<rocksdb::FSWritableFile>*,
                                            IODebugContext*) {
  return IOStatus::NotSupported("logs are not recycled here");
}

IOStatus CrashFileSystem::NewDirectory(const std::string& name, const IOOptions& options,
                                       std::unique_ptr<rocksdb::FSDirectory>* result,
                                       IODebugContext* debug) {
  std::unique_ptr<rocksdb::FSDirectory> directory;
  IOStatus status = target()->NewDirectory(name, options, &directory, debug);
  if (status.ok()) *result = std::make_unique<Directory>(this, name, std::move(directory));
  return status;
}

IOStatus CrashFileSystem::DeleteFile(const std::string& name, const IOOptions& options,
                                     IODebugContext* debug) {
  {
    MutexLock lock(mutex_);
    if (off_) return Refused();
    durable_.erase(name);
    new_names_.erase(name);
  }
  return target()->DeleteFile(name, options, debug);
}

IOStatus CrashFileSystem::RenameFile(const std::string& from, const std::string& to,
                                     const IOOptions& options, IODebugContext* debug) {
  {
    MutexLock lock(mutex_);
    if (off_ || fail_all_) return Refused();
    if (const auto entry = durable_.find(from); entry != durable_.end()) {
      durable_[to] = entry->second;
      durable_.erase(from);
    }
    new_names_.erase(from);
  }
  return target()->RenameFile(from, to, options, debug);
}

CrashFileSystem::Verdict CrashFileSystem::Judge(const std::string& name) {
  MutexLock lock(mutex_);
  if (FailsLocked(name)) return Verdict::kFail;
  if (off_after_ > 0) {
    --off_after_;
    off_ = off_after_ == 0;
    if (off_) return Verdict::kHalf;
  }
  if (fail_in_ == 0 || name.find(fail_part_) == std::string::npos) return Verdict::kGo;
  --fail_in_;
  if (fail_in_ > 0) return Verdict::kGo;
  failed_ = true;
  switch (failure_) {
    case Failure::kNothingWritten:
      return Verdict::kFail;
    case Failure::kHalfWritten:
      return Verdict::kHalf;
    case Failure::kWrittenButNotSaid:
      return Verdict::kGoButFail;
  }
  return Verdict::kFail;
}

bool CrashFileSystem::FailsLocked(const std::string& name) const {
  return off_ || (fail_all_ && !name.ends_with("/DOUBT"));
}

void CrashFileSystem::SyncedTo(const std::string& name, uint64_t size) {
  MutexLock lock(mutex_);
  if (const auto entry = durable_.find(name); entry != durable_.end()) entry->second = size;
}

void CrashFileSystem::FolderSynced(const std::string& folder) {
  MutexLock lock(mutex_);
  std::erase_if(new_names_, [&](const std::string& name) {
    return std::filesystem::path(name).parent_path() == std::filesystem::path(folder);
  });
}

void CrashFileSystem::StallIfAsked() {
  MutexLock lock(mutex_);
  if (!stall_) return;
  ++stalled_;
  changed_.NotifyAll();
  while (stall_) changed_.Wait(mutex_);
  --stalled_;
}

IOStatus CrashFileSystem::Refused() const {
  return IOStatus::IOError("the test's disk fails");
}

}  // namespace clarion::log
