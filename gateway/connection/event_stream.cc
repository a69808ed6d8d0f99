#include "gateway/connection/event_stream.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <sstream>
#include <utility>

#include "boost/asio/buffer.hpp"
#include "boost/asio/co_spawn.hpp"
#include "boost/beast/http/write.hpp"
#include "gateway/connection/farewell.h"
#include "gateway/http/responder.h"
#include "telemetry/log.h"

namespace clarion::gateway {
namespace {

namespace asio = boost::asio;

}  // namespace

void EventStream::Start(ConnectionContext& context, Socket socket, Request request,
                        std::function<void()> on_end) {
  std::shared_ptr<EventStream> self(new EventStream(
      context, std::move(socket), std::move(request.allow_origin), std::move(on_end)));
  asio::co_spawn(context.loop.get_executor(),
                 Run(self, std::make_unique<Request>(std::move(request))),
                 [](std::exception_ptr error) {
                   if (error) Log(Severity::kError, "a connection's coroutine threw");
                 });
}

EventStream::EventStream(ConnectionContext& context, Socket socket, std::string allow_origin,
                         std::function<void()> on_end)
    : StreamConnection(context, v1::TRANSPORT_SSE, Encoding::kEventStream, std::move(on_end)),
      stream_(std::move(socket), context.turn, static_cast<FrameStream::Owner&>(*this)),
      allow_origin_(std::move(allow_origin)) {
  // A peer that is there and takes nothing is the queue watch's business, and has time to read why.
  const auto slow = context.turn.queues().stall_timeout() +
                    std::chrono::milliseconds(context.options.close_timeout_ms);
  const int patience_ms = static_cast<int>(
      std::max<int64_t>(5 * int64_t{context.options.heartbeat_ms} / 2, slow.count()));
  ::setsockopt(stream_.next_layer().native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms,
               sizeof patience_ms);
}

Awaitable<void> EventStream::Run(std::shared_ptr<EventStream> self,
                                 std::unique_ptr<Request> request) {
  self->ReaderDone();
  self->ArmNext();
  try {
    self->Begin(*request);
    request.reset();
    // A page says nothing here: what ends the reading is its end.
    self->buffer() = std::string(kDiscardBytes, '\0');
    while (self->state() != State::kClosing) {
      const asio::mutable_buffer room(self->buffer().data(), self->buffer().size());
      const auto [error, bytes] = co_await self->stream_.async_read_some(room, kUseTuple);
      if (error) break;
    }
  } catch (const std::exception& error) {
    Log(Severity::kError, "a connection threw", {{"cause", error.what()}});
    self->Close(CloseCode::kInternal, "the gateway failed at this connection");
  }
  co_await Finish(std::move(self));
}

void EventStream::Begin(const Request& request) {
  if (request.draining) {
    const CloseRow& row = RowOf(CloseCode::kGoingAway);
    return CloseBy(row, "the gateway stops", row.retry_after_ms);
  }
  if (!request.problem.empty()) return Close(CloseCode::kBadRequest, request.problem);
  const auto& messages = request.page.messages;
  if (!messages.empty() && messages[0].frame.has_connect() &&
      messages[0].verdict != ClientMessage::Verdict::kValid) {
    return Close(CloseCode::kBadRequest, messages[0].problem);
  }
  size_t next = 0;
  if (!request.token.empty()) {
    v1::ClientFrame connect;
    connect.mutable_connect()->set_protocol(kProtocol);
    if (!messages.empty() && messages[0].frame.has_connect()) connect = messages[next++].frame;
    connect.mutable_connect()->set_token(request.token);
    Connect(connect.connect(), connect.id());
  } else if (messages.empty()) {
    return Close(CloseCode::kUnauthenticated,
                 "no token: `Authorization: Bearer …`, or `connect` as the first message");
  }
  for (; next < messages.size() && state() != State::kClosing; ++next) {
    if (WithinRate(Clock::now())) OnMessage(messages[next]);
  }
}

void EventStream::OnAdmitted() {
  StreamConnection::OnAdmitted();
  begun_ = true;
  std::string header =
      "HTTP/1.1 200 OK\r\n"
      "Server: clarion\r\n"
      "Content-Type: text/event-stream; charset=utf-8\r\n"
      "Cache-Control: no-store, no-transform\r\n"
      "X-Accel-Buffering: no\r\n"
      "X-Content-Type-Options: nosniff\r\n"
      "Connection: close\r\n";
  if (!allow_origin_.empty()) {
    header += "Access-Control-Allow-Origin: " + allow_origin_ +
              "\r\n"
              "Vary: Origin\r\n";
  }
  header += "\r\n" + RetryField(RowOf(CloseCode::kUnavailable).retry_after_ms);
  Send(Frames::OfBytes(std::move(header)), 0);
}

FramesPtr EventStream::LastWords(const CloseRow& row, std::string_view message,
                                 uint32_t retry_after_ms) {
  if (begun_) return Farewell(encoding(), row, message, retry_after_ms);
  HttpResponse response = Responder::ErrorByRow(row, message, retry_after_ms);
  Responder::AllowOrigin(allow_origin_, response);
  std::ostringstream bytes;
  bytes << response;
  return Frames::OfBytes(std::move(bytes).str());
}

Subscriber::Passed EventStream::Pass(uint64_t sequence, std::string_view frames) {
  if (state() != State::kConnected) return {.problem = "no such connection"};
  if (sequence < next_sequence_) return {.ok = true, .next_sequence = next_sequence_};
  if (sequence > next_sequence_) {
    return {.next_sequence = next_sequence_,
            .reason = Reason::kContextInvalid,
            .problem = "sequence must be " + std::to_string(next_sequence_) + " now"};
  }
  PageRequest request;
  if (std::string problem = ParsePageRequest(PageRequestKind::kPass, frames, request);
      !problem.empty()) {
    return {.next_sequence = next_sequence_,
            .reason = Reason::kContextInvalid,
            .problem = std::move(problem)};
  }
  ++next_sequence_;
  for (const ClientMessage& message : request.messages) {
    if (state() == State::kClosing || !WithinRate(Clock::now())) break;
    OnMessage(message);
  }
  return {.ok = true, .next_sequence = next_sequence_};
}

}  // namespace clarion::gateway
