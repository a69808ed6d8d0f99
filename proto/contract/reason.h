// The reasons for which Clarion refuses or fails: one table for gRPC and browsers.
//
// The gRPC code says what the caller does next; the reason is for machines; the text is for
// people. `kReasons` holds a row for each; README.md ("Errors") has the same rows for people.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "absl/status/status.h"

namespace clarion {

enum class Reason {
  kContextInvalid,
  kNotInitialized,
  kGatewayUnavailable,
  kSendFailed,
  kBufferOverflow,
  kAgentCommunicationFailed,
  kEventDropped,
  kThreadOwnership,
  kNotFound,
  kPermissionDenied,
  kUnauthenticated,
  kRunProtocol,
  kRunFenced,
  kCircuitOpen,
  kNotReady,
  kLogUnavailable,
  kEpochChanged,
  kAckInvalid,
  kRateLimited,
  kGatewayDisplaced,
};

enum class Retry {
  kNever,     // the same request fails again
  kLater,     // the same request may succeed after a while
  kAdjusted,  // after the caller changed what the error names
};

struct ReasonRow {
  Reason reason;
  std::string_view name;
  absl::StatusCode code;
  Retry retry;
  // What a browser may show to its user. Whether the connection lasts is not the reason's to say:
  // see CloseRow.
  std::string_view user_message;
};

inline constexpr std::array kReasons = {
    ReasonRow{Reason::kContextInvalid, "CONTEXT_INVALID", absl::StatusCode::kInvalidArgument,
              Retry::kAdjusted, "This request could not be understood."},
    ReasonRow{Reason::kNotInitialized, "NOT_INITIALIZED", absl::StatusCode::kUnavailable,
              Retry::kLater, "The service is starting. Please wait a moment."},
    ReasonRow{Reason::kGatewayUnavailable, "GATEWAY_UNAVAILABLE", absl::StatusCode::kUnavailable,
              Retry::kLater, "Live updates are unavailable at the moment."},
    ReasonRow{Reason::kSendFailed, "SEND_FAILED", absl::StatusCode::kFailedPrecondition,
              Retry::kNever, "An update could not be shown yet."},
    ReasonRow{Reason::kBufferOverflow, "BUFFER_OVERFLOW", absl::StatusCode::kResourceExhausted,
              Retry::kLater, "Too much at once."},
    ReasonRow{Reason::kAgentCommunicationFailed, "AGENT_COMMUNICATION_FAILED",
              absl::StatusCode::kAborted, Retry::kLater, "One assistant could not reach another."},
    ReasonRow{Reason::kEventDropped, "EVENT_DROPPED", absl::StatusCode::kDataLoss, Retry::kNever,
              "Some earlier updates are no longer available."},
    ReasonRow{Reason::kThreadOwnership, "THREAD_OWNERSHIP", absl::StatusCode::kPermissionDenied,
              Retry::kNever, "This conversation is not available to you."},
    ReasonRow{Reason::kNotFound, "NOT_FOUND", absl::StatusCode::kNotFound, Retry::kNever,
              "This was not found."},
    ReasonRow{Reason::kPermissionDenied, "PERMISSION_DENIED", absl::StatusCode::kPermissionDenied,
              Retry::kNever, "You are not allowed to do this."},
    ReasonRow{Reason::kUnauthenticated, "UNAUTHENTICATED", absl::StatusCode::kUnauthenticated,
              Retry::kAdjusted, "Please sign in again."},
    ReasonRow{Reason::kRunProtocol, "RUN_PROTOCOL", absl::StatusCode::kFailedPrecondition,
              Retry::kNever, "The assistant reported something out of order."},
    ReasonRow{Reason::kRunFenced, "RUN_FENCED", absl::StatusCode::kFailedPrecondition,
              Retry::kNever, "Another process took over this answer."},
    ReasonRow{Reason::kCircuitOpen, "CIRCUIT_OPEN", absl::StatusCode::kUnavailable, Retry::kLater,
              "The assistant is paused after repeated failures."},
    ReasonRow{Reason::kNotReady, "NOT_READY", absl::StatusCode::kFailedPrecondition, Retry::kLater,
              "Nobody is connected to this conversation."},
    ReasonRow{Reason::kLogUnavailable, "LOG_UNAVAILABLE", absl::StatusCode::kUnavailable,
              Retry::kLater, "The service cannot store updates at the moment."},
    ReasonRow{Reason::kEpochChanged, "EPOCH_CHANGED", absl::StatusCode::kFailedPrecondition,
              Retry::kAdjusted, "The conversation was restored to an earlier state."},
    ReasonRow{Reason::kAckInvalid, "ACK_INVALID", absl::StatusCode::kInvalidArgument, Retry::kNever,
              "This request could not be understood."},
    ReasonRow{Reason::kRateLimited, "RATE_LIMITED", absl::StatusCode::kResourceExhausted,
              Retry::kLater, "Too many requests. Please wait a moment."},
    ReasonRow{Reason::kGatewayDisplaced, "GATEWAY_DISPLACED", absl::StatusCode::kAlreadyExists,
              Retry::kAdjusted, "Live updates are unavailable at the moment."},
};

// The row at index i is the row of Reason(i).
constexpr const ReasonRow& RowOf(Reason reason) {
  return kReasons[static_cast<size_t>(reason)];
}
constexpr std::string_view NameOf(Reason reason) {
  return RowOf(reason).name;
}
std::optional<Reason> ReasonFromName(std::string_view name);

}  // namespace clarion
