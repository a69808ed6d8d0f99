#include "telemetry/log.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "google/protobuf/stubs/logging.h"
#include "proto/base/mutex.h"
#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "proto/contract/reason.h"
#include "spdlog/logger.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "telemetry/failure_limiter.h"
#include "telemetry/log_line.h"
#include "telemetry/metrics.h"

namespace clarion {
namespace {

struct Output {
  Output(std::string program_name, bool as_json, Severity least_severity)
      : program(std::move(program_name)),
        json(as_json),
        least(least_severity),
        logger("clarion", std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
    // The line is whole when it gets here; spdlog writes it and its end, and nothing else.
    logger.set_formatter(std::make_unique<spdlog::pattern_formatter>("%v"));
    logger.set_level(spdlog::level::trace);
    logger.flush_on(spdlog::level::trace);
  }

  const std::string program;
  const bool json;
  const Severity least;
  spdlog::logger logger;
  // What this one replaced lives on: other threads may be writing to it.
  const Output* previous = nullptr;
};

std::atomic<Output*>& Current() {
  static std::atomic<Output*> current = new Output("", false, Severity::kInfo);
  return current;
}

spdlog::level::level_enum LevelOf(Severity severity) {
  switch (severity) {
    case Severity::kDebug:
      return spdlog::level::debug;
    case Severity::kInfo:
      return spdlog::level::info;
    case Severity::kWarning:
      return spdlog::level::warn;
    case Severity::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

void Write(Severity severity, std::string_view message, std::span<const LogField> fields) {
  Output& output = *Current().load(std::memory_order_acquire);
  if (severity < output.least) return;
  const LogLine line{std::chrono::system_clock::now(), severity, output.program, message, fields};
  const std::string text = output.json ? FormatJson(line) : FormatText(line);
  output.logger.log(LevelOf(severity), spdlog::string_view_t(text));
}

// One slot for each reason, and one for statuses that have none.
constexpr size_t kNoReason = kReasons.size();

class Failures {
 public:
  Failures() {
    for (size_t i = 0; i <= kNoReason; ++i) {
      counters_[i] = &GetCounter("clarion_failures_total", "Failures, by reason.",
                                 {{"reason", std::string(NameAt(i))}});
    }
  }

  void CountOnly(size_t index) { counters_[index]->Add(); }
  // As FailureLimiter::Admit; counts in any case.
  std::optional<uint64_t> Count(size_t index) {
    counters_[index]->Add();
    MutexLock lock(mutex_);
    return limiters_[index].Admit(std::chrono::steady_clock::now());
  }

  static std::string_view NameAt(size_t index) {
    return index == kNoReason ? std::string_view("NONE") : kReasons[index].name;
  }

 private:
  std::array<Counter*, kNoReason + 1> counters_{};  // constant after construction
  Mutex mutex_;
  std::array<FailureLimiter, kNoReason + 1> limiters_ ABSL_GUARDED_BY(mutex_);
};

Failures& AllFailures() {
  static Failures& failures = *new Failures;
  return failures;
}

Severity SeverityOf(const absl::Status& status, std::optional<Reason> reason) {
  // The breaker works as intended; what tripped it was said before.
  if (reason == Reason::kCircuitOpen) return Severity::kWarning;
  // No caller's: whoever deployed two gateways with one id must act.
  if (reason == Reason::kGatewayDisplaced) return Severity::kError;
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      return Severity::kError;
    default:
      return Severity::kWarning;
  }
}

std::vector<LogField> FieldsOf(const absl::Status& status, std::string_view reason,
                               uint64_t left_out) {
  const ErrorContext context = ContextOf(status);
  std::vector<LogField> fields = {{"reason", std::string(reason)}};
  const auto add = [&](std::string_view key, const std::string& value) {
    if (!value.empty()) fields.push_back({key, value});
  };
  add("operation", context.operation);
  add("user_id", context.user_id);
  add("thread_id", context.thread_id);
  add("run_id", context.run_id);
  add("trace_id", context.trace_id);
  add("cause", context.cause);
  for (const FieldViolation& violation : ViolationsOf(status)) {
    add("field", Concat(violation.field, ": ", violation.description));
  }
  if (left_out > 0) add("left_out", std::to_string(left_out));
  return fields;
}

}  // namespace

void InitLog(const LogOptions& options) {
  // Protocol Buffers print a line of their own, in their own format and as often as a peer likes,
  // for bytes that are not UTF-8. Whoever parses says that with the error.
  google::protobuf::SetLogHandler(nullptr);
  const bool json = options.format == LogFormat::kJson ||
                    (options.format == LogFormat::kAuto && ::isatty(STDERR_FILENO) == 0);
  auto* output = new Output(options.program, json, options.least);
  output->previous = Current().load(std::memory_order_acquire);
  Current().store(output, std::memory_order_release);
}

void Log(Severity severity, std::string_view message, std::initializer_list<LogField> fields) {
  Write(severity, message, std::span(fields.begin(), fields.size()));
}

void CountFailure(std::string_view reason) {
  const std::optional<Reason> known = ReasonFromName(reason);
  AllFailures().CountOnly(known ? static_cast<size_t>(*known) : kNoReason);
}

void LogFailure(const absl::Status& status) {
  if (status.ok()) return;
  const std::optional<Reason> reason = ReasonOf(status);
  const size_t index = reason ? static_cast<size_t>(*reason) : kNoReason;
  const std::optional<uint64_t> left_out = AllFailures().Count(index);
  if (!left_out) return;
  Write(SeverityOf(status, reason), ToStd(status.message()),
        FieldsOf(status, Failures::NameAt(index), *left_out));
}

}  // namespace clarion
