// The table of event types: name on the wire, number in the proto, and what the service must know
// of each without looking inside.
#pragma once

#include <array>
#include <string_view>

#include "clarion/v1/event.pb.h"

namespace clarion {

struct EventTypeRow {
  v1::Event::PayloadCase payload;
  std::string_view name;
  // On stable storage before the producer gets its answer, and kept longer.
  bool critical;
  // Ends its run.
  bool terminal;
};

inline constexpr std::array kEventTypes = {
    EventTypeRow{v1::Event::kAgentStarted, "agent_started", false, false},
    EventTypeRow{v1::Event::kAgentThinking, "agent_thinking", false, false},
    EventTypeRow{v1::Event::kAgentMessageDelta, "agent_message_delta", false, false},
    EventTypeRow{v1::Event::kToolExecuting, "tool_executing", false, false},
    EventTypeRow{v1::Event::kToolProgress, "tool_progress", false, false},
    EventTypeRow{v1::Event::kToolCompleted, "tool_completed", false, false},
    EventTypeRow{v1::Event::kStepStarted, "step_started", false, false},
    EventTypeRow{v1::Event::kStepCompleted, "step_completed", false, false},
    EventTypeRow{v1::Event::kAgentCompleted, "agent_completed", true, true},
    EventTypeRow{v1::Event::kAgentError, "agent_error", true, true},
    EventTypeRow{v1::Event::kCircuitBreakerTriggered, "circuit_breaker_triggered", true, false},
    EventTypeRow{v1::Event::kPartialResultPreserved, "partial_result_preserved", true, false},
    EventTypeRow{v1::Event::kGracefulDegradation, "graceful_degradation", true, false},
    EventTypeRow{v1::Event::kRecoveryAttempt, "recovery_attempt", true, false},
    EventTypeRow{v1::Event::kResourceCleanup, "resource_cleanup", true, false},
    EventTypeRow{v1::Event::kSystemRecovered, "system_recovered", true, false},
    EventTypeRow{v1::Event::kCustom, "custom", false, false},
};

// Null for a payload that this version does not know.
const EventTypeRow* TypeOf(v1::Event::PayloadCase payload);
const EventTypeRow* TypeNamed(std::string_view name);

}  // namespace clarion
