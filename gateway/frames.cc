#include "gateway/frames.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"

namespace clarion::gateway {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedOutputStream;

// First byte of a frame: FIN, and what is in it (RFC 6455, 5.2).
constexpr char kFinText = static_cast<char>(0x81);
constexpr char kFinBinary = static_cast<char>(0x82);
constexpr size_t kMaxHeaderBytes = 10;

// ServerFrame.event (field 30) and Event.offset (field 8) as they stand on the wire.
constexpr uint32_t kEventTag = WireFormatLite::MakeTag(v1::ServerFrame::kEventFieldNumber,
                                                       WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
constexpr uint32_t kOffsetTag =
    WireFormatLite::MakeTag(v1::Event::kOffsetFieldNumber, WireFormatLite::WIRETYPE_VARINT);

constexpr uint32_t kFirstOffsetTag =
    WireFormatLite::MakeTag(v1::Event::kFirstOffsetFieldNumber, WireFormatLite::WIRETYPE_VARINT);

// Of text/event-stream (HTML, 9.2.6), and of a JSON array.
constexpr std::string_view kIdLine = "id: ";
constexpr std::string_view kDataLine = "data: ";
constexpr std::string_view kNextDataLine = "\ndata: ";
constexpr std::string_view kEndOfEvent = "\n\n";
constexpr char kNextElement = ',';

constexpr std::string_view kJsonOffset = R"({"offset":)";
constexpr std::string_view kJsonFirstOffset = R"(,"first_offset":)";
constexpr size_t kMaxDigits = 20;
constexpr size_t kMaxVarintBytes = 10;
// What stands around an event's stored bytes, at most, but for its epoch.
constexpr size_t kMaxAroundBytes = std::max(
    kMaxHeaderBytes, kIdLine.size() + 1 + kMaxDigits + 1 + kDataLine.size() + kEndOfEvent.size());
constexpr size_t kMaxPrefixBytes = kMaxAroundBytes + kJsonOffset.size() + kMaxDigits + 1;
// And besides if it is compacted.
constexpr size_t kMaxFirstOffsetBytes = kJsonFirstOffset.size() + kMaxDigits;

// The offsets that an event covers: one, unless it is compacted.
struct Range {
  uint64_t first = 0;
  uint64_t last = 0;
};

char OpcodeOf(Encoding encoding) {
  return ContentOf(encoding) == Content::kJson ? kFinText : kFinBinary;
}

// Server frames are not masked; the length is 7, 16 or 64 bits, the shortest that holds it.
char* WriteHeader(char* to, Encoding encoding, uint64_t payload_bytes) {
  *to++ = OpcodeOf(encoding);
  int length_bytes = 0;
  if (payload_bytes < 126) {
    *to++ = static_cast<char>(payload_bytes);
  } else if (payload_bytes <= 0xFFFF) {
    *to++ = 126;
    length_bytes = 2;
  } else {
    *to++ = 127;
    length_bytes = 8;
  }
  for (int shift = 8 * (length_bytes - 1); shift >= 0; shift -= 8) {
    *to++ = static_cast<char>(payload_bytes >> shift);
  }
  return to;
}

char* WriteVarint(char* to, uint64_t value) {
  return reinterpret_cast<char*>(
      CodedOutputStream::WriteVarint64ToArray(value, reinterpret_cast<uint8_t*>(to)));
}

// Stored JSON may have line ends between its tokens: each begins a line of data of its own.
void AppendData(std::string_view json, std::string& out) {
  size_t end = json.find_first_of("\r\n");
  while (end != std::string_view::npos) {
    out.append(json.substr(0, end)).append(kNextDataLine);
    json.remove_prefix(end + 1);
    end = json.find_first_of("\r\n");
  }
  out.append(json);
}

// Where an event is, for kEventStream.
void AppendId(std::string_view epoch, uint64_t offset, std::string& out) {
  char digits[kMaxDigits];
  const char* const end = std::to_chars(digits, digits + sizeof digits, offset).ptr;
  out.append(kIdLine).append(epoch).append(":");
  out.append(digits, static_cast<size_t>(end - digits)).append("\n");
}

// One JSON object, which begins with `begin`.
void AppendJson(Encoding encoding, std::string_view begin, std::string_view json,
                std::string& out) {
  if (encoding == Encoding::kEventStream) {
    out.append(kDataLine).append(begin);
    AppendData(json, out);
    out.append(kEndOfEvent);
  } else if (encoding == Encoding::kList) {
    out.append(begin).append(json).push_back(kNextElement);
  } else {
    char header[kMaxHeaderBytes];
    const char* header_end = WriteHeader(header, encoding, begin.size() + json.size());
    out.append(header, static_cast<size_t>(header_end - header)).append(begin).append(json);
  }
}

// `{"offset":N,`, or `{"offset":N,"first_offset":M,`, and the stored rest of the object.
void AppendJsonEvent(Encoding encoding, Range offsets, std::string_view json, std::string& out) {
  char begin[kMaxPrefixBytes + kMaxFirstOffsetBytes];
  char* begin_end = begin + kJsonOffset.copy(begin, kJsonOffset.size());
  begin_end = std::to_chars(begin_end, begin + sizeof begin, offsets.last).ptr;
  if (offsets.first != offsets.last) {
    begin_end += kJsonFirstOffset.copy(begin_end, kJsonFirstOffset.size());
    begin_end = std::to_chars(begin_end, begin + sizeof begin, offsets.first).ptr;
  }
  *begin_end++ = ',';
  AppendJson(encoding, {begin, static_cast<size_t>(begin_end - begin)}, json, out);
}

// ServerFrame{event}: a message's fields may stand in any order, so the offset goes in front of
// the stored ones and only the lengths around them are new.
void AppendProtoEvent(Range offsets, std::string_view proto, std::string& out) {
  char offset_field[4 * kMaxVarintBytes];
  char* offset_end = WriteVarint(WriteVarint(offset_field, kOffsetTag), offsets.last);
  if (offsets.first != offsets.last) {
    offset_end = WriteVarint(WriteVarint(offset_end, kFirstOffsetTag), offsets.first);
  }
  const auto offset_bytes = static_cast<size_t>(offset_end - offset_field);
  const size_t event_bytes = offset_bytes + proto.size();

  const size_t payload_bytes = CodedOutputStream::VarintSize32(kEventTag) +
                               CodedOutputStream::VarintSize64(event_bytes) + event_bytes;
  char prefix[kMaxHeaderBytes + 2 * kMaxVarintBytes];
  char* end = WriteHeader(prefix, Encoding::kProto, payload_bytes);
  end = WriteVarint(WriteVarint(end, kEventTag), event_bytes);
  out.append(prefix, static_cast<size_t>(end - prefix));
  out.append(offset_field, offset_bytes).append(proto);
}

std::string_view StoredBytes(Encoding encoding, const EncodedEvent& event) {
  return ContentOf(encoding) == Content::kJson ? event.json() : event.proto();
}

}  // namespace

FramesPtr Frames::OfEvents(Encoding encoding, Offset first, std::span<const EventPtr> events,
                           std::string_view epoch) {
  boost::intrusive_ptr<Frames> frames(new Frames);
  size_t bytes = 0;
  for (const EventPtr& event : events) {
    bytes += kMaxPrefixBytes + epoch.size() + StoredBytes(encoding, *event).size();
    if (event->offsets() > 1) bytes += kMaxFirstOffsetBytes;
  }
  frames->bytes_.reserve(bytes);
  frames->begins_.reserve(events.size());

  frames->first_ = first;
  uint64_t next = first.value();
  for (const EventPtr& event : events) {
    frames->begins_.push_back(static_cast<uint32_t>(frames->bytes_.size()));
    const Range offsets{next, next + event->offsets() - 1};
    const std::string_view stored = StoredBytes(encoding, *event);
    if (encoding == Encoding::kEventStream) AppendId(epoch, offsets.last, frames->bytes_);
    if (encoding == Encoding::kProto) {
      AppendProtoEvent(offsets, stored, frames->bytes_);
    } else {
      AppendJsonEvent(encoding, offsets, stored, frames->bytes_);
    }
    if (event->offsets() > 1) {
      frames->steps_.push_back(
          {static_cast<uint32_t>(frames->begins_.size()), event->offsets() - 1});
    }
    next = offsets.last + 1;
  }
  return frames;
}

Offset Frames::first_offset(size_t index) const {
  uint64_t offset = first_.value() + index;
  for (const Step& step : steps_) {
    if (step.behind > index) break;
    offset += step.more;
  }
  return Offset(offset);
}

FramesPtr Frames::OfMessage(Encoding encoding, const v1::ServerFrame& frame) {
  boost::intrusive_ptr<Frames> frames(new Frames);
  if (encoding == Encoding::kProto) {
    const std::string payload = frame.SerializeAsString();
    char header[kMaxHeaderBytes];
    const char* end = WriteHeader(header, encoding, payload.size());
    frames->bytes_.append(header, static_cast<size_t>(end - header)).append(payload);
  } else {
    AppendJson(encoding, "", ToJson(frame), frames->bytes_);
  }
  frames->begins_.push_back(0);
  return frames;
}

FramesPtr Frames::OfBytes(std::string bytes) {
  boost::intrusive_ptr<Frames> frames(new Frames);
  frames->bytes_ = std::move(bytes);
  frames->begins_.push_back(0);
  return frames;
}

v1::ServerFrame MissedFrame(std::string_view thread_id, const v1::Missed& missed) {
  v1::ServerFrame frame;
  v1::MissedRange& said = *frame.mutable_missed();
  said.set_thread_id(std::string(thread_id));
  said.set_epoch(missed.epoch());
  said.set_from_offset(missed.from_offset());
  said.set_to_offset(missed.to_offset());
  said.set_reason(missed.reason());
  if (missed.has_discard_after()) said.set_discard_after(missed.discard_after());
  return frame;
}

}  // namespace clarion::gateway
