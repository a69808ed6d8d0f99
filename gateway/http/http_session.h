// One TCP connection that speaks HTTP: answers requests until it ends, becomes a WebSocket or
// becomes an event stream.
#pragma once

#include <chrono>
#include <functional>

#include "boost/asio/io_context.hpp"
#include "gateway/auth/handshake_bytes.h"
#include "gateway/frames.h"
#include "gateway/http/api.h"
#include "gateway/http/responder.h"
#include "gateway/queue_watch.h"
#include "gateway/timer_wheel.h"

namespace clarion::gateway {

// kFull: there are --max-connections already; every request is answered with 503.
enum class Admission { kServe, kFull };

// What the sessions of one loop share; outlives them. On the loop's thread only.
struct HttpContext {
  boost::asio::io_context& loop;
  const Responder& responder;
  TimerWheel& wheel;
  // Answers that wait for their peer.
  QueueWatch& queues;
  // One request until it is whole, and between requests.
  std::chrono::milliseconds timeout{10'000};
  // An upgrade that is granted: the socket, its request, the encoding, and what to call at the end.
  std::function<void(Socket, HttpRequest, Encoding, std::function<void()>)> upgrade;
  Api& api;
  // Of bodies, until their request is served.
  HandshakeBytes& handshake_bytes;
  size_t max_body_bytes = 384 * 1024;
};

// `on_end` is called once: when the session is over, or handed on with an upgrade.
void StartHttpSession(HttpContext& context, Socket socket, Admission admission,
                      std::function<void()> on_end);

}  // namespace clarion::gateway
