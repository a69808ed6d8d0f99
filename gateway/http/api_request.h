// Requests of /v1 that ask for more than files, and where they go. Knows no sockets.
//
//   POST /v1/stream               a connection as text/event-stream
//   POST /v1/poll                 a connection that polls
//   POST /v1/connections/ID       messages for a connection of the first kind
//   GET  /v1/threads              the user's threads: limit, page_token
//   GET  /v1/threads/ID/events    a page of one thread: after or before or last_runs; limit, wait,
//                                 history. With Accept: text/event-stream a connection that follows
//                                 it: after or Last-Event-ID; from, history
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "clarion/v1/position.pb.h"
#include "clarion/v1/stream.pb.h"
#include "gateway/http/responder.h"

namespace clarion::gateway {

struct ApiRequest {
  enum class Kind { kStream, kPoll, kPass, kThreads, kEvents, kFollow };
  Kind kind = Kind::kStream;
  // Of `Authorization: Bearer`, as it came; empty: none.
  std::string token;
  // See Responder::AllowOrigin.
  std::string allow_origin;
  // Of the path, decoded.
  std::string connection_id;
  std::string thread_id;
  std::string body;

  // kEvents, kFollow. kEvents: an epoch may be missing: of now.
  std::optional<v1::Position> after;
  uint64_t before = 0;  // 0: not said
  uint32_t last_runs = 0;
  uint32_t limit = 0;  // 0: not said
  std::optional<std::chrono::milliseconds> wait;
  v1::StartFrom from = v1::START_FROM_UNSPECIFIED;
  bool full = false;
  // kThreads.
  std::string page_token;

  bool posts() const { return kind == Kind::kStream || kind == Kind::kPoll || kind == Kind::kPass; }
};

// Nothing: not of this kind, Responder has the answer. Otherwise the request without its body, or
// why it is refused.
using ParsedApiRequest = std::variant<std::monostate, ApiRequest, HttpResponse>;
ParsedApiRequest ParseApiRequest(const Responder& responder, const HttpRequest& request);

}  // namespace clarion::gateway
