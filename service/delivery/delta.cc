#include "service/delivery/delta.h"

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "clarion/v1/event.pb.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"

namespace clarion::delivery {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;

constexpr std::string_view kType = R"("type":)";
constexpr std::string_view kThinking = "agent_thinking";
constexpr std::string_view kMessageDelta = "agent_message_delta";

// Takes what is expected from the front of JSON text.
class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  bool Take(std::string_view literal) {
    if (text_.substr(at_, literal.size()) != literal) return false;
    at_ += literal.size();
    return true;
  }
  // A string in quotes, without them.
  bool TakeString(std::string_view* content) {
    if (at_ >= text_.size() || text_[at_] != '"') return false;
    const size_t begin = ++at_;
    for (;;) {
      const size_t quote = text_.find('"', at_);
      if (quote == std::string_view::npos) return false;
      at_ = quote + 1;
      size_t slashes = 0;
      while (quote - slashes > begin && text_[quote - slashes - 1] == '\\') ++slashes;
      if (slashes % 2 != 0) continue;
      *content = text_.substr(begin, quote - begin);
      return true;
    }
  }
  bool TakeString(std::string_view key, std::string_view* content) {
    return Take(key) && TakeString(content);
  }
  // Absent, or a string.
  bool SkipString(std::string_view key) {
    std::string_view ignored;
    return !Take(key) || TakeString(&ignored);
  }
  size_t at() const { return at_; }
  bool done() const { return at_ == text_.size(); }

 private:
  const std::string_view text_;
  size_t at_ = 0;
};

// One field of a message on the wire.
struct Field {
  uint32_t tag = 0;
  uint64_t number = 0;     // a varint's value
  std::string_view bytes;  // of a string or message
  size_t begin = 0;        // where the field begins and ends
  size_t end = 0;
};

class WireReader {
 public:
  explicit WireReader(std::string_view bytes)
      : bytes_(bytes),
        in_(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int>(bytes.size())) {}

  // False: the end, or not what our encoder writes, which uses varints and lengths alone here.
  bool Next(Field* field) {
    field->begin = Place();
    field->tag = in_.ReadTag();
    if (field->tag == 0) return false;
    switch (WireFormatLite::GetTagWireType(field->tag)) {
      case WireFormatLite::WIRETYPE_VARINT:
        if (!in_.ReadVarint64(&field->number)) return false;
        break;
      case WireFormatLite::WIRETYPE_LENGTH_DELIMITED: {
        uint32_t size = 0;
        if (!in_.ReadVarint32(&size)) return false;
        const size_t at = Place();
        if (size > bytes_.size() - at || !in_.Skip(static_cast<int>(size))) return false;
        field->bytes = bytes_.substr(at, size);
        break;
      }
      default:
        return false;
    }
    field->end = Place();
    return true;
  }
  bool done() const { return Place() == bytes_.size(); }

 private:
  size_t Place() const { return static_cast<size_t>(in_.CurrentPosition()); }

  const std::string_view bytes_;
  CodedInputStream in_;
};

constexpr uint32_t TextTag(int field) {
  return WireFormatLite::MakeTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
}
constexpr uint32_t FlagTag(int field) {
  return WireFormatLite::MakeTag(field, WireFormatLite::WIRETYPE_VARINT);
}

constexpr uint32_t kThinkingTag = TextTag(v1::Event::kAgentThinkingFieldNumber);
constexpr uint32_t kMessageDeltaTag = TextTag(v1::Event::kAgentMessageDeltaFieldNumber);

// Of the two payloads, which field is what.
struct PayloadTags {
  uint32_t message_id;
  uint32_t role;  // 0: none
  uint32_t delta;
  uint32_t is_final;
};
constexpr PayloadTags kThinkingTags = {TextTag(v1::AgentThinking::kMessageIdFieldNumber), 0,
                                       TextTag(v1::AgentThinking::kDeltaFieldNumber),
                                       FlagTag(v1::AgentThinking::kIsFinalFieldNumber)};
constexpr PayloadTags kMessageDeltaTags = {TextTag(v1::AgentMessageDelta::kMessageIdFieldNumber),
                                           TextTag(v1::AgentMessageDelta::kRoleFieldNumber),
                                           TextTag(v1::AgentMessageDelta::kDeltaFieldNumber),
                                           FlagTag(v1::AgentMessageDelta::kIsFinalFieldNumber)};

const PayloadTags& TagsOf(std::string_view type) {
  return type == kThinking ? kThinkingTags : kMessageDeltaTags;
}

bool ReadPayload(std::string_view payload, Delta* delta) {
  const PayloadTags& tags = TagsOf(delta->key.type);
  WireReader reader(payload);
  for (Field field; reader.Next(&field);) {
    if (field.tag == tags.message_id) {
      delta->key.message_id = field.bytes;
    } else if (field.tag == tags.delta) {
      delta->text = field.bytes;
    } else if (field.tag == tags.is_final) {
      delta->is_final = field.number != 0;
    } else if (tags.role != 0 && field.tag == tags.role) {
      delta->key.role = field.bytes;
    } else {
      return false;
    }
  }
  return reader.done();
}

void AppendVarint(uint64_t value, std::string* out) {
  uint8_t bytes[10];
  const uint8_t* end = CodedOutputStream::WriteVarint64ToArray(value, bytes);
  out->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(end - bytes));
}
void AppendText(uint32_t tag, std::string_view text, std::string* out) {
  if (text.empty()) return;
  AppendVarint(tag, out);
  AppendVarint(text.size(), out);
  out->append(text);
}
size_t SizeOfText(uint32_t tag, std::string_view text) {
  if (text.empty()) return 0;
  return CodedOutputStream::VarintSize32(tag) + CodedOutputStream::VarintSize64(text.size()) +
         text.size();
}

}  // namespace

std::optional<Delta> ReadJsonDelta(std::string_view json) {
  JsonReader reader(json);
  Delta delta;
  if (!reader.TakeString(kType, &delta.key.type)) return std::nullopt;
  const bool thinking = delta.key.type == kThinking;
  if (!thinking && delta.key.type != kMessageDelta) return std::nullopt;
  const bool envelope =
      reader.SkipString(R"(,"event_id":)") && reader.SkipString(R"(,"thread_id":)") &&
      reader.TakeString(R"(,"run_id":)", &delta.key.run_id) &&
      reader.SkipString(R"(,"user_id":)") &&
      reader.TakeString(R"(,"agent_name":)", &delta.key.agent_name) &&
      reader.SkipString(R"(,"timestamp":)") && reader.SkipString(R"(,"accepted_at":)") &&
      reader.SkipString(R"(,"traceparent":)") && reader.SkipString(R"(,"tracestate":)");
  if (!envelope || !reader.TakeString(R"(,"message_id":)", &delta.key.message_id) ||
      (!thinking && !reader.TakeString(R"(,"role":)", &delta.key.role)) ||
      !reader.Take(R"(,"delta":)")) {
    return std::nullopt;
  }
  delta.head = json.substr(0, reader.at() + 1);
  if (!reader.TakeString(&delta.text) || !reader.Take(R"(,"is_final":)")) return std::nullopt;
  delta.is_final = reader.Take("true");
  if ((!delta.is_final && !reader.Take("false")) || !reader.Take("}") || !reader.done()) {
    return std::nullopt;
  }
  return delta;
}

std::optional<Delta> ReadProtoDelta(std::string_view proto) {
  Delta delta;
  WireReader reader(proto);
  for (Field field; reader.Next(&field);) {
    if (field.tag == TextTag(v1::Event::kRunIdFieldNumber)) {
      delta.key.run_id = field.bytes;
    } else if (field.tag == TextTag(v1::Event::kAgentNameFieldNumber)) {
      delta.key.agent_name = field.bytes;
    } else if (field.tag == kThinkingTag || field.tag == kMessageDeltaTag) {
      if (!delta.key.type.empty()) return std::nullopt;
      delta.key.type = field.tag == kThinkingTag ? kThinking : kMessageDelta;
      delta.head = proto.substr(0, field.begin);
      delta.tail = proto.substr(field.end);
      if (!ReadPayload(field.bytes, &delta)) return std::nullopt;
    }
  }
  if (!reader.done() || delta.key.type.empty()) return std::nullopt;
  return delta;
}

std::string MergedJson(const Delta& last, std::string_view text) {
  constexpr std::string_view kFinal = R"(","is_final":true})";
  constexpr std::string_view kNotFinal = R"(","is_final":false})";
  std::string json;
  json.reserve(last.head.size() + text.size() + kNotFinal.size());
  return json.append(last.head).append(text).append(last.is_final ? kFinal : kNotFinal);
}

std::string MergedProto(const Delta& last, std::string_view text) {
  const PayloadTags& tags = TagsOf(last.key.type);
  const size_t payload = SizeOfText(tags.message_id, last.key.message_id) +
                         SizeOfText(tags.role, last.key.role) + SizeOfText(tags.delta, text) +
                         (last.is_final ? 2 : 0);
  std::string proto;
  proto.reserve(last.head.size() + 12 + payload + last.tail.size());
  proto.append(last.head);
  AppendVarint(last.key.type == kThinking ? kThinkingTag : kMessageDeltaTag, &proto);
  AppendVarint(payload, &proto);
  AppendText(tags.message_id, last.key.message_id, &proto);
  AppendText(tags.role, last.key.role, &proto);
  AppendText(tags.delta, text, &proto);
  if (last.is_final) {
    AppendVarint(tags.is_final, &proto);
    AppendVarint(1, &proto);
  }
  return proto.append(last.tail);
}

}  // namespace clarion::delivery
