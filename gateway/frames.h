// Frames as each transport has them, encoded once and shared by every connection that sends them.
//
// Loop-local: the reference counts are not atomic; frames never leave the loop that made them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "boost/smart_ptr/intrusive_ptr.hpp"
#include "boost/smart_ptr/intrusive_ref_counter.hpp"
#include "clarion/v1/position.pb.h"
#include "clarion/v1/stream.pb.h"
#include "proto/contract/encoded_event.h"
#include "proto/contract/ids.h"

namespace clarion::gateway {

// What is in a frame, and what is around it.
enum class Encoding : uint8_t {
  kJson,         // WebSocket, subprotocol clarion.v1.json
  kProto,        // WebSocket, subprotocol clarion.v1.proto
  kEventStream,  // text/event-stream: `data:` lines of JSON, and an event's `id:` epoch:offset
  kList,         // elements of a JSON array, a comma behind each
};
inline constexpr size_t kEncodings = 4;

// What is in it: one of the forms that events are stored in.
enum class Content : uint8_t { kJson, kProto };
inline constexpr size_t kContents = 2;
constexpr Content ContentOf(Encoding encoding) {
  return encoding == Encoding::kProto ? Content::kProto : Content::kJson;
}

// Consecutive complete frames in one buffer: writing bytes() from a frame's begin to the end of the
// buffer is what a connection sends.
class Frames : public boost::intrusive_ref_counter<Frames, boost::thread_unsafe_counter> {
 public:
  // Events of one thread and one epoch, contiguous from `first`, one frame each. One that covers
  // several offsets gets the last of them, and the first as `first_offset`. `epoch` counts for
  // kEventStream alone.
  static boost::intrusive_ptr<const Frames> OfEvents(Encoding encoding, Offset first,
                                                     std::span<const EventPtr> events,
                                                     std::string_view epoch = {});
  // One control frame, as its message.
  static boost::intrusive_ptr<const Frames> OfMessage(Encoding encoding,
                                                      const v1::ServerFrame& frame);
  // Bytes that are whole already: what Beast writes by itself, and close frames.
  static boost::intrusive_ptr<const Frames> OfBytes(std::string bytes);

  size_t count() const { return begins_.size(); }
  std::string_view bytes() const { return bytes_; }
  // Where frame `index` begins; index == count(): the end.
  size_t begin(size_t index) const {
    return index < begins_.size() ? begins_[index] : bytes_.size();
  }
  // Of events: the first offset that frame `index` covers.
  Offset first_offset(size_t index) const;

 private:
  // From frame `behind` on offsets are `more` further than one for each frame makes them.
  struct Step {
    uint32_t behind;
    uint32_t more;
  };

  std::string bytes_;
  std::vector<uint32_t> begins_;
  Offset first_;
  std::vector<Step> steps_;
};
using FramesPtr = boost::intrusive_ptr<const Frames>;

// What is missing of a thread, as its page is told.
v1::ServerFrame MissedFrame(std::string_view thread_id, const v1::Missed& missed);

// `{"type":"subscribed",…}`: a server frame as JSON text (stream.proto says how).
std::string ToJson(const v1::ServerFrame& frame);

}  // namespace clarion::gateway
