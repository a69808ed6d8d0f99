#include "gateway/frames.h"

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

constexpr std::string_view kJsonOffset = R"({"offset":)";
constexpr size_t kMaxDigits = 20;
constexpr size_t kMaxVarintBytes = 10;
// What stands in front of an event's stored bytes, at most, in either encoding.
constexpr size_t kMaxPrefixBytes = kMaxHeaderBytes + kJsonOffset.size() + kMaxDigits + 1;

char OpcodeOf(Encoding encoding) {
  return encoding == Encoding::kJson ? kFinText : kFinBinary;
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

// `{"offset":N,` and the stored rest of the object.
void AppendJsonEvent(uint64_t offset, std::string_view json, std::string& out) {
  char digits[kMaxDigits];
  const auto digits_bytes =
      static_cast<size_t>(std::to_chars(digits, digits + sizeof digits, offset).ptr - digits);
  char prefix[kMaxPrefixBytes];
  char* end =
      WriteHeader(prefix, Encoding::kJson, kJsonOffset.size() + digits_bytes + 1 + json.size());
  end += kJsonOffset.copy(end, kJsonOffset.size());
  end += std::string_view(digits, digits_bytes).copy(end, digits_bytes);
  *end++ = ',';
  out.append(prefix, static_cast<size_t>(end - prefix)).append(json);
}

// ServerFrame{event}: a message's fields may stand in any order, so the offset goes in front of
// the stored ones and only the lengths around them are new.
void AppendProtoEvent(uint64_t offset, std::string_view proto, std::string& out) {
  char offset_field[2 * kMaxVarintBytes];
  char* offset_end = WriteVarint(WriteVarint(offset_field, kOffsetTag), offset);
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
  return encoding == Encoding::kJson ? event.json() : event.proto();
}

}  // namespace

FramesPtr Frames::OfEvents(Encoding encoding, Offset first, std::span<const EventPtr> events) {
  boost::intrusive_ptr<Frames> frames(new Frames);
  size_t bytes = 0;
  for (const EventPtr& event : events)
    bytes += kMaxPrefixBytes + StoredBytes(encoding, *event).size();
  frames->bytes_.reserve(bytes);
  frames->begins_.reserve(events.size());

  uint64_t offset = first.value();
  for (const EventPtr& event : events) {
    frames->begins_.push_back(static_cast<uint32_t>(frames->bytes_.size()));
    const std::string_view stored = StoredBytes(encoding, *event);
    if (encoding == Encoding::kJson) {
      AppendJsonEvent(offset++, stored, frames->bytes_);
    } else {
      AppendProtoEvent(offset++, stored, frames->bytes_);
    }
  }
  return frames;
}

FramesPtr Frames::OfMessage(Encoding encoding, const v1::ServerFrame& frame) {
  const std::string payload =
      encoding == Encoding::kJson ? ToJson(frame) : frame.SerializeAsString();
  boost::intrusive_ptr<Frames> frames(new Frames);
  char header[kMaxHeaderBytes];
  char* end = WriteHeader(header, encoding, payload.size());
  frames->bytes_.reserve(static_cast<size_t>(end - header) + payload.size());
  frames->bytes_.append(header, static_cast<size_t>(end - header)).append(payload);
  frames->begins_.push_back(0);
  return frames;
}

FramesPtr Frames::OfBytes(std::string bytes) {
  boost::intrusive_ptr<Frames> frames(new Frames);
  frames->bytes_ = std::move(bytes);
  frames->begins_.push_back(0);
  return frames;
}

}  // namespace clarion::gateway
