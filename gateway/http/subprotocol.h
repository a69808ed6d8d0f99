// The names of the WebSocket subprotocols, and which one a request gets.
#pragma once

#include <optional>
#include <string_view>

#include "gateway/frames.h"

namespace clarion::gateway {

constexpr std::string_view SubprotocolOf(Encoding encoding) {
  return encoding == Encoding::kJson ? "clarion.v1.json" : "clarion.v1.proto";
}

// The first of `offered` (Sec-WebSocket-Protocol) that is served; JSON if nothing is offered;
// nothing if only others are.
std::optional<Encoding> NegotiateSubprotocol(std::string_view offered);

}  // namespace clarion::gateway
