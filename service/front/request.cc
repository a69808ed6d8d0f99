#include "service/front/request.h"

#include "google/protobuf/descriptor.h"
#include "google/protobuf/unknown_field_set.h"
#include "proto/base/text.h"
#include "proto/contract/ids.h"

namespace clarion::front {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Deeper messages than ours do not parse, so recursion is bounded by the descriptors.
template <class Visitor>
void VisitMessages(const Message& message, std::string_view path, Visitor&& visit) {
  const Reflection& reflection = *message.GetReflection();
  visit(message, path);
  const auto* descriptor = message.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      if (!reflection.HasField(message, field)) continue;
      VisitMessages(reflection.GetMessage(message, field), Concat(path, field->name(), "."), visit);
      continue;
    }
    for (int j = 0; j < reflection.FieldSize(message, field); ++j) {
      VisitMessages(reflection.GetRepeatedMessage(message, field, j),
                    Concat(path, field->name(), "[", j, "]."), visit);
    }
  }
}

// The same walk without paths, for the usual case that there is nothing to say.
bool HasUnknown(const Message& message) {
  const Reflection& reflection = *message.GetReflection();
  if (!reflection.GetUnknownFields(message).empty()) return true;
  const auto* descriptor = message.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      if (reflection.HasField(message, field) &&
          HasUnknown(reflection.GetMessage(message, field))) {
        return true;
      }
      continue;
    }
    for (int j = 0; j < reflection.FieldSize(message, field); ++j) {
      if (HasUnknown(reflection.GetRepeatedMessage(message, field, j))) return true;
    }
  }
  return false;
}

}  // namespace

Fields& Fields::Known(const Message& message, std::string_view prefix) {
  if (!HasUnknown(message)) return *this;
  VisitMessages(message, prefix,
                [this](const Message& part, std::string_view path) { KnownAlone(part, path); });
  return *this;
}

Fields& Fields::KnownAlone(const Message& message, std::string_view prefix) {
  const auto& unknown = message.GetReflection()->GetUnknownFields(message);
  if (unknown.empty()) return *this;
  return Fault(Concat(prefix, "#", unknown.field(0).number()),
               "is a field number that this version does not know");
}

Fields& Fields::Id(std::string_view path, std::string_view value) {
  if (value.empty()) return Fault(path, "required");
  return OptionalId(path, value);
}

Fields& Fields::OptionalId(std::string_view path, std::string_view value) {
  if (value.empty() || ValidId(value)) return *this;
  return Fault(path, "an id is 1 to 128 bytes of printable ASCII without space");
}

Fields& Fields::User(std::string_view path, std::string_view value) {
  if (value.empty()) return Fault(path, "required");
  return OptionalUser(path, value);
}

Fields& Fields::OptionalUser(std::string_view path, std::string_view value) {
  if (IsReservedUser(value)) return Fault(path, "this user is reserved");
  return OptionalId(path, value);
}

Fields& Fields::AtMost(std::string_view path, uint64_t value, uint64_t limit) {
  return value <= limit ? *this : Fault(path, Concat("at most ", limit));
}

Fields& Fields::MaxBytes(std::string_view path, std::string_view value, size_t limit) {
  return value.size() <= limit ? *this : Fault(path, Concat("at most ", limit, " bytes"));
}

Fields& Fields::Duration(std::string_view path, const google::protobuf::Duration& value,
                         std::chrono::seconds most) {
  constexpr int32_t kNanosPerSecond = 1'000'000'000;
  const bool well_formed =
      value.seconds() >= 0 && value.nanos() >= 0 && value.nanos() < kNanosPerSecond;
  const bool within =
      value.seconds() < most.count() || (value.seconds() == most.count() && value.nanos() == 0);
  if (well_formed && within) return *this;
  return Fault(path, Concat("0 to ", most.count(), " s"));
}

Fields& Fields::NotServed(std::string_view path, bool used) {
  return used ? Fault(path, "not served yet") : *this;
}

Fields& Fields::Fault(std::string_view path, std::string_view description) {
  faults_.push_back({std::string(path), std::string(description)});
  return *this;
}

std::chrono::nanoseconds ToNanoseconds(const google::protobuf::Duration& duration) {
  return std::chrono::seconds(duration.seconds()) + std::chrono::nanoseconds(duration.nanos());
}

google::protobuf::Duration ToDuration(std::chrono::nanoseconds duration) {
  google::protobuf::Duration result;
  result.set_seconds(duration.count() / 1'000'000'000);
  result.set_nanos(static_cast<int32_t>(duration.count() % 1'000'000'000));
  return result;
}

}  // namespace clarion::front
