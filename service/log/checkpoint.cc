#include "service/log/checkpoint.h"

#include <algorithm>
#include <utility>

#include "service/log/stored_thread.h"
#include "service/log/tombstone.h"

namespace clarion::log {
namespace {

std::vector<ChunkInfo> AddChunks(Store& store, const ThreadImage& image,
                                 const EmbeddedOptions& options, rocksdb::WriteBatch& batch) {
  std::vector<ChunkInfo> infos;
  std::vector<const LoggedEvent*> events;
  size_t bytes = 0;
  const Offset last = image.counters().last;
  Offset first = std::max({image.spilled().next(), image.tail_first(), image.counters().floor});
  for (Offset at = first; at <= last; at = at.next()) {
    const LoggedEvent& logged = image.TailAt(at);
    events.push_back(&logged);
    bytes += logged.event->bytes().size();
    if (at != last && bytes < options.chunk_bytes) continue;
    const EncodedChunk chunk = EncodeChunk(first, events);
    const std::string key = OffsetKey(image.id(), at);
    batch.Put(store.family(Family::kChunks), key, chunk.events);
    batch.Put(store.family(Family::kIds), key, chunk.ids);
    infos.push_back(chunk.info);
    first = at.next();
    events.clear();
    bytes = 0;
  }
  return infos;
}

void AddRuns(Store& store, const ThreadImage& image, rocksdb::WriteBatch& batch) {
  for (const uint64_t start : image.changed_runs()) {
    const std::string key = OffsetKey(image.id(), Offset(start));
    if (const RunRecord* run = image.RunAt(start); run != nullptr) {
      batch.Put(store.family(Family::kRuns), key, EncodeRun(*run));
    } else {
      batch.Delete(store.family(Family::kRuns), key);
    }
  }
}

absl::Status ReadRuns(Store& store, const rocksdb::Snapshot* snapshot, ThreadImage& image) {
  const std::string prefix = ThreadPrefix(image.id());
  return store.Scan(Family::kRuns, prefix, prefix, snapshot,
                    [&](std::string_view, std::string_view value) -> absl::StatusOr<bool> {
                      absl::StatusOr<RunRecord> run = DecodeRun(value);
                      if (!run.ok()) return run.status();
                      image.AddRun(*run);
                      return true;
                    });
}

absl::Status LoadIds(Store& store, const rocksdb::Snapshot* snapshot, ThreadImage& image) {
  const std::string prefix = ThreadPrefix(image.id());
  return store.Scan(Family::kIds, prefix, prefix, snapshot,
                    [&](std::string_view, std::string_view value) -> absl::StatusOr<bool> {
                      absl::StatusOr<StoredIds> stored = DecodeIds(value);
                      if (!stored.ok()) return stored.status();
                      image.AddChunk(stored->info, stored->ids);
                      return true;
                    });
}

}  // namespace

std::vector<ChunkInfo> AddCheckpoint(Store& store, const ThreadImage& image, uint64_t applied,
                                     const EmbeddedOptions& options, rocksdb::WriteBatch& batch) {
  std::vector<ChunkInfo> chunks = AddChunks(store, image, options, batch);
  AddRuns(store, image, batch);
  StoredMeta meta = image.Meta(applied);
  if (meta.oldest == WallTime{} && !chunks.empty()) meta.oldest = chunks.front().last_time;
  batch.Put(store.family(Family::kThreads), image.id().str(), EncodeMeta(meta));
  return chunks;
}

void AddErasure(Store& store, const ThreadImage& image, rocksdb::WriteBatch& batch) {
  batch.Delete(store.family(Family::kThreads), image.id().str());
  if (!image.owner().empty()) {
    batch.Delete(store.family(Family::kOwners), OwnerKey(image.owner(), image.id()));
  }
  // Most canaries' events never get to chunks.
  if (image.spilled() == Offset{}) return;
  const std::string begin = ThreadPrefix(image.id());
  const std::string end = image.id().str() + '\1';
  for (const Family family : {Family::kChunks, Family::kIds, Family::kRuns}) {
    batch.DeleteRange(store.family(family), begin, end);
  }
}

absl::StatusOr<std::unique_ptr<ThreadImage>> LoadThreadMeta(Store& store, const ThreadId& thread,
                                                            LoadRuns runs,
                                                            const rocksdb::Snapshot* snapshot,
                                                            uint64_t* applied) {
  auto image = std::make_unique<ThreadImage>(thread);
  *applied = 0;
  absl::StatusOr<std::optional<std::string>> bytes =
      store.Get(Family::kThreads, thread.str(), snapshot);
  if (!bytes.ok()) return bytes.status();
  if (!*bytes) {
    const absl::StatusOr<bool> deleted = HasTombstone(store, thread, snapshot);
    if (!deleted.ok()) return deleted.status();
    if (*deleted) image->SetDeleted();
    return image;
  }
  absl::StatusOr<StoredMeta> meta = DecodeMeta(**bytes);
  if (!meta.ok()) return meta.status();
  *applied = meta->applied;
  image->Restore(*meta);
  if (runs == LoadRuns::kNo) return image;
  if (absl::Status status = ReadRuns(store, snapshot, *image); !status.ok()) return status;
  return image;
}

absl::StatusOr<std::unique_ptr<ThreadImage>> LoadThread(Store& store, const ThreadId& thread,
                                                        const rocksdb::Snapshot* snapshot) {
  uint64_t applied = 0;
  auto image = LoadThreadMeta(store, thread, LoadRuns::kYes, snapshot, &applied);
  if (!image.ok()) return image;
  if (absl::Status status = LoadIds(store, snapshot, **image); !status.ok()) return status;
  (*image)->SetComplete();
  return image;
}

}  // namespace clarion::log
