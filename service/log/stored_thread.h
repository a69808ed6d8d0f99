// A thread's checkpoint and chunks, as bytes (FORMAT.md). Decoders answer DATA_LOSS for bytes that
// this version did not write.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "service/log/thread_image.h"

namespace clarion::log {

std::string EncodeMeta(const StoredMeta& meta);
absl::StatusOr<StoredMeta> DecodeMeta(std::string_view bytes);

std::string EncodeRun(const RunRecord& run);
absl::StatusOr<RunRecord> DecodeRun(std::string_view bytes);

// A chunk is stored twice over: its events, and what judging repetitions needs of them.
struct EncodedChunk {
  ChunkInfo info;
  std::string events;
  std::string ids;
};
// `events` begin at `first` and are not empty.
EncodedChunk EncodeChunk(Offset first, absl::Span<const LoggedEvent* const> events);

struct StoredIds {
  ChunkInfo info;
  std::vector<StoredId> ids;
};
absl::StatusOr<StoredIds> DecodeIds(std::string_view bytes);

// What a caller is told whose thread could not be read for `status`.
absl::Status Unreadable(const absl::Status& status, std::string_view operation,
                        const ThreadId& thread);

// Which epoch an offset belongs to.
class EpochTable {
 public:
  explicit EpochTable(std::vector<EpochMark> marks) : marks_(std::move(marks)) {}
  // Requires that the thread has events.
  const Epoch& Of(Offset offset) const {
    size_t i = marks_.size() - 1;
    while (i > 0 && marks_[i].first > offset) --i;
    return marks_[i].epoch;
  }

 private:
  std::vector<EpochMark> marks_;
};

// The part of a chunk from `from` to `until`. Adds to `out` until the budget is used up (false);
// `next` is the offset after the last one added, and left alone if the chunk begins after `from`.
absl::StatusOr<bool> ReadChunk(std::string_view bytes, Offset from, Offset until,
                               const EpochTable& epochs, PageBudget& budget,
                               std::vector<EventRun>& out, Offset* next);

}  // namespace clarion::log
