// Reads events by reflection: the keys are the proto's field names, so a new field needs no code
// here. Not on the hot path: producers speak protobuf, this is for clarionctl and tests.
#include <charconv>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/time/time.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "proto/base/text.h"
#include "proto/contract/event_json.h"
#include "proto/contract/event_type.h"
#include "proto/contract/json_scan.h"
#include "proto/contract/json_text.h"

namespace clarion {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::Timestamp;

// Around a JSON-text field of the deepest kind: the event, `interrupts`, one of them.
constexpr size_t kMaxEventDepth = kMaxJsonDepth + 3;

std::string Index(std::string_view path, size_t index) {
  return Concat(path, "[", index, "]");
}

bool IsJsonText(const FieldDescriptor& field) {
  static const std::set<std::string_view> kNames = {"input", "arguments", "result", "value",
                                                    "response_schema"};
  return kNames.count(field.name()) > 0;
}

// `succeeded` -> TOOL_STATUS_SUCCEEDED. Null: no such value, or the unspecified one.
const EnumValueDescriptor* EnumNamed(const EnumDescriptor& type, std::string_view name) {
  for (int i = 1; i < type.value_count(); ++i) {
    const std::string& full = type.value(i)->name();
    const std::string lower = absl::AsciiStrToLower(full);
    const std::string& zero = type.value(0)->name();
    const size_t prefix = zero.size() - std::string_view("UNSPECIFIED").size();
    if (std::string_view(lower).substr(prefix) == name) return type.value(i);
  }
  return nullptr;
}

class EventReader {
 public:
  explicit EventReader(v1::Event* event) : event_(event) {}

  // Requires valid JSON text.
  std::vector<FieldViolation> Read(std::string_view json) {
    if (TrimJson(json).front() != '{') {
      Refuse("", "must be a JSON object");
      return std::move(violations_);
    }
    const auto members = Members(json, "");
    if (!ReadType(members)) return std::move(violations_);
    for (const Member& member : members) {
      if (member.key != "type" && !ReadEnvelope(member)) ReadPayload(member);
    }
    return std::move(violations_);
  }

 private:
  struct Member {
    std::string key;
    std::string_view value;
  };

  void Refuse(std::string_view path, std::string_view what) {
    violations_.push_back({std::string(path), std::string(what)});
  }

  std::vector<Member> Members(std::string_view object, std::string_view path) {
    std::vector<Member> members;
    std::set<std::string> seen;
    JsonScanner scanner(object);
    for (Member member; scanner.NextMember(&member.key, &member.value);) {
      if (seen.insert(member.key).second) {
        members.push_back(member);
      } else {
        Refuse(Concat(path, member.key), "is said twice");
      }
    }
    return members;
  }

  bool ReadType(const std::vector<Member>& members) {
    for (const Member& member : members) {
      if (member.key != "type") continue;
      std::string name;
      if (!ReadString(member.value, "type", &name)) return false;
      const EventTypeRow* row = TypeNamed(name);
      if (row == nullptr) {
        Refuse("type", "is not an event type");
        return false;
      }
      const FieldDescriptor* field =
          event_->GetDescriptor()->FindFieldByNumber(static_cast<int>(row->payload));
      payload_ = event_->GetReflection()->MutableMessage(event_, field);
      return true;
    }
    Refuse("type", "is required");
    return false;
  }

  // False: not a key of the envelope.
  bool ReadEnvelope(const Member& member) {
    const auto& [key, value] = member;
    if (key == "timestamp") {
      ReadTime(value, key, event_->mutable_occurred_at());
    } else if (key == "traceparent") {
      ReadString(value, key, event_->mutable_trace_context()->mutable_traceparent());
    } else if (key == "tracestate") {
      ReadString(value, key, event_->mutable_trace_context()->mutable_tracestate());
    } else if (key == "event_id" || key == "thread_id" || key == "run_id" || key == "user_id" ||
               key == "agent_name" || key == "offset" || key == "first_offset" ||
               key == "accepted_at") {
      ReadField(event_, *event_->GetDescriptor()->FindFieldByName(key), value, key);
    } else {
      return false;
    }
    return true;
  }

  void ReadPayload(const Member& member) {
    const FieldDescriptor* own = payload_->GetDescriptor()->FindFieldByName(member.key);
    const FieldDescriptor* failure = payload_->GetDescriptor()->FindFieldByName("failure");
    if (own != nullptr && own != failure) {
      return ReadField(payload_, *own, member.value, member.key);
    }
    const FieldDescriptor* common =
        failure == nullptr ? nullptr : v1::FailureInfo::descriptor()->FindFieldByName(member.key);
    if (common == nullptr) return Refuse(member.key, "is not a field of this event type");
    Message* info = payload_->GetReflection()->MutableMessage(payload_, failure);
    ReadField(info, *common, member.value, member.key);
  }

  void ReadField(Message* message, const FieldDescriptor& field, std::string_view value,
                 const std::string& path) {
    if (field.is_repeated()) return ReadRepeated(message, field, value, path);
    if (value == "null" && field.has_presence() && !IsJsonText(field)) return;
    const Reflection& reflection = *message->GetReflection();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING: {
        std::string text;
        if (IsJsonText(field)) {
          text = value;
        } else if (!ReadString(value, path, &text)) {
          return;
        }
        return reflection.SetString(message, &field, std::move(text));
      }
      case FieldDescriptor::CPPTYPE_BOOL:
        if (value != "true" && value != "false") return Refuse(path, "must be true or false");
        return reflection.SetBool(message, &field, value == "true");
      case FieldDescriptor::CPPTYPE_UINT64: {
        uint64_t number = 0;
        const auto [end, error] =
            std::from_chars(value.data(), value.data() + value.size(), number);
        if (error != std::errc() || end != value.data() + value.size()) {
          return Refuse(path, "must be an integer, not negative");
        }
        return reflection.SetUInt64(message, &field, number);
      }
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        double number = 0;
        const auto [end, error] =
            std::from_chars(value.data(), value.data() + value.size(), number);
        if (error != std::errc() || end != value.data() + value.size()) {
          return Refuse(path, "must be a number");
        }
        return reflection.SetDouble(message, &field, number);
      }
      case FieldDescriptor::CPPTYPE_ENUM: {
        std::string name;
        if (!ReadString(value, path, &name)) return;
        const EnumValueDescriptor* found = EnumNamed(*field.enum_type(), name);
        if (found == nullptr) return Refuse(path, "is not one of the values it may have");
        return reflection.SetEnum(message, &field, found);
      }
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return ReadMessage(reflection.MutableMessage(message, &field), value, path);
      default:
        return Refuse(path, "has a type that this version cannot read");
    }
  }

  void ReadRepeated(Message* message, const FieldDescriptor& field, std::string_view value,
                    const std::string& path) {
    if (value.front() != '[') return Refuse(path, "must be an array");
    const Reflection& reflection = *message->GetReflection();
    JsonScanner scanner(value);
    size_t index = 0;
    for (std::string_view element; scanner.NextElement(&element); ++index) {
      const std::string element_path = Index(path, index);
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        ReadMessage(reflection.AddMessage(message, &field), element, element_path);
        continue;
      }
      std::string text;
      if (ReadString(element, element_path, &text)) {
        reflection.AddString(message, &field, std::move(text));
      }
    }
  }

  void ReadMessage(Message* message, std::string_view value, const std::string& path) {
    if (message->GetDescriptor() == Timestamp::descriptor()) {
      return ReadTime(value, path, static_cast<Timestamp*>(message));
    }
    if (value.front() != '{') return Refuse(path, "must be an object");
    const std::string prefix = path + ".";
    for (const Member& member : Members(value, prefix)) {
      const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(member.key);
      if (field == nullptr) {
        Refuse(prefix + member.key, "is not a field here");
      } else {
        ReadField(message, *field, member.value, prefix + member.key);
      }
    }
  }

  bool ReadString(std::string_view value, std::string_view path, std::string* text) {
    if (value.front() != '"') {
      Refuse(path, "must be a string");
      return false;
    }
    *text = DecodeJsonString(value);
    return true;
  }

  void ReadTime(std::string_view value, std::string_view path, Timestamp* time) {
    std::string text;
    if (!ReadString(value, path, &text)) return;
    absl::Time parsed;
    std::string error;
    if (!absl::ParseTime(absl::RFC3339_full, text, &parsed, &error) || parsed < absl::UnixEpoch() ||
        parsed >= absl::FromUnixSeconds(253402300800)) {
      return Refuse(path, "must be an RFC 3339 time of the years 1970 to 9999");
    }
    const int64_t seconds = absl::ToUnixSeconds(parsed);
    time->set_seconds(seconds);
    time->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(parsed - absl::FromUnixSeconds(seconds))));
  }

  v1::Event* const event_;
  Message* payload_ = nullptr;
  std::vector<FieldViolation> violations_;
};

}  // namespace

absl::StatusOr<v1::Event> EventFromJson(std::string_view json) {
  if (!ValidJsonText(json, kMaxEventDepth)) return MakeBadRequest({{"", "not valid JSON"}});
  v1::Event event;
  const auto violations = EventReader(&event).Read(json);
  if (!violations.empty()) return MakeBadRequest(violations);
  return event;
}

}  // namespace clarion
