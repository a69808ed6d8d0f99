// A piece of a thread on its way to sockets: live events, or a page of the log.
#pragma once

#include <array>
#include <cstddef>
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
  EventRun(SharedEpoch epoch, Offset first, std::vector<EventPtr> events)
      : epoch_(std::move(epoch)), first_(first), events_(std::move(events)) {}

  const SharedEpoch& epoch() const { return epoch_; }
  Offset first() const { return first_; }
  Offset last() const { return Offset(first_.value() + events_.size() - 1); }
  Cursor end() const { return {epoch_, last()}; }
  const std::vector<EventPtr>& events() const { return events_; }
  const FramesPtr& frames(Encoding encoding) const {
    FramesPtr& frames = frames_[static_cast<size_t>(encoding)];
    if (frames == nullptr) frames = Frames::OfEvents(encoding, first_, events_);
    return frames;
  }

 private:
  SharedEpoch epoch_;
  Offset first_;
  std::vector<EventPtr> events_;
  mutable std::array<FramesPtr, kEncodings> frames_;
};

struct Chunk {
  // What is missing, before the first event.
  std::vector<v1::Missed> missed;
  // Ascending; each begins where the one before ends.
  absl::InlinedVector<EventRun, 1> runs;
  // The end of the thread, as whoever made this knew it.
  Cursor last;
  // The encodings its events have.
  std::array<bool, kEncodings> has = {true, true};

  bool empty() const { return missed.empty() && runs.empty(); }
};

// The first offset that follows `missed` for somebody who was at `from`.
Offset NextAfter(Offset from, const std::vector<v1::Missed>& missed);

// `chunk` goes on exactly where somebody at `from` stands: no gap and no repeat that `missed` does
// not explain.
bool Continues(const Cursor& from, const Chunk& chunk);

}  // namespace clarion::gateway
