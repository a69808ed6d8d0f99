#include "service/log/tombstone.h"

#include <openssl/sha.h>

#include <array>
#include <string_view>
#include <utility>

#include "proto/contract/error.h"
#include "service/log/bytes.h"
#include "telemetry/log.h"

namespace clarion::log {
namespace {

constexpr std::string_view kDeletedPrefix = "deleted ";
constexpr size_t kHashBytes = 16;
constexpr uint8_t kTombstoneVersion = 3;

std::string EncodeTombstone(WallTime at) {
  std::string bytes;
  ByteWriter out(&bytes);
  out.Byte(kTombstoneVersion);
  out.Time(at);
  return bytes;
}

}  // namespace

std::string TombstoneKey(const ThreadId& thread) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> hash;
  SHA256(reinterpret_cast<const unsigned char*>(thread.str().data()), thread.str().size(),
         hash.data());
  std::string key(kDeletedPrefix);
  key.append(reinterpret_cast<const char*>(hash.data()), kHashBytes);
  return key;
}

void AddTombstone(Store& store, const ThreadId& thread, WallTime at, rocksdb::WriteBatch& batch) {
  batch.Put(store.family(Family::kMeta), TombstoneKey(thread), EncodeTombstone(at));
}

absl::StatusOr<bool> HasTombstone(Store& store, const ThreadId& thread,
                                  const rocksdb::Snapshot* snapshot) {
  const auto bytes = store.Get(Family::kMeta, TombstoneKey(thread), snapshot);
  if (!bytes.ok()) return bytes.status();
  return bytes->has_value();
}

void TombstoneSweep::Run(Store& store, WallTime until, size_t most) {
  {
    MutexLock lock(mutex_);
    if (std::exchange(busy_, true)) return;
  }
  if (absl::Status status = Sweep(store, until, most); !status.ok()) {
    cursor_.clear();
    LogFailure(MakeError(Reason::kLogUnavailable, "tombstones of deleted threads cannot be swept",
                         {.operation = "SweepTombstones", .cause = std::string(status.message())}));
  }
  MutexLock lock(mutex_);
  busy_ = false;
}

absl::Status TombstoneSweep::Sweep(Store& store, WallTime until, size_t most) {
  rocksdb::WriteBatch batch;
  const std::string from = cursor_.empty() ? std::string(kDeletedPrefix) : cursor_;
  cursor_.clear();
  absl::Status status =
      store.Scan(Family::kMeta, kDeletedPrefix, from, nullptr,
                 [&](std::string_view key, std::string_view value) -> absl::StatusOr<bool> {
                   if (most-- == 0) {
                     cursor_ = std::string(key);
                     return false;
                   }
                   ByteReader in(value);
                   const bool known = in.Byte() == kTombstoneVersion;
                   const WallTime at = in.Time();
                   if (!known || !in.ok()) return absl::DataLossError("a tombstone is broken");
                   if (at < until) batch.Delete(store.family(Family::kMeta), ToSlice(key));
                   return true;
                 });
  if (!status.ok() || batch.Count() == 0) return status;
  return store.Write(batch, /*sync=*/false);
}

}  // namespace clarion::log
