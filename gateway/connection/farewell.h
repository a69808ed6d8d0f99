// What a connection says before it is closed by us: the `error` frame, then, on a WebSocket, the
// close frame; on an event stream how long to wait before coming back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/frames.h"
#include "proto/contract/close_code.h"

namespace clarion::gateway {

// One of stream.proto's `error` frames. `thread_id` and `request_id` may be empty.
v1::ServerFrame ErrorFrame(Reason reason, std::string_view message, std::string_view thread_id,
                           std::string_view request_id);

// `error` by the row, then the row's close frame, whose reason is the row's name. For kGoingAway
// `going_away` stands before them. kNormal: the close frame alone. `retry_after_ms`: at least the
// row's.
FramesPtr Farewell(Encoding encoding, const CloseRow& row, std::string_view message,
                   uint32_t retry_after_ms);

// For a browser's EventSource: how long it waits before it connects again.
std::string RetryField(uint32_t ms);

// RFC 6455, 7.4.1: a close frame that has no code.
inline constexpr uint16_t kNoCode = 1005;

// A close frame with this code, and nothing before it; kNoCode: without one.
FramesPtr BareClose(uint16_t code);

}  // namespace clarion::gateway
