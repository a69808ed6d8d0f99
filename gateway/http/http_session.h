// One TCP connection that speaks HTTP: answers requests until it ends, becomes a WebSocket or
// becomes an event stream.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "boost/asio/awaitable.hpp"
#include "boost/asio/basic_stream_socket.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "gateway/auth/handshake_bytes.h"
#include "gateway/frames.h"
#include "gateway/http/api_request.h"
#include "gateway/http/responder.h"
#include "gateway/timer_wheel.h"

namespace clarion::gateway {

using HttpSocket =
    boost::asio::basic_stream_socket<boost::asio::ip::tcp, boost::asio::io_context::executor_type>;

// kFull: there are --max-connections already; every request is answered with 503.
enum class Admission { kServe, kFull };

// Who serves the requests that ask for more than files. On the loop's thread only.
class Api {
 public:
  virtual ~Api() = default;
  // kStream, kFollow: takes the socket. `on_end` is called once, when all is over.
  virtual void Stream(ApiRequest request, HttpSocket socket, std::function<void()> on_end) = 0;
  // The others: one answer. `done` is called once, not inside the call, unless the question is
  // destroyed before. What it holds may be destroyed only after Written.
  class Question {
   public:
    virtual ~Question() = default;
    // The answer is in the socket; or it never will be: whoever asked is gone.
    virtual void Written(bool whole) = 0;
  };
  virtual std::unique_ptr<Question> Ask(ApiRequest request,
                                        std::function<void(HttpResponse)> done) = 0;
};

// What the sessions of one loop share; outlives them. On the loop's thread only.
struct HttpContext {
  boost::asio::io_context& loop;
  const Responder& responder;
  TimerWheel& wheel;
  // One request, from its first byte to its answer, and between requests.
  std::chrono::milliseconds timeout{10'000};
  // An upgrade that is granted: the socket, its request, the encoding, and what to call at the end.
  std::function<void(HttpSocket, HttpRequest, Encoding, std::function<void()>)> upgrade;
  Api& api;
  // Of bodies, until their request is served.
  HandshakeBytes& handshake_bytes;
  size_t max_body_bytes = 384 * 1024;
};

// `on_end` is called once: when the session is over, or handed on with an upgrade.
void StartHttpSession(HttpContext& context, HttpSocket socket, Admission admission,
                      std::function<void()> on_end);

}  // namespace clarion::gateway
