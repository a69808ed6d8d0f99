#include "gateway/http/http_session.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "boost/asio/basic_waitable_timer.hpp"
#include "boost/asio/buffer.hpp"
#include "boost/asio/co_spawn.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/core/string.hpp"
#include "boost/beast/http/error.hpp"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/read.hpp"
#include "boost/beast/http/string_body.hpp"
#include "boost/beast/http/write.hpp"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace clarion::gateway {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

constexpr uint32_t kMaxHeaderBytes = 16 * 1024;
// After the last answer the peer has this long to read it and leave.
constexpr std::chrono::milliseconds kLinger{2'000};
constexpr uint32_t kRetryAfterSeconds = 5;

using Parser = http::request_parser<http::empty_body>;
using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                         asio::wait_traits<std::chrono::steady_clock>,
                                         asio::io_context::executor_type>;

class Session final : private TimerWheel::Entry, private QueueWatch::Queue {
 public:
  Session(HttpContext& context, Socket socket, Admission admission, std::function<void()> on_end)
      : context_(context),
        socket_(std::move(socket)),
        admission_(admission),
        on_end_(std::move(on_end)) {}
  ~Session() {
    Hold(0);
    if (on_end_) on_end_();
  }

  static Awaitable<void> Run(std::unique_ptr<Session> session);

 private:
  enum class Next { kRequest, kLinger, kGone };

  static Awaitable<Next> Serve(Session* session);
  static Awaitable<Next> ServeApi(Session* session, std::unique_ptr<Parser> parser,
                                  ApiRequest request);
  // Whole, or why not; nothing: the peer is gone.
  static Awaitable<std::optional<std::variant<std::string, HttpResponse>>> ReadBody(
      Session* session, std::unique_ptr<Parser> parser);
  static Awaitable<Next> Answer(Session* session, ApiRequest request, bool keep_alive);
  static Awaitable<Next> Write(Session* session, const HttpRequest* request, HttpResponse response);
  static Awaitable<void> Linger(Session* session);
  HttpResponse AnswerTo(const HttpRequest& request) const;
  void Give(std::chrono::milliseconds time) {
    context_.wheel.Arm(*this, std::chrono::steady_clock::now() + time);
  }
  void OnTimer(TimerWheel::Time) override {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }
  // QueueWatch::Queue, while an answer is written. Nothing can be said to its peer any more.
  size_t queued_bytes() const override { return held_; }
  size_t kernel_bytes() override {
    return socket_.is_open() ? KernelBytesOf(socket_.native_handle()) : 0;
  }
  void Relieve() override {}
  void GiveUp(Cause cause) override;
  // Of an answer, so many bytes.
  void Hold(size_t bytes) {
    context_.queues.budget().Change(held_, bytes);
    held_ = bytes;
  }
  From PeerIs() const {
    boost::system::error_code error;
    const auto peer = socket_.remote_endpoint(error);
    return !error && peer.address().is_loopback() ? From::kLoopback : From::kElsewhere;
  }

  HttpContext& context_;
  Socket socket_;
  const Admission admission_;
  size_t held_ = 0;
  std::function<void()> on_end_;
  boost::beast::flat_buffer buffer_{kMaxHeaderBytes + 4096};
};

// The answer to what is no request, if one makes sense.
std::optional<HttpResponse> AnswerToFault(const boost::system::error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return Responder::Error(http::status::request_header_fields_too_large, Reason::kContextInvalid,
                            "the request's header is larger than 16 KiB");
  }
  if (error.category() == http::make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message) {
    return Responder::Error(http::status::bad_request, Reason::kContextInvalid,
                            "not an HTTP/1.1 request");
  }
  return std::nullopt;
}

HttpResponse TooLarge() {
  return Responder::ErrorByRow(RowOf(CloseCode::kTooLarge),
                               "the body is larger than --max-message-bytes", 0);
}

Awaitable<void> Session::Run(std::unique_ptr<Session> session) {
  Next next = Next::kRequest;
  while (next == Next::kRequest) next = co_await Serve(session.get());
  if (next == Next::kLinger) co_await Linger(session.get());
  session->Disarm();
}

Awaitable<Session::Next> Session::Serve(Session* session) {
  session->Give(session->context_.timeout);
  auto parser = std::make_unique<Parser>();
  parser->header_limit(kMaxHeaderBytes);
  parser->body_limit(boost::none);  // whoever reads a body has a limit for it
  const auto [error, bytes] =
      co_await http::async_read_header(session->socket_, session->buffer_, *parser, kUseTuple);
  if (error) {
    std::optional<HttpResponse> answer = AnswerToFault(error);
    if (!answer) co_return Next::kGone;
    co_return co_await Write(session, nullptr, *std::move(answer));
  }
  const bool has_body = !parser->is_done();
  if (session->admission_ == Admission::kServe) {
    ParsedApiRequest parsed = ParseApiRequest(session->context_.responder, parser->get());
    if (auto* request = std::get_if<ApiRequest>(&parsed)) {
      co_return co_await ServeApi(session, std::move(parser), std::move(*request));
    }
    if (auto* refusal = std::get_if<HttpResponse>(&parsed)) {
      const bool keep = parser->get().keep_alive() && !has_body && refusal->keep_alive();
      refusal->keep_alive(keep);
      co_return co_await Write(session, nullptr, std::move(*refusal));
    }
  }
  HttpRequest request = parser->release();
  parser.reset();
  Encoding encoding = Encoding::kJson;
  if (session->admission_ == Admission::kServe && !has_body && Responder::IsUpgrade(request)) {
    std::optional<HttpResponse> refusal =
        session->context_.responder.RefuseUpgrade(request, &encoding);
    if (!refusal && session->buffer_.size() > 0) {
      refusal = Responder::Error(http::status::bad_request, Reason::kContextInvalid,
                                 "frames before the upgrade was answered");
    }
    if (refusal) co_return co_await Write(session, &request, *std::move(refusal));
    session->Disarm();
    session->context_.upgrade(std::move(session->socket_), std::move(request), encoding,
                              std::exchange(session->on_end_, nullptr));
    co_return Next::kGone;
  }
  HttpResponse answer = session->AnswerTo(request);
  if (has_body) answer.keep_alive(false);
  co_return co_await Write(session, &request, std::move(answer));
}

Awaitable<Session::Next> Session::ServeApi(Session* session, std::unique_ptr<Parser> parser,
                                           ApiRequest request) {
  const bool keep_alive = parser->get().keep_alive();
  const std::string allow_origin = request.allow_origin;
  HandshakeBytes::Share share(session->context_.handshake_bytes);
  if (!parser->is_done()) {
    const auto announced = parser->content_length();
    if (announced && *announced > session->context_.max_body_bytes) {
      HttpResponse refusal = TooLarge();
      Responder::AllowOrigin(allow_origin, refusal);
      co_return co_await Write(session, nullptr, std::move(refusal));
    }
    if (!share.TryGrow(announced ? static_cast<size_t>(*announced)
                                 : session->context_.max_body_bytes)) {
      HttpResponse full = Responder::ErrorByRow(
          RowOf(CloseCode::kRateLimited),
          "requests that are not served yet hold --max-handshake-bytes", kRetryAfterSeconds * 1000);
      Responder::AllowOrigin(allow_origin, full);
      co_return co_await Write(session, nullptr, std::move(full));
    }
    const http::request<http::empty_body>& header = parser->get();
    if (boost::beast::iequals(header[http::field::expect], "100-continue")) {
      http::response<http::empty_body> go_on(http::status::continue_, 11);
      const auto [error, bytes] = co_await http::async_write(session->socket_, go_on, kUseTuple);
      if (error) co_return Next::kGone;
    }
    auto body = co_await ReadBody(session, std::move(parser));
    if (!body) co_return Next::kGone;
    if (auto* refusal = std::get_if<HttpResponse>(&*body)) {
      Responder::AllowOrigin(allow_origin, *refusal);
      co_return co_await Write(session, nullptr, std::move(*refusal));
    }
    request.body = std::get<std::string>(*std::move(body));
    share.Release();
  }
  if (request.kind == ApiRequest::Kind::kStream || request.kind == ApiRequest::Kind::kFollow) {
    session->Disarm();
    session->context_.api.Stream(std::move(request), std::move(session->socket_),
                                 std::exchange(session->on_end_, nullptr));
    co_return Next::kGone;
  }
  co_return co_await Answer(session, std::move(request), keep_alive);
}

Awaitable<std::optional<std::variant<std::string, HttpResponse>>> Session::ReadBody(
    Session* session, std::unique_ptr<Parser> parser) {
  http::request_parser<http::string_body> whole(std::move(*parser));
  parser.reset();
  whole.body_limit(session->context_.max_body_bytes);
  const auto [error, bytes] =
      co_await http::async_read(session->socket_, session->buffer_, whole, kUseTuple);
  if (!error) co_return std::move(whole.get().body());
  if (error == http::error::body_limit) co_return TooLarge();
  std::optional<HttpResponse> answer = AnswerToFault(error);
  if (!answer) co_return std::nullopt;
  co_return *std::move(answer);
}

// Waits for the answer, and for the peer to go.
Awaitable<Session::Next> Session::Answer(Session* session, ApiRequest request, bool keep_alive) {
  // The answer has deadlines of its own.
  session->Disarm();
  const std::string allow_origin = request.allow_origin;
  struct Waiting {
    explicit Waiting(asio::io_context& loop) : wake(loop) {
      wake.expires_at(std::chrono::steady_clock::time_point::max());
    }
    Timer wake;
    std::optional<HttpResponse> answer;
    bool gone = false;
  };
  // Handlers that come late find it.
  const auto waiting = std::make_shared<Waiting>(session->context_.loop);
  const std::shared_ptr<Api::Question> question =
      session->context_.api.Ask(std::move(request), [waiting](HttpResponse response) {
        waiting->answer = std::move(response);
        waiting->wake.cancel();
      });
  // Readable: the next request, or the end.
  session->socket_.async_wait(Socket::wait_read, [waiting, session](const auto& error) {
    if (error || waiting->answer) return;
    char byte = 0;
    const ssize_t got = ::recv(session->socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    const bool nothing_yet = got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    if (got > 0 || nothing_yet) return;
    waiting->gone = true;
    waiting->wake.cancel();
  });
  while (!waiting->answer && !waiting->gone) co_await waiting->wake.async_wait(kUseTuple);
  boost::system::error_code ignored;
  session->socket_.cancel(ignored);
  Next next = Next::kGone;
  if (waiting->answer) {
    Responder::AllowOrigin(allow_origin, *waiting->answer);
    if (!keep_alive) waiting->answer->keep_alive(false);
    next = co_await Write(session, nullptr, *std::move(waiting->answer));
  }
  question->Written(next != Next::kGone);
  co_return next;
}

HttpResponse Session::AnswerTo(const HttpRequest& request) const {
  if (admission_ == Admission::kFull) {
    HttpResponse response =
        Responder::Error(http::status::service_unavailable, Reason::kRateLimited,
                         "the gateway has --max-connections connections");
    response.set(http::field::retry_after, std::to_string(kRetryAfterSeconds));
    return response;
  }
  HttpResponse response =
      context_.responder.Respond(request, PeerIs(), std::chrono::system_clock::now());
  if (!request.keep_alive()) response.keep_alive(false);
  return response;
}

Awaitable<Session::Next> Session::Write(Session* session, const HttpRequest* request,
                                        HttpResponse response) {
  GetCounter("clarion_http_responses_total", "Answers to plain HTTP requests, by status",
             {{"status", std::to_string(response.result_int())}})
      .Add();
  // HEAD: the header as it would be, no body.
  if (request != nullptr && request->method() == http::verb::head) response.body().clear();
  const bool keep = response.keep_alive();
  http::response_serializer<http::string_body> serializer(response);
  // A slow peer has time as long as it takes something: see QueueWatch.
  session->Disarm();
  session->Hold(response.body().size());
  boost::system::error_code failed;
  while (!serializer.is_done() && !failed) {
    session->context_.queues.OnBlocked(*session, QueueWatch::Clock::now());
    const auto [error, bytes] =
        co_await http::async_write_some(session->socket_, serializer, kUseTuple);
    failed = error;
  }
  session->Queue::unlink();
  session->Hold(0);
  if (failed) co_return Next::kGone;
  co_return keep ? Next::kRequest : Next::kLinger;
}

void Session::GiveUp(Cause cause) {
  CountSlowConnectionClosed(cause == Cause::kStalled ? "stalled" : "memory");
  CountFailure(NameOf(Reason::kBufferOverflow));
  Queue::unlink();
  Hold(0);  // it is freed within this turn
  boost::system::error_code ignored;
  socket_.close(ignored);
}

// Closing with unread bytes resets the connection, and the answer may be lost with it.
Awaitable<void> Session::Linger(Session* session) {
  session->Give(kLinger);
  boost::system::error_code ignored;
  session->socket_.shutdown(Socket::shutdown_send, ignored);
  std::array<char, 1024> discarded;
  for (;;) {
    const asio::mutable_buffer room(discarded.data(), discarded.size());
    const auto [error, bytes] = co_await session->socket_.async_read_some(room, kUseTuple);
    if (error) co_return;
  }
}

}  // namespace

void StartHttpSession(HttpContext& context, Socket socket, Admission admission,
                      std::function<void()> on_end) {
  auto session =
      std::make_unique<Session>(context, std::move(socket), admission, std::move(on_end));
  asio::co_spawn(context.loop.get_executor(), Session::Run(std::move(session)),
                 [](std::exception_ptr error) {
                   if (error) Log(Severity::kError, "an HTTP session's coroutine threw");
                 });
}

}  // namespace clarion::gateway
