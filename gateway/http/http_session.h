// One TCP connection that speaks HTTP: answers requests until it ends or becomes a WebSocket.
#pragma once

#include <chrono>
#include <functional>

#include "boost/asio/awaitable.hpp"
#include "boost/asio/basic_stream_socket.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "gateway/frames.h"
#include "gateway/http/responder.h"
#include "gateway/timer_wheel.h"

namespace clarion::gateway {

using HttpSocket =
    boost::asio::basic_stream_socket<boost::asio::ip::tcp, boost::asio::io_context::executor_type>;

// kFull: there are --max-connections already; every request is answered with 503.
enum class Admission { kServe, kFull };

// What the sessions of one loop share; outlives them. On the loop's thread only.
struct HttpContext {
  boost::asio::io_context& loop;
  const Responder& responder;
  TimerWheel& wheel;
  // One request, from its first byte to its answer, and between requests.
  std::chrono::milliseconds timeout{10'000};
  // An upgrade that is granted: the socket, its request, the encoding, and what to call at the end.
  std::function<void(HttpSocket, HttpRequest, Encoding, std::function<void()>)> upgrade;
};

// `on_end` is called once: when the session is over, or handed on with an upgrade.
void StartHttpSession(HttpContext& context, HttpSocket socket, Admission admission,
                      std::function<void()> on_end);

}  // namespace clarion::gateway
