// Logs: one line per thing that matters, with named fields; JSON, or readable on a terminal.
//
//   Log(Severity::kWarning, "gateway detached", {{"gateway_id", id}, {"cause", status.message()}});
//
// Thread-safe. A failure that somebody asked for goes through LogFailure, which also counts it.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace clarion {

enum class Severity { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kAuto, kJson, kText };  // kAuto: text on a terminal

struct LogField {
  std::string_view key;
  std::string value;
};

struct LogOptions {
  std::string program;
  LogFormat format = LogFormat::kAuto;
  Severity least = Severity::kInfo;
};

// Once, at the start of main. Before that, lines go to standard error as text.
void InitLog(const LogOptions& options);

void Log(Severity severity, std::string_view message, std::initializer_list<LogField> fields = {});

// An error with its user, thread, run, operation, reason and trace, at ERROR for what is our fault
// and at WARNING for what the caller can mend; counts clarion_failures_total{reason}. At most 20
// lines a second for each reason; what was left out is said with the next line.
void LogFailure(const absl::Status& status);

// The count of LogFailure without its line: for what is said to whom it concerns, by the name of
// its reason.
void CountFailure(std::string_view reason);

}  // namespace clarion
