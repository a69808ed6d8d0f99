#include "service/front/wiring_canaries.h"

#include "proto/base/text.h"
#include "proto/contract/event_type.h"

namespace clarion::front {
namespace {

constexpr std::string_view kText = "canary";

v1::FailureInfo Failure() {
  v1::FailureInfo failure;
  failure.set_message(std::string(kText));
  failure.set_user_message(std::string(kText));
  failure.set_suggested_action(std::string(kText));
  failure.set_is_recoverable(true);
  failure.set_retry_possible(true);
  failure.set_estimated_recovery_time(1);
  return failure;
}

void FillConversation(v1::Event* event, v1::Event::PayloadCase payload) {
  const std::string text(kText);
  switch (payload) {
    case v1::Event::kAgentStarted:
      event->mutable_agent_started()->set_input("{}");
      break;
    case v1::Event::kAgentThinking:
      event->mutable_agent_thinking()->set_message_id(text);
      event->mutable_agent_thinking()->set_delta(text);
      break;
    case v1::Event::kAgentMessageDelta:
      event->mutable_agent_message_delta()->set_message_id(text);
      event->mutable_agent_message_delta()->set_role("assistant");
      event->mutable_agent_message_delta()->set_delta(text);
      break;
    case v1::Event::kToolExecuting:
      event->mutable_tool_executing()->set_tool_call_id(text);
      event->mutable_tool_executing()->set_tool_name(text);
      event->mutable_tool_executing()->set_arguments("{}");
      break;
    case v1::Event::kToolProgress:
      event->mutable_tool_progress()->set_tool_call_id(text);
      event->mutable_tool_progress()->set_progress(1);
      break;
    case v1::Event::kToolCompleted:
      event->mutable_tool_completed()->set_tool_call_id(text);
      event->mutable_tool_completed()->set_tool_name(text);
      event->mutable_tool_completed()->set_status(v1::TOOL_STATUS_SUCCEEDED);
      break;
    case v1::Event::kStepStarted:
      event->mutable_step_started()->set_step_name(text);
      break;
    case v1::Event::kStepCompleted:
      event->mutable_step_completed()->set_step_name(text);
      break;
    case v1::Event::kAgentCompleted:
      event->mutable_agent_completed()->set_outcome(v1::RUN_OUTCOME_SUCCESS);
      break;
    case v1::Event::kCustom:
      event->mutable_custom()->set_name(text);
      event->mutable_custom()->set_value("null");
      break;
    default:
      break;
  }
}

void FillFailure(v1::Event* event, v1::Event::PayloadCase payload) {
  const std::string text(kText);
  switch (payload) {
    case v1::Event::kAgentError:
      *event->mutable_agent_error()->mutable_failure() = Failure();
      event->mutable_agent_error()->set_error_type("internal");
      break;
    case v1::Event::kCircuitBreakerTriggered:
      *event->mutable_circuit_breaker_triggered()->mutable_failure() = Failure();
      event->mutable_circuit_breaker_triggered()->set_failures(1);
      break;
    case v1::Event::kPartialResultPreserved:
      *event->mutable_partial_result_preserved()->mutable_failure() = Failure();
      event->mutable_partial_result_preserved()->set_result("{}");
      event->mutable_partial_result_preserved()->set_from_offset(1);
      event->mutable_partial_result_preserved()->set_to_offset(1);
      break;
    case v1::Event::kGracefulDegradation:
      *event->mutable_graceful_degradation()->mutable_failure() = Failure();
      event->mutable_graceful_degradation()->set_capability(text);
      event->mutable_graceful_degradation()->set_level("reduced");
      break;
    case v1::Event::kRecoveryAttempt:
      *event->mutable_recovery_attempt()->mutable_failure() = Failure();
      event->mutable_recovery_attempt()->set_attempt(1);
      event->mutable_recovery_attempt()->set_max_attempts(1);
      event->mutable_recovery_attempt()->set_error_type("internal");
      break;
    case v1::Event::kResourceCleanup:
      *event->mutable_resource_cleanup()->mutable_failure() = Failure();
      event->mutable_resource_cleanup()->add_resources(text);
      event->mutable_resource_cleanup()->set_status("complete");
      break;
    case v1::Event::kSystemRecovered:
      *event->mutable_system_recovered()->mutable_failure() = Failure();
      event->mutable_system_recovered()->add_recovered(text);
      event->mutable_system_recovered()->set_downtime_seconds(1);
      break;
    default:
      break;
  }
}

}  // namespace

std::vector<v1::Event> MakeCanaries(const ThreadId& thread) {
  std::vector<v1::Event> canaries;
  for (const EventTypeRow& type : kEventTypes) {
    v1::Event& event = canaries.emplace_back();
    event.set_event_id(Concat("_canary.", type.name));
    event.set_user_id(std::string(kCanaryUser));
    event.set_thread_id(thread.str());
    event.set_run_id(std::string(kText));
    event.set_agent_name(std::string(kText));
    FillConversation(&event, type.payload);
    FillFailure(&event, type.payload);
  }
  return canaries;
}

}  // namespace clarion::front
