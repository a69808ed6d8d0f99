// One log line as text: what log.cc writes.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <string_view>

#include "telemetry/log.h"

namespace clarion {

struct LogLine {
  std::chrono::system_clock::time_point time;
  Severity severity = Severity::kInfo;
  std::string_view program;
  std::string_view message;
  std::span<const LogField> fields;
};

// `{"time":…,"severity":"INFO","program":…,"message":…,"key":"value",…}`. Never breaks the line;
// bytes that are not UTF-8 become `?`.
std::string FormatJson(const LogLine& line);
// `2026-11-20T14:22:49.123Z WARNING message key=value other="two words"`.
std::string FormatText(const LogLine& line);

}  // namespace clarion
