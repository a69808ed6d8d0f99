// The hot path of every event: appends only, no tree, no reflection.
#include <array>
#include <cstddef>
#include <string_view>

#include "proto/contract/event_json.h"
#include "proto/contract/event_type.h"
#include "proto/contract/json_text.h"

namespace clarion {
namespace {

// Keys are given as they are appended: `,"name":`.
void Text(std::string_view key, std::string_view text, std::string* out) {
  out->append(key);
  AppendJsonString(text, out);
}
void Raw(std::string_view key, std::string_view json, std::string* out) {
  out->append(key).append(json);
}
void Bool(std::string_view key, bool value, std::string* out) {
  out->append(key).append(value ? "true" : "false");
}
void Number(std::string_view key, uint64_t value, std::string* out) {
  out->append(key);
  AppendJsonNumber(value, out);
}
void Number(std::string_view key, double value, std::string* out) {
  out->append(key);
  AppendJsonNumber(value, out);
}
void Time(std::string_view key, const google::protobuf::Timestamp& time, std::string* out) {
  out->append(key);
  AppendJsonTime(time, out);
}
template <size_t n>
void Enum(std::string_view key, const std::array<std::string_view, n>& names, int value,
          std::string* out) {
  const size_t index = static_cast<size_t>(value);
  Text(key, index < n ? names[index] : names[0], out);
}
template <class Strings>
void Texts(std::string_view key, const Strings& texts, std::string* out) {
  out->append(key).push_back('[');
  for (int i = 0; i < texts.size(); ++i) {
    if (i > 0) out->push_back(',');
    AppendJsonString(texts.Get(i), out);
  }
  out->push_back(']');
}

constexpr std::array<std::string_view, 5> kToolStatus = {"unspecified", "succeeded", "failed",
                                                         "cancelled", "abandoned"};
static_assert(kToolStatus.size() == v1::ToolStatus_ARRAYSIZE);
constexpr std::array<std::string_view, 5> kRunOutcome = {"unspecified", "success", "interrupted",
                                                         "cancelled", "incomplete"};
static_assert(kRunOutcome.size() == v1::RunOutcome_ARRAYSIZE);

void Fields(const v1::AgentStarted& p, std::string* out) {
  if (p.has_input()) Raw(R"(,"input":)", p.input(), out);
  if (p.has_parent_run_id()) Text(R"(,"parent_run_id":)", p.parent_run_id(), out);
  if (p.has_parent_tool_call_id()) {
    Text(R"(,"parent_tool_call_id":)", p.parent_tool_call_id(), out);
  }
  if (p.has_retry_of_run_id()) Text(R"(,"retry_of_run_id":)", p.retry_of_run_id(), out);
}

void Fields(const v1::AgentThinking& p, std::string* out) {
  Text(R"(,"message_id":)", p.message_id(), out);
  Text(R"(,"delta":)", p.delta(), out);
  Bool(R"(,"is_final":)", p.is_final(), out);
}

void Fields(const v1::AgentMessageDelta& p, std::string* out) {
  Text(R"(,"message_id":)", p.message_id(), out);
  Text(R"(,"role":)", p.role(), out);
  Text(R"(,"delta":)", p.delta(), out);
  Bool(R"(,"is_final":)", p.is_final(), out);
}

void Fields(const v1::ToolExecuting& p, std::string* out) {
  Text(R"(,"tool_call_id":)", p.tool_call_id(), out);
  Text(R"(,"tool_name":)", p.tool_name(), out);
  Raw(R"(,"arguments":)", p.arguments(), out);
  if (p.has_parent_message_id()) Text(R"(,"parent_message_id":)", p.parent_message_id(), out);
}

void Fields(const v1::ToolProgress& p, std::string* out) {
  Text(R"(,"tool_call_id":)", p.tool_call_id(), out);
  Number(R"(,"progress":)", p.progress(), out);
  if (p.has_total()) Number(R"(,"total":)", p.total(), out);
  if (p.has_message()) Text(R"(,"message":)", p.message(), out);
}

void Fields(const v1::ToolCompleted& p, std::string* out) {
  Text(R"(,"tool_call_id":)", p.tool_call_id(), out);
  Text(R"(,"tool_name":)", p.tool_name(), out);
  Enum(R"(,"status":)", kToolStatus, p.status(), out);
  if (p.has_result()) Raw(R"(,"result":)", p.result(), out);
  if (p.has_error_type()) Text(R"(,"error_type":)", p.error_type(), out);
  if (p.has_message()) Text(R"(,"message":)", p.message(), out);
  Number(R"(,"duration_ms":)", p.duration_ms(), out);
}

void Fields(const v1::StepStarted& p, std::string* out) {
  Text(R"(,"step_name":)", p.step_name(), out);
}

void Fields(const v1::StepCompleted& p, std::string* out) {
  Text(R"(,"step_name":)", p.step_name(), out);
}

void Element(const v1::Usage& usage, std::string* out) {
  Text(R"({"provider":)", usage.provider(), out);
  Text(R"(,"model":)", usage.model(), out);
  Number(R"(,"input_tokens":)", usage.input_tokens(), out);
  Number(R"(,"output_tokens":)", usage.output_tokens(), out);
  out->push_back('}');
}

void Element(const v1::Interrupt& interrupt, std::string* out) {
  Text(R"({"id":)", interrupt.id(), out);
  Text(R"(,"reason":)", interrupt.reason(), out);
  Text(R"(,"message":)", interrupt.message(), out);
  if (interrupt.has_tool_call_id()) Text(R"(,"tool_call_id":)", interrupt.tool_call_id(), out);
  if (interrupt.has_response_schema()) {
    Raw(R"(,"response_schema":)", interrupt.response_schema(), out);
  }
  if (interrupt.has_expires_at()) Time(R"(,"expires_at":)", interrupt.expires_at(), out);
  out->push_back('}');
}

template <class Messages>
void Elements(std::string_view key, const Messages& messages, std::string* out) {
  out->append(key).push_back('[');
  for (int i = 0; i < messages.size(); ++i) {
    if (i > 0) out->push_back(',');
    Element(messages.Get(i), out);
  }
  out->push_back(']');
}

void Fields(const v1::AgentCompleted& p, std::string* out) {
  Enum(R"(,"outcome":)", kRunOutcome, p.outcome(), out);
  if (p.has_result()) Raw(R"(,"result":)", p.result(), out);
  Elements(R"(,"usage":)", p.usage(), out);
  if (!p.interrupts().empty()) Elements(R"(,"interrupts":)", p.interrupts(), out);
}

void Fields(const v1::FailureInfo& failure, std::string* out) {
  Text(R"(,"message":)", failure.message(), out);
  Text(R"(,"user_message":)", failure.user_message(), out);
  Text(R"(,"suggested_action":)", failure.suggested_action(), out);
  Bool(R"(,"is_recoverable":)", failure.is_recoverable(), out);
  Bool(R"(,"retry_possible":)", failure.retry_possible(), out);
  if (failure.has_estimated_recovery_time()) {
    Number(R"(,"estimated_recovery_time":)", failure.estimated_recovery_time(), out);
  } else {
    out->append(R"(,"estimated_recovery_time":null)");
  }
}

void Fields(const v1::AgentError& p, std::string* out) {
  Fields(p.failure(), out);
  Text(R"(,"error_type":)", p.error_type(), out);
  Bool(R"(,"synthetic":)", p.synthetic(), out);
}

void Fields(const v1::CircuitBreakerTriggered& p, std::string* out) {
  Fields(p.failure(), out);
  Number(R"(,"failures":)", p.failures(), out);
  Number(R"(,"window_seconds":)", p.window_seconds(), out);
  Number(R"(,"retry_after_seconds":)", p.retry_after_seconds(), out);
}

void Fields(const v1::PartialResultPreserved& p, std::string* out) {
  Fields(p.failure(), out);
  Raw(R"(,"result":)", p.result(), out);
  Number(R"(,"from_offset":)", p.from_offset(), out);
  Number(R"(,"to_offset":)", p.to_offset(), out);
}

void Fields(const v1::GracefulDegradation& p, std::string* out) {
  Fields(p.failure(), out);
  Text(R"(,"capability":)", p.capability(), out);
  Text(R"(,"level":)", p.level(), out);
}

void Fields(const v1::RecoveryAttempt& p, std::string* out) {
  Fields(p.failure(), out);
  Number(R"(,"attempt":)", p.attempt(), out);
  Number(R"(,"max_attempts":)", p.max_attempts(), out);
  Number(R"(,"delay_ms":)", p.delay_ms(), out);
  Text(R"(,"error_type":)", p.error_type(), out);
}

void Fields(const v1::ResourceCleanup& p, std::string* out) {
  Fields(p.failure(), out);
  Texts(R"(,"resources":)", p.resources(), out);
  Text(R"(,"status":)", p.status(), out);
}

void Fields(const v1::SystemRecovered& p, std::string* out) {
  Fields(p.failure(), out);
  Texts(R"(,"recovered":)", p.recovered(), out);
  Number(R"(,"downtime_seconds":)", p.downtime_seconds(), out);
}

void Fields(const v1::Custom& p, std::string* out) {
  Text(R"(,"name":)", p.name(), out);
  Raw(R"(,"value":)", p.value(), out);
}

void Envelope(const v1::Event& event, std::string_view type, std::string* out) {
  Text(R"("type":)", type, out);
  Text(R"(,"event_id":)", event.event_id(), out);
  Text(R"(,"thread_id":)", event.thread_id(), out);
  Text(R"(,"run_id":)", event.run_id(), out);
  Text(R"(,"user_id":)", event.user_id(), out);
  Text(R"(,"agent_name":)", event.agent_name(), out);
  if (event.has_occurred_at()) Time(R"(,"timestamp":)", event.occurred_at(), out);
  if (event.has_accepted_at()) Time(R"(,"accepted_at":)", event.accepted_at(), out);
  if (!event.has_trace_context()) return;
  const v1::TraceContext& trace = event.trace_context();
  if (!trace.traceparent().empty()) Text(R"(,"traceparent":)", trace.traceparent(), out);
  if (!trace.tracestate().empty()) Text(R"(,"tracestate":)", trace.tracestate(), out);
}

// No `default`: the compiler names a payload that is not written here.
void Payload(const v1::Event& event, std::string* out) {
  switch (event.payload_case()) {
    case v1::Event::kAgentStarted:
      return Fields(event.agent_started(), out);
    case v1::Event::kAgentThinking:
      return Fields(event.agent_thinking(), out);
    case v1::Event::kAgentMessageDelta:
      return Fields(event.agent_message_delta(), out);
    case v1::Event::kToolExecuting:
      return Fields(event.tool_executing(), out);
    case v1::Event::kToolProgress:
      return Fields(event.tool_progress(), out);
    case v1::Event::kToolCompleted:
      return Fields(event.tool_completed(), out);
    case v1::Event::kStepStarted:
      return Fields(event.step_started(), out);
    case v1::Event::kStepCompleted:
      return Fields(event.step_completed(), out);
    case v1::Event::kAgentCompleted:
      return Fields(event.agent_completed(), out);
    case v1::Event::kAgentError:
      return Fields(event.agent_error(), out);
    case v1::Event::kCircuitBreakerTriggered:
      return Fields(event.circuit_breaker_triggered(), out);
    case v1::Event::kPartialResultPreserved:
      return Fields(event.partial_result_preserved(), out);
    case v1::Event::kGracefulDegradation:
      return Fields(event.graceful_degradation(), out);
    case v1::Event::kRecoveryAttempt:
      return Fields(event.recovery_attempt(), out);
    case v1::Event::kResourceCleanup:
      return Fields(event.resource_cleanup(), out);
    case v1::Event::kSystemRecovered:
      return Fields(event.system_recovered(), out);
    case v1::Event::kCustom:
      return Fields(event.custom(), out);
    case v1::Event::PAYLOAD_NOT_SET:
      return;
  }
}

}  // namespace

bool AppendEventJson(const v1::Event& event, std::string* out) {
  const EventTypeRow* type = TypeOf(event.payload_case());
  if (type == nullptr) return false;
  // Keys and punctuation take 150 to 350 bytes beyond what the proto needs.
  out->reserve(out->size() + event.ByteSizeLong() + 352);
  Envelope(event, type->name, out);
  Payload(event, out);
  out->push_back('}');
  return true;
}

std::string EventToJson(const v1::Event& event) {
  std::string json = R"({"offset":)";
  AppendJsonNumber(event.offset(), &json);
  if (event.first_offset() != 0) Number(R"(,"first_offset":)", event.first_offset(), &json);
  json.push_back(',');
  if (!AppendEventJson(event, &json)) return {};
  return json;
}

}  // namespace clarion
