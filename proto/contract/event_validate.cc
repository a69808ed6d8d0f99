#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "google/protobuf/unknown_field_set.h"
#include "proto/base/text.h"
#include "proto/contract/event_json.h"
#include "proto/contract/event_type.h"
#include "proto/contract/ids.h"
#include "proto/contract/json_text.h"
#include "proto/contract/limits.h"

namespace clarion {
namespace {

constexpr size_t kMaxNameBytes = 256;
constexpr size_t kMaxTextBytes = 64 * 1024;
constexpr size_t kMaxErrorTypeBytes = 64;
constexpr size_t kMaxTracestateBytes = 512;
constexpr size_t kMaxTraceparentBytes = 256;
constexpr int kMaxUsages = 64;
constexpr int kMaxInterrupts = 64;
constexpr int kMaxNames = 256;
constexpr int64_t kMaxSeconds = 253402300799;  // the end of the year 9999

bool IsLowerHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool AllZero(std::string_view text) {
  return text.find_first_not_of('0') == text.npos;
}

// https://www.w3.org/TR/trace-context/#traceparent-header; later versions may append to what 00
// has.
bool ValidTraceparent(std::string_view text) {
  constexpr size_t kBytes = 55;
  if (text.size() < kBytes || text.size() > kMaxTraceparentBytes) return false;
  if (text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  const auto version = text.substr(0, 2), trace = text.substr(3, 32), parent = text.substr(36, 16),
             flags = text.substr(53, 2);
  if (!IsLowerHex(version) || !IsLowerHex(trace) || !IsLowerHex(parent) || !IsLowerHex(flags)) {
    return false;
  }
  if (version == "ff" || AllZero(trace) || AllZero(parent)) return false;
  return text.size() == kBytes || (version != "00" && text[kBytes] == '-');
}

bool ValidErrorType(std::string_view text) {
  return !text.empty() && text.size() <= kMaxErrorTypeBytes &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_';
         });
}

bool ValidTime(const google::protobuf::Timestamp& time) {
  return time.seconds() >= 0 && time.seconds() <= kMaxSeconds && time.nanos() >= 0 &&
         time.nanos() < 1'000'000'000;
}

// One path segment deeper, as a list on the stack: text is made of it only when something is wrong.
struct Path {
  const Path* parent;
  std::string_view name;
  int index = -1;

  std::string Text() const {
    std::string text = parent == nullptr ? std::string() : parent->Text();
    text += name;
    if (index >= 0) text += Concat("[", index, "].");
    return text;
  }
};

class Validator {
 public:
  Validator(EventOrigin origin, std::vector<FieldViolation>* violations)
      : origin_(origin), violations_(violations), limit_(violations->size() + kMaxViolations) {}

  void Check(const v1::Event& event, const Path& at) {
    Known(event, at);
    CheckEventId(event.event_id(), at);
    CheckUser(event.user_id(), at);
    Id(event.thread_id(), at, "thread_id");
    Id(event.run_id(), at, "run_id");
    Name(event.agent_name(), at, "agent_name");
    if (event.has_occurred_at()) Time(event.occurred_at(), at, "occurred_at");
    if (event.has_trace_context()) CheckTrace(event.trace_context(), {&at, "trace_context."});
    CheckServiceFields(event, at);
    CheckPayload(event, at);
  }

 private:
  void Refuse(const Path& at, std::string_view field, std::string_view what) {
    if (violations_->size() >= limit_) return;
    violations_->push_back({Concat(at.Text(), field), std::string(what)});
  }

  // ---- Rules that many fields share ----

  template <class Message>
  void Known(const Message& message, const Path& at) {
    const auto& unknown = message.GetReflection()->GetUnknownFields(message);
    if (unknown.empty()) return;
    Refuse(at, Concat("#", unknown.field(0).number()),
           "is a field number that this version does not know");
  }
  void Id(std::string_view id, const Path& at, std::string_view field) {
    if (!ValidId(id)) Refuse(at, field, "must be 1 to 128 bytes of printable ASCII without space");
  }
  void Name(std::string_view name, const Path& at, std::string_view field) {
    if (name.empty() || name.size() > kMaxNameBytes) {
      Refuse(at, field, "must be 1 to 256 bytes");
    }
  }
  void Text(std::string_view text, const Path& at, std::string_view field) {
    if (text.size() > kMaxTextBytes) Refuse(at, field, "must be at most 64 KiB");
  }
  void Json(std::string_view text, const Path& at, std::string_view field) {
    if (!ValidJsonText(text)) {
      Refuse(at, field, "must be one JSON value in UTF-8, at most 64 levels deep");
    }
  }
  void Integer(uint64_t value, const Path& at, std::string_view field) {
    if (value > kMaxInteger) Refuse(at, field, "must be below 2^53");
  }
  void Amount(double value, const Path& at, std::string_view field) {
    if (!std::isfinite(value) || value < 0) Refuse(at, field, "must be finite and not negative");
  }
  void Time(const google::protobuf::Timestamp& time, const Path& at, std::string_view field) {
    if (!time.GetReflection()->GetUnknownFields(time).empty() || !ValidTime(time)) {
      Refuse(at, field, "must be a time of the years 1970 to 9999");
    }
  }
  void ErrorType(std::string_view text, const Path& at) {
    if (!ValidErrorType(text)) Refuse(at, "error_type", "must be 1 to 64 bytes of [a-z0-9_]");
  }
  template <class Names>
  void NameList(const Names& names, const Path& at, std::string_view field) {
    if (names.size() > kMaxNames) return Refuse(at, field, "must be at most 256 names");
    for (int i = 0; i < names.size(); ++i) {
      if (names.Get(i).empty() || names.Get(i).size() > kMaxNameBytes) {
        Refuse(at, Concat(field, "[", i, "]"), "must be 1 to 256 bytes");
      }
    }
  }
  void Delta(const std::string& delta, bool is_final, const Path& at) {
    if (delta.empty() && !is_final) Refuse(at, "delta", "may be empty only with is_final");
  }

  // ---- The envelope ----

  void CheckEventId(std::string_view id, const Path& at) {
    Id(id, at, "event_id");
    if (origin_ == EventOrigin::kProducer && IsReservedEventId(id)) {
      Refuse(at, "event_id", "must not begin with `_`, which is reserved");
    }
  }
  void CheckUser(std::string_view user, const Path& at) {
    Id(user, at, "user_id");
    if (origin_ == EventOrigin::kProducer && IsReservedUser(user)) {
      Refuse(at, "user_id", "is reserved");
    }
  }
  void CheckTrace(const v1::TraceContext& trace, const Path& at) {
    Known(trace, at);
    if (trace.traceparent().empty()) {
      if (!trace.tracestate().empty()) Refuse(at, "traceparent", "is required with tracestate");
      return;
    }
    if (!ValidTraceparent(trace.traceparent())) {
      Refuse(at, "traceparent", "must be a W3C traceparent");
    }
    const std::string& state = trace.tracestate();
    const bool printable = std::all_of(state.begin(), state.end(), absl::ascii_isprint);
    if (state.size() > kMaxTracestateBytes || !printable) {
      Refuse(at, "tracestate", "must be at most 512 bytes of printable ASCII");
    }
  }
  void CheckServiceFields(const v1::Event& event, const Path& at) {
    constexpr std::string_view kWhy = "is set by the service";
    if (origin_ == EventOrigin::kService) return;
    if (event.offset() != 0) Refuse(at, "offset", kWhy);
    if (event.has_accepted_at()) Refuse(at, "accepted_at", kWhy);
    if (event.first_offset() != 0) Refuse(at, "first_offset", kWhy);
  }

  // No `default`: the compiler names a payload that is not checked here.
  void CheckPayload(const v1::Event& event, const Path& at) {
    switch (event.payload_case()) {
      case v1::Event::kAgentStarted:
        return Payload(event.agent_started(), at);
      case v1::Event::kAgentThinking:
        return Payload(event.agent_thinking(), at);
      case v1::Event::kAgentMessageDelta:
        return Payload(event.agent_message_delta(), at);
      case v1::Event::kToolExecuting:
        return Payload(event.tool_executing(), at);
      case v1::Event::kToolProgress:
        return Payload(event.tool_progress(), at);
      case v1::Event::kToolCompleted:
        return Payload(event.tool_completed(), at);
      case v1::Event::kStepStarted:
        return Payload(event.step_started(), at);
      case v1::Event::kStepCompleted:
        return Payload(event.step_completed(), at);
      case v1::Event::kAgentCompleted:
        return Payload(event.agent_completed(), at);
      case v1::Event::kAgentError:
        return Payload(event.agent_error(), at);
      case v1::Event::kCircuitBreakerTriggered:
        return Payload(event.circuit_breaker_triggered(), at);
      case v1::Event::kPartialResultPreserved:
        return Payload(event.partial_result_preserved(), at);
      case v1::Event::kGracefulDegradation:
        return Payload(event.graceful_degradation(), at);
      case v1::Event::kRecoveryAttempt:
        return Payload(event.recovery_attempt(), at);
      case v1::Event::kResourceCleanup:
        return Payload(event.resource_cleanup(), at);
      case v1::Event::kSystemRecovered:
        return Payload(event.system_recovered(), at);
      case v1::Event::kCustom:
        return Payload(event.custom(), at);
      case v1::Event::PAYLOAD_NOT_SET:
        return Refuse(at, "payload", "is required");
    }
  }

  template <class Message>
  void Payload(const Message& payload, const Path& event) {
    const Path at{&event, PathOf<Message>()};
    Known(payload, at);
    Fields(payload, at);
  }
  // `agent_error.`, made once for each payload.
  template <class Message>
  static std::string_view PathOf() {
    static const std::string path = [] {
      const auto* fields = v1::Event::descriptor();
      for (int i = 0; i < fields->field_count(); ++i) {
        if (fields->field(i)->message_type() == Message::descriptor()) {
          return fields->field(i)->name() + ".";
        }
      }
      return std::string();
    }();
    return path;
  }

  // ---- Payloads ----

  void Fields(const v1::AgentStarted& p, const Path& at) {
    if (p.has_input()) Json(p.input(), at, "input");
    if (p.has_parent_run_id()) Id(p.parent_run_id(), at, "parent_run_id");
    if (p.has_parent_tool_call_id()) Id(p.parent_tool_call_id(), at, "parent_tool_call_id");
    if (p.has_retry_of_run_id()) Id(p.retry_of_run_id(), at, "retry_of_run_id");
  }
  void Fields(const v1::AgentThinking& p, const Path& at) {
    Id(p.message_id(), at, "message_id");
    Delta(p.delta(), p.is_final(), at);
  }
  void Fields(const v1::AgentMessageDelta& p, const Path& at) {
    Id(p.message_id(), at, "message_id");
    Name(p.role(), at, "role");
    Delta(p.delta(), p.is_final(), at);
  }
  void Fields(const v1::ToolExecuting& p, const Path& at) {
    Id(p.tool_call_id(), at, "tool_call_id");
    Name(p.tool_name(), at, "tool_name");
    Json(p.arguments(), at, "arguments");
    if (p.has_parent_message_id()) Id(p.parent_message_id(), at, "parent_message_id");
  }
  void Fields(const v1::ToolProgress& p, const Path& at) {
    Id(p.tool_call_id(), at, "tool_call_id");
    Amount(p.progress(), at, "progress");
    if (p.has_total()) Amount(p.total(), at, "total");
    Text(p.message(), at, "message");
  }
  void Fields(const v1::ToolCompleted& p, const Path& at) {
    Id(p.tool_call_id(), at, "tool_call_id");
    Name(p.tool_name(), at, "tool_name");
    if (!v1::ToolStatus_IsValid(p.status()) || p.status() == v1::TOOL_STATUS_UNSPECIFIED) {
      Refuse(at, "status", "must be one of the values that this version knows");
    }
    if (p.has_result()) Json(p.result(), at, "result");
    if (p.has_error_type()) ErrorType(p.error_type(), at);
    Text(p.message(), at, "message");
    Integer(p.duration_ms(), at, "duration_ms");
  }
  void Fields(const v1::StepStarted& p, const Path& at) { Name(p.step_name(), at, "step_name"); }
  void Fields(const v1::StepCompleted& p, const Path& at) { Name(p.step_name(), at, "step_name"); }
  void Fields(const v1::AgentCompleted& p, const Path& at) {
    if (!v1::RunOutcome_IsValid(p.outcome()) || p.outcome() == v1::RUN_OUTCOME_UNSPECIFIED) {
      Refuse(at, "outcome", "must be one of the values that this version knows");
    }
    if (p.has_result()) Json(p.result(), at, "result");
    if (p.usage_size() > kMaxUsages) return Refuse(at, "usage", "must be at most 64 entries");
    for (int i = 0; i < p.usage_size(); ++i) Element(p.usage(i), {&at, "usage", i});
    if (p.interrupts_size() > kMaxInterrupts) {
      return Refuse(at, "interrupts", "must be at most 64 entries");
    }
    if (p.interrupts_size() > 0 && p.outcome() != v1::RUN_OUTCOME_INTERRUPTED) {
      Refuse(at, "interrupts", "may be there only with outcome interrupted");
    }
    for (int i = 0; i < p.interrupts_size(); ++i) Element(p.interrupts(i), {&at, "interrupts", i});
  }
  void Element(const v1::Usage& usage, const Path& at) {
    Known(usage, at);
    Name(usage.provider(), at, "provider");
    Name(usage.model(), at, "model");
    Integer(usage.input_tokens(), at, "input_tokens");
    Integer(usage.output_tokens(), at, "output_tokens");
  }
  void Element(const v1::Interrupt& interrupt, const Path& at) {
    Known(interrupt, at);
    Id(interrupt.id(), at, "id");
    Name(interrupt.reason(), at, "reason");
    Text(interrupt.message(), at, "message");
    if (interrupt.has_tool_call_id()) Id(interrupt.tool_call_id(), at, "tool_call_id");
    if (interrupt.has_response_schema()) Json(interrupt.response_schema(), at, "response_schema");
    if (interrupt.has_expires_at()) Time(interrupt.expires_at(), at, "expires_at");
  }

  template <class Message>
  void Failure(const Message& payload, const Path& parent) {
    if (!payload.has_failure()) return Refuse(parent, "failure", "is required");
    const v1::FailureInfo& failure = payload.failure();
    const Path at{&parent, "failure."};
    Known(failure, at);
    Text(failure.message(), at, "message");
    Text(failure.suggested_action(), at, "suggested_action");
    if (failure.user_message().empty()) Refuse(at, "user_message", "is required");
    Text(failure.user_message(), at, "user_message");
    if (failure.has_estimated_recovery_time()) {
      Amount(failure.estimated_recovery_time(), at, "estimated_recovery_time");
    }
  }
  void Fields(const v1::AgentError& p, const Path& at) {
    Failure(p, at);
    ErrorType(p.error_type(), at);
    if (p.synthetic() && origin_ == EventOrigin::kProducer) {
      Refuse(at, "synthetic", "is for the service to say");
    }
  }
  void Fields(const v1::CircuitBreakerTriggered& p, const Path& at) {
    Failure(p, at);
    Integer(p.failures(), at, "failures");
    Amount(p.window_seconds(), at, "window_seconds");
    Amount(p.retry_after_seconds(), at, "retry_after_seconds");
  }
  void Fields(const v1::PartialResultPreserved& p, const Path& at) {
    Failure(p, at);
    Json(p.result(), at, "result");
    Integer(p.from_offset(), at, "from_offset");
    Integer(p.to_offset(), at, "to_offset");
    if (p.to_offset() < p.from_offset()) Refuse(at, "to_offset", "must not be before from_offset");
  }
  void Fields(const v1::GracefulDegradation& p, const Path& at) {
    Failure(p, at);
    Name(p.capability(), at, "capability");
    Name(p.level(), at, "level");
  }
  void Fields(const v1::RecoveryAttempt& p, const Path& at) {
    Failure(p, at);
    if (p.attempt() == 0) Refuse(at, "attempt", "must be at least 1");
    Integer(p.attempt(), at, "attempt");
    Integer(p.max_attempts(), at, "max_attempts");
    Integer(p.delay_ms(), at, "delay_ms");
    ErrorType(p.error_type(), at);
  }
  void Fields(const v1::ResourceCleanup& p, const Path& at) {
    Failure(p, at);
    NameList(p.resources(), at, "resources");
    Name(p.status(), at, "status");
  }
  void Fields(const v1::SystemRecovered& p, const Path& at) {
    Failure(p, at);
    NameList(p.recovered(), at, "recovered");
    Amount(p.downtime_seconds(), at, "downtime_seconds");
  }
  void Fields(const v1::Custom& p, const Path& at) {
    Name(p.name(), at, "name");
    Json(p.value(), at, "value");
  }

  const EventOrigin origin_;
  std::vector<FieldViolation>* const violations_;
  const size_t limit_;
};

}  // namespace

void ValidateEvent(const v1::Event& event, std::string_view prefix,
                   std::vector<FieldViolation>* violations, EventOrigin origin) {
  Validator(origin, violations).Check(event, Path{nullptr, prefix});
}

bool ValidJsonText(std::string_view text) {
  return ValidJsonText(text, kMaxJsonDepth);
}

}  // namespace clarion
