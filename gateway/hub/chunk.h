// A piece of a thread on its way to sockets: live events, or a page of the log.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "clarion/v1/position.pb.h"
#include "gateway/frames.h"
#include "gateway/hub/cursor.h"
#include "proto/contract/encoded_event.h"
#include "proto/contract/ids.h"

namespace clarion::gateway {

// Contiguous events of one epoch, at least one. Their frames are made once for each encoding, when
// the first connection needs them.
class EventRun {
 public:
  // `merged`: see link::Live.
  EventRun(SharedEpoch epoch, Offset first, std::vector<EventPtr> events, uint64_t merged = 0)
      : epoch_(std::move(epoch)), first_(first), events_(std::move(events)), merged_(merged) {}

  const SharedEpoch& epoch() const { return epoch_; }
  Offset first() const { return first_; }
  Offset last() const { return Offset(first_.value() + events_.size() + merged_ - 1); }
  Cursor end() const { return {epoch_, last()}; }
  const std::vector<EventPtr>& events() const { return events_; }
  bool compacted() const { return merged_ > 0; }
  // The index of the event that begins at `offset`, which is not before first(); events().size()
  // for the one after last(). Nothing: it is inside a compacted event, or beyond.
  std::optional<size_t> IndexOf(Offset offset) const;
  const FramesPtr& frames(Encoding encoding) const {
    FramesPtr& frames = frames_[static_cast<size_t>(encoding)];
    if (frames == nullptr) frames = Frames::OfEvents(encoding, first_, events_, epoch_.str());
    return frames;
  }

 private:
  SharedEpoch epoch_;
  Offset first_;
  std::vector<EventPtr> events_;
  uint64_t merged_;
  mutable std::array<FramesPtr, kEncodings> frames_;
};

struct Chunk {
  // What is missing, before the first event.
  std::vector<v1::Missed> missed;
  // Ascending; each begins where the one before ends.
  absl::InlinedVector<EventRun, 1> runs;
  // The end of the thread, as whoever made this knew it.
  Cursor last;
  // What its events have, by Content.
  std::array<bool, kContents> has = {true, true};

  bool empty() const { return missed.empty() && runs.empty(); }
  bool compacted() const;
};

// The first offset that follows `missed` for somebody who was at `from`.
Offset NextAfter(Offset from, const std::vector<v1::Missed>& missed);

// `chunk` goes on exactly where somebody at `from` stands: no gap and no repeat that `missed` does
// not explain.
bool Continues(const Cursor& from, const Chunk& chunk);

}  // namespace clarion::gateway
