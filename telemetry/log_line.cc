#include "telemetry/log_line.h"

#include <algorithm>

#include "google/protobuf/timestamp.pb.h"
#include "proto/contract/json_text.h"

namespace clarion {
namespace {

std::string_view NameOf(Severity severity) {
  switch (severity) {
    case Severity::kDebug:
      return "DEBUG";
    case Severity::kInfo:
      return "INFO";
    case Severity::kWarning:
      return "WARNING";
    case Severity::kError:
      return "ERROR";
  }
  return "ERROR";
}

// In quotes, to the millisecond.
std::string QuotedTime(std::chrono::system_clock::time_point time) {
  const auto millis =
      std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch()).count();
  google::protobuf::Timestamp timestamp;
  timestamp.set_seconds(millis / 1000);
  timestamp.set_nanos(static_cast<int32_t>(millis % 1000) * 1'000'000);
  std::string text;
  AppendJsonTime(timestamp, &text);
  return text;
}

void AppendMember(std::string_view key, std::string_view value, std::string* out) {
  out->push_back(',');
  AppendJsonString(CleanUtf8(key), out);
  out->push_back(':');
  AppendJsonString(CleanUtf8(value), out);
}

bool ReadsWithoutQuotes(std::string_view value) {
  return !value.empty() && std::all_of(value.begin(), value.end(), [](char c) {
    return c > ' ' && c < 0x7F && c != '"' && c != '=' && c != '\\';
  });
}

}  // namespace

std::string FormatJson(const LogLine& line) {
  std::string out = R"({"time":)" + QuotedTime(line.time);
  AppendMember("severity", NameOf(line.severity), &out);
  if (!line.program.empty()) AppendMember("program", line.program, &out);
  AppendMember("message", line.message, &out);
  for (const LogField& field : line.fields) AppendMember(field.key, field.value, &out);
  out.push_back('}');
  return out;
}

std::string FormatText(const LogLine& line) {
  const std::string time = QuotedTime(line.time);
  std::string out = time.substr(1, time.size() - 2);
  out.append(" ").append(NameOf(line.severity)).append(" ");
  // A message is ours, but it may quote a peer: no control characters on somebody's terminal.
  for (const char c : CleanUtf8(line.message)) {
    out.push_back(static_cast<unsigned char>(c) < ' ' || c == 0x7F ? ' ' : c);
  }
  for (const LogField& field : line.fields) {
    out.append(" ").append(field.key).append("=");
    if (ReadsWithoutQuotes(field.value)) {
      out.append(field.value);
    } else {
      AppendJsonString(CleanUtf8(field.value), &out);
    }
  }
  return out;
}

}  // namespace clarion
