#include "service/ctl/output.h"

#include <algorithm>
#include <iostream>
#include <map>

#include "absl/strings/ascii.h"
#include "clarion/v1/event.pb.h"
#include "google/protobuf/descriptor.h"
#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "proto/contract/event_json.h"
#include "proto/contract/json_text.h"

namespace clarion::ctl {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Characters, not bytes; good enough for columns.
size_t Width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

void AppendValue(const Message& message, const FieldDescriptor& field, int index,
                 std::string* out) {
  const Reflection& reflection = *message.GetReflection();
  const bool list = index >= 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      out->append((list ? reflection.GetRepeatedBool(message, &field, index)
                        : reflection.GetBool(message, &field))
                      ? "true"
                      : "false");
      return;
    case FieldDescriptor::CPPTYPE_INT32:
      out->append(std::to_string(list ? reflection.GetRepeatedInt32(message, &field, index)
                                      : reflection.GetInt32(message, &field)));
      return;
    case FieldDescriptor::CPPTYPE_INT64:
      out->append(std::to_string(list ? reflection.GetRepeatedInt64(message, &field, index)
                                      : reflection.GetInt64(message, &field)));
      return;
    case FieldDescriptor::CPPTYPE_UINT32:
      return AppendJsonNumber(uint64_t{list ? reflection.GetRepeatedUInt32(message, &field, index)
                                            : reflection.GetUInt32(message, &field)},
                              out);
    case FieldDescriptor::CPPTYPE_UINT64:
      return AppendJsonNumber(list ? reflection.GetRepeatedUInt64(message, &field, index)
                                   : reflection.GetUInt64(message, &field),
                              out);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return AppendJsonNumber(list ? reflection.GetRepeatedDouble(message, &field, index)
                                   : reflection.GetDouble(message, &field),
                              out);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return AppendJsonNumber(double{list ? reflection.GetRepeatedFloat(message, &field, index)
                                          : reflection.GetFloat(message, &field)},
                              out);
    case FieldDescriptor::CPPTYPE_ENUM:
      return AppendJsonString(
          EnumText(*field.enum_type(), list
                                           ? reflection.GetRepeatedEnumValue(message, &field, index)
                                           : reflection.GetEnumValue(message, &field)),
          out);
    case FieldDescriptor::CPPTYPE_STRING:
      return AppendJsonString(CleanUtf8(list ? reflection.GetRepeatedString(message, &field, index)
                                             : reflection.GetString(message, &field)),
                              out);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      out->append(ToJson(list ? reflection.GetRepeatedMessage(message, &field, index)
                              : reflection.GetMessage(message, &field)));
      return;
  }
}

void AppendMap(const Message& message, const FieldDescriptor& field, std::string* out) {
  const Reflection& reflection = *message.GetReflection();
  std::map<std::string, std::string> entries;  // in a stable order
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
    std::string value;
    AppendValue(entry, *entry.GetDescriptor()->field(1), -1, &value);
    entries[entry.GetReflection()->GetString(entry, entry.GetDescriptor()->field(0))] = value;
  }
  out->push_back('{');
  for (const auto& [key, value] : entries) {
    if (out->back() != '{') out->push_back(',');
    AppendJsonString(key, out);
    out->append(":").append(value);
  }
  out->push_back('}');
}

void AppendField(const Message& message, const FieldDescriptor& field, std::string* out) {
  if (field.is_map()) return AppendMap(message, field, out);
  if (!field.is_repeated()) return AppendValue(message, field, -1, out);
  out->push_back('[');
  for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i) {
    if (i > 0) out->push_back(',');
    AppendValue(message, field, i, out);
  }
  out->push_back(']');
}

// One sentence for each reason: what the one at the terminal does next.
std::string_view Advice(Reason reason) {
  switch (reason) {
    case Reason::kContextInvalid:
      return "mend what is named above and try again";
    case Reason::kNotInitialized:
      return "wait until /readyz of the service answers 200";
    case Reason::kGatewayUnavailable:
      return "see that a gateway runs and is attached: clarionctl check";
    case Reason::kSendFailed:
      return "the event is kept; see clarionctl where EVENT_ID";
    case Reason::kBufferOverflow:
      return "wait, or make events smaller (--max-event-bytes of the service)";
    case Reason::kAgentCommunicationFailed:
      return "hand over to the child run again";
    case Reason::kEventDropped:
      return "it expired or was deleted; it cannot be had back";
    case Reason::kThreadOwnership:
      return "use the user who owns the thread (clarionctl threads), or another thread";
    case Reason::kNotFound:
      return "check the ids; retention may have removed it";
    case Reason::kPermissionDenied:
      return "use a user or certificate that may";
    case Reason::kUnauthenticated:
      return "get a new token: clarionctl token";
    case Reason::kRunProtocol:
      return "check the order of the run's events and whether the run is open";
    case Reason::kRunFenced:
      return "stop: another producer took the run over";
    case Reason::kCircuitOpen:
      return "wait until the agent's breaker closes";
    case Reason::kNotReady:
      return "see who is connected: clarionctl connections";
    case Reason::kLogUnavailable:
      return "see the service's log and its disk; then send it again";
    case Reason::kEpochChanged:
      return "read from the position that the thread has now";
    case Reason::kAckInvalid:
      return "acknowledge only what was received";
    case Reason::kRateLimited:
      return "wait and send less at a time";
    case Reason::kGatewayDisplaced:
      return "give each gateway a --gateway-id of its own";
  }
  return "";
}

bool NobodyAnswered(const absl::Status& status) {
  return !ReasonOf(status) && (status.code() == absl::StatusCode::kUnavailable ||
                               status.code() == absl::StatusCode::kDeadlineExceeded);
}

void AppendLine(std::string_view key, std::string_view value, std::string* out) {
  if (value.empty()) return;
  out->append("  ").append(key).append(std::max<size_t>(11, key.size() + 1) - key.size(), ' ');
  out->append(Printable(std::string(value))).append("\n");
}

}  // namespace

std::string Printable(std::string text) {
  text = CleanUtf8(text);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7F) c = '?';
  }
  return text;
}

Table::Table(std::vector<std::string> header) {
  rows_.push_back(std::move(header));
}

void Table::Add(std::vector<std::string> row) {
  for (std::string& cell : row) cell = cell.empty() ? "-" : Printable(std::move(cell));
  rows_.push_back(std::move(row));
}

void Table::Print(std::ostream& out) const {
  std::vector<size_t> widths(rows_[0].size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      out << row[i];
      if (i + 1 < row.size()) out << std::string(widths[i] - Width(row[i]) + 2, ' ');
    }
    out << "\n";
  }
}

std::string ToJson(const Message& message) {
  std::string out;
  if (message.GetDescriptor() == v1::Event::descriptor()) {
    return EventToJson(static_cast<const v1::Event&>(message));
  }
  if (message.GetDescriptor() == google::protobuf::Timestamp::descriptor()) {
    AppendJsonTime(static_cast<const google::protobuf::Timestamp&>(message), &out);
    return out;
  }
  if (message.GetDescriptor() == google::protobuf::Duration::descriptor()) {
    const auto& duration = static_cast<const google::protobuf::Duration&>(message);
    AppendJsonNumber(static_cast<double>(duration.seconds()) + duration.nanos() / 1e9, &out);
    return out;
  }
  out.push_back('{');
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    if (field.has_presence() && !message.GetReflection()->HasField(message, &field)) continue;
    if (out.size() > 1) out.push_back(',');
    AppendJsonString(field.name(), &out);
    out.push_back(':');
    AppendField(message, field, &out);
  }
  out.push_back('}');
  return out;
}

std::string EnumText(const google::protobuf::EnumDescriptor& type, int value) {
  const auto* found = type.FindValueByNumber(value);
  if (found == nullptr) return std::to_string(value);
  const size_t prefix = type.value(0)->name().size() - std::string_view("UNSPECIFIED").size();
  return absl::AsciiStrToLower(found->name().substr(prefix));
}

std::string TimeText(bool present, const google::protobuf::Timestamp& time) {
  if (!present) return "-";
  std::string quoted;
  AppendJsonTime(time, &quoted);
  return quoted.substr(1, quoted.size() - 2);
}

std::string PositionText(std::string_view epoch, uint64_t offset) {
  return Concat(epoch, ":", offset);
}

std::string DescribeError(const absl::Status& status, const Globals& globals) {
  if (NobodyAnswered(status)) {
    return Concat("clarionctl: no answer from the service at ", globals.service, ": ",
                  Printable(std::string(status.message())),
                  "\n  what to do: start clarion-service there, or name another with --service or "
                  "CLARION_SERVICE\n");
  }
  std::string out = Concat("clarionctl: ", Printable(std::string(status.message())), "\n");
  const auto reason = ReasonOf(status);
  AppendLine("reason",
             reason ? std::string(NameOf(*reason)) : absl::StatusCodeToString(status.code()), &out);
  const ErrorContext context = ContextOf(status);
  AppendLine("operation", context.operation, &out);
  AppendLine("user", context.user_id, &out);
  AppendLine("thread", context.thread_id, &out);
  AppendLine("run", context.run_id, &out);
  AppendLine("trace", context.trace_id, &out);
  AppendLine("cause", context.cause, &out);
  for (const FieldViolation& violation : ViolationsOf(status)) {
    AppendLine("field", Concat(violation.field, ": ", violation.description), &out);
  }
  if (const auto delay = RetryAfterOf(status)) {
    AppendLine("retry", Concat("after ", static_cast<double>(delay->count()) / 1000, " s"), &out);
  }
  if (reason) AppendLine("what to do:", Advice(*reason), &out);
  return out;
}

ExitCode ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kOk;
  return NobodyAnswered(status) ? kUnreachable : kFailed;
}

int ReportError(const absl::Status& status, const Globals& globals) {
  std::cout.flush();
  std::cerr << DescribeError(status, globals);
  return ExitCodeOf(status);
}

}  // namespace clarion::ctl
