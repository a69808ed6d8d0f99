#include "proto/contract/wire_fault.h"

#include <map>
#include <string>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "proto/base/text.h"
#include "proto/contract/json_text.h"

namespace clarion {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;

using Fault = std::optional<FieldViolation>;

// Reads as a parser does, and keeps nothing but where it is.
class Search {
 public:
  explicit Search(std::string_view bytes)
      : in_(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int>(bytes.size())) {
    in_.PushLimit(static_cast<int>(bytes.size()));
  }

  // Up to the limit. Our types are not recursive, so their descriptors bound the depth.
  Fault Message(const Descriptor& type, const std::string& path) {
    std::map<int, int> seen;  // how often each field came
    for (;;) {
      const uint32_t tag = in_.ReadTag();
      if (tag == 0 && in_.ConsumedEntireMessage()) return std::nullopt;
      const int number = WireFormatLite::GetTagFieldNumber(tag);
      const FieldDescriptor* field = type.FindFieldByNumber(number);
      std::string name = Concat(path, field == nullptr ? Concat("#", number) : field->name());
      if (field != nullptr && field->is_repeated()) name += Concat("[", seen[number]++, "]");
      if (Fault fault = Field(field, tag, name)) return fault;
    }
  }

 private:
  Fault Field(const FieldDescriptor* field, uint32_t tag, const std::string& path) {
    const bool delimited =
        WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    if (!delimited || field == nullptr) return Skip(tag, path);
    int length = 0;
    if (!in_.ReadVarintSizeAsInt(&length) || length > in_.BytesUntilLimit()) return Broken(path);
    if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
      const auto limit = in_.PushLimit(length);
      Fault fault = Message(*field->message_type(), path + ".");
      in_.PopLimit(limit);
      return fault;
    }
    std::string text;
    in_.ReadString(&text, length);
    if (field->type() != FieldDescriptor::TYPE_STRING || CleanUtf8(text) == text) {
      return std::nullopt;
    }
    return FieldViolation{path, "is not UTF-8"};
  }

  Fault Skip(uint32_t tag, const std::string& path) {
    if (WireFormatLite::SkipField(&in_, tag)) return std::nullopt;
    return Broken(path);
  }

  Fault Broken(const std::string& path) {
    return FieldViolation{path,
                          Concat("is malformed or cut short at byte ", in_.CurrentPosition())};
  }

  google::protobuf::io::CodedInputStream in_;
};

}  // namespace

std::optional<FieldViolation> FindWireFault(const Descriptor& type, std::string_view bytes) {
  return Search(bytes).Message(type, "");
}

}  // namespace clarion
