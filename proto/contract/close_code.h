// Why a WebSocket was closed: 4000 + the HTTP status that says the same.
//
// Each row says whether the client comes back; the `error` frame before the close says it too.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "proto/contract/reason.h"

namespace clarion {

enum class CloseCode : uint16_t {
  kNormal = 1000,           // the client left
  kGoingAway = 1001,        // the gateway stops
  kBadRequest = 4400,       // a frame that breaks the protocol
  kUnauthenticated = 4401,  // no token, or one that does not count
  kForbidden = 4403,        // the origin or the user may not
  kTimeout = 4408,          // no `connect` in time, or no `pong`
  kTooLarge = 4413,         // a message over --max-message-bytes
  kRateLimited = 4429,      // too many connections or frames
  kInternal = 4500,         // our fault
  kUnavailable = 4503,      // the service cannot be reached
  kSlowConsumer = 4507,     // 507 Insufficient Storage: the connection's queue is full
};

enum class Reconnect { kNo, kAfterNewToken, kAtOnce, kAfterDelay };

struct CloseRow {
  CloseCode code;
  std::string_view name;
  Reason reason;
  Reconnect reconnect;
  // Least delay in milliseconds before the client comes back, where it does.
  uint32_t retry_after_ms;
  // What a browser may show to its user: says that it reconnects only where it does.
  std::string_view user_message;
};

inline constexpr std::array kCloseRows = {
    CloseRow{CloseCode::kNormal, "normal", Reason::kNotFound, Reconnect::kNo, 0,
             "The connection was closed."},
    CloseRow{CloseCode::kGoingAway, "going_away", Reason::kGatewayUnavailable,
             Reconnect::kAfterDelay, 100, "The service is restarting. Reconnecting."},
    CloseRow{CloseCode::kBadRequest, "bad_request", Reason::kContextInvalid, Reconnect::kNo, 0,
             "This page sent what the service does not understand. Please reload it."},
    CloseRow{CloseCode::kUnauthenticated, "unauthenticated", Reason::kUnauthenticated,
             Reconnect::kAfterNewToken, 0, "Please sign in again."},
    CloseRow{CloseCode::kForbidden, "forbidden", Reason::kPermissionDenied, Reconnect::kNo, 0,
             "You are not allowed to do this."},
    CloseRow{CloseCode::kTimeout, "timeout", Reason::kGatewayUnavailable, Reconnect::kAtOnce, 0,
             "The connection was silent for too long. Reconnecting."},
    CloseRow{CloseCode::kTooLarge, "too_large", Reason::kBufferOverflow, Reconnect::kNo, 0,
             "This page sent more at once than the service takes. Please reload it."},
    CloseRow{CloseCode::kRateLimited, "rate_limited", Reason::kRateLimited, Reconnect::kAfterDelay,
             5000, "Too many requests. Reconnecting in a moment."},
    CloseRow{CloseCode::kInternal, "internal", Reason::kGatewayUnavailable, Reconnect::kAfterDelay,
             1000, "Something went wrong. Reconnecting."},
    CloseRow{CloseCode::kUnavailable, "unavailable", Reason::kGatewayUnavailable,
             Reconnect::kAfterDelay, 1000,
             "Live updates are unavailable at the moment. Reconnecting."},
    CloseRow{CloseCode::kSlowConsumer, "slow_consumer", Reason::kBufferOverflow, Reconnect::kAtOnce,
             0, "Too much at once. Reconnecting."},
};

const CloseRow& RowOf(CloseCode code);

}  // namespace clarion
