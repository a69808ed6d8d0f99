#include "gateway/connection/websocket.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "boost/asio/buffer.hpp"
#include "boost/asio/co_spawn.hpp"
#include "boost/beast/websocket/error.hpp"
#include "boost/beast/websocket/rfc6455.hpp"
#include "boost/beast/websocket/stream_base.hpp"
#include "gateway/connection/farewell.h"
#include "gateway/http/subprotocol.h"
#include "telemetry/log.h"

namespace clarion::gateway {
namespace {

namespace asio = boost::asio;
namespace websocket = boost::beast::websocket;

// Most frames of a page fit; larger ones get a buffer for as long as they are read.
constexpr size_t kIdleBufferBytes = 128;

}  // namespace

void WebSocket::Start(ConnectionContext& context, Socket socket, UpgradeRequest request,
                      Encoding encoding, std::function<void()> on_end) {
  std::shared_ptr<WebSocket> self(
      new WebSocket(context, std::move(socket), encoding, std::move(on_end)));
  asio::co_spawn(context.loop.get_executor(),
                 Run(self, std::make_unique<UpgradeRequest>(std::move(request))),
                 [](std::exception_ptr error) {
                   if (error) Log(Severity::kError, "a connection's coroutine threw");
                 });
}

WebSocket::WebSocket(ConnectionContext& context, Socket socket, Encoding encoding,
                     std::function<void()> on_end)
    : StreamConnection(context, v1::TRANSPORT_WEBSOCKET, encoding, std::move(on_end)),
      stream_(std::move(socket), context.turn, static_cast<FrameStream::Owner&>(*this)),
      handshake_share_(context.handshake_bytes) {}

Awaitable<void> WebSocket::Run(std::shared_ptr<WebSocket> self,
                               std::unique_ptr<UpgradeRequest> request) {
  self->ArmNext();
  try {
    const bool upgraded = co_await Upgrade(self, std::move(request));
    while (upgraded) {
      const asio::mutable_buffer room(self->buffer().data() + self->buffered_,
                                      self->buffer().size() - self->buffered_);
      const auto [error, bytes] = co_await self->stream_.async_read_some(room, kUseTuple);
      if (error) break;
      self->OnRead(bytes);
    }
  } catch (const std::exception& error) {
    Log(Severity::kError, "a connection threw", {{"cause", error.what()}});
    self->Close(CloseCode::kInternal, "the gateway failed at this connection");
  }
  self->handshake_share_.Release();
  co_await Finish(std::move(self));
}

Awaitable<bool> WebSocket::Upgrade(std::shared_ptr<WebSocket> self,
                                   std::unique_ptr<UpgradeRequest> request) {
  const bool named = request->count(boost::beast::http::field::sec_websocket_protocol) > 0;
  const std::string_view protocol = named ? SubprotocolOf(self->encoding()) : std::string_view();
  self->stream_.set_option(
      websocket::stream_base::decorator([protocol](websocket::response_type& response) {
        response.set(boost::beast::http::field::server, "clarion");
        if (protocol.empty()) return;
        response.set(boost::beast::http::field::sec_websocket_protocol,
                     boost::beast::string_view(protocol.data(), protocol.size()));
      }));
  const auto [error] = co_await self->stream_.async_accept(*request, kUseTuple);
  if (error) co_return false;
  // The bound on messages is kept here, where it has an answer of its own; Beast has none.
  self->stream_.read_message_max(0);
  self->stream_.control_callback(
      [connection = self.get()](websocket::frame_type, boost::beast::string_view) {
        connection->OnControlFrame();
      });
  self->stream().BeginFrames();
  self->buffer().resize(kIdleBufferBytes);
  co_return true;
}

void WebSocket::OnRead(size_t bytes) {
  buffered_ += bytes;
  if (state() == State::kClosing) {
    buffered_ = 0;
    return ReleaseBuffer(kDiscardBytes);
  }
  if (buffered_ > context_.options.max_message_bytes) {
    buffered_ = 0;
    ReleaseBuffer(kDiscardBytes);
    return Close(CloseCode::kTooLarge, "a message is larger than --max-message-bytes");
  }
  if (!stream_.is_message_done()) return GrowBuffer();
  OnText(std::string_view(buffer().data(), buffered_));
  buffered_ = 0;
  ReleaseBuffer(kIdleBufferBytes);
}

void WebSocket::GrowBuffer() {
  if (buffered_ < buffer().size()) return;
  // One byte over the bound is enough to see that a message is over it.
  const size_t size = std::min(4 * buffer().size(), context_.options.max_message_bytes + 1);
  if (state() == State::kConnecting && !handshake_share_.TryGrow(size)) return RefuseHandshake();
  buffer().resize(size);
}

void WebSocket::RefuseHandshake() {
  if (const auto left_out = context_.handshake_lines.Admit(Clock::now())) {
    boost::system::error_code error;
    const auto peer = stream().next_layer().remote_endpoint(error);
    Log(Severity::kWarning,
        "a browser's `connect` is refused: connections that are not authenticated hold "
        "--max-handshake-bytes",
        {{"peer", error ? "" : peer.address().to_string()},
         {"left_out", std::to_string(*left_out)}});
  }
  buffered_ = 0;
  ReleaseBuffer(kDiscardBytes);
  Close(CloseCode::kRateLimited,
        "connections that are not authenticated hold --max-handshake-bytes");
}

void WebSocket::ReleaseBuffer(size_t keep) {
  if (buffer().size() > keep) buffer() = std::string(keep, '\0');
  handshake_share_.Release();
}

void WebSocket::OnControlFrame() {
  const Clock::time_point now = Clock::now();
  Heard(now);
  if (state() != State::kClosing) WithinRate(now);
}

void WebSocket::OnText(std::string_view bytes) {
  const Clock::time_point now = Clock::now();
  Heard(now);
  if (!WithinRate(now)) return;
  if (stream_.got_text() != (encoding() == Encoding::kJson)) {
    return Close(CloseCode::kBadRequest, encoding() == Encoding::kJson
                                             ? "a binary message on clarion.v1.json"
                                             : "a text message on clarion.v1.proto");
  }
  OnMessage(ParseClientMessage(encoding(), bytes));
}

FramesPtr WebSocket::LastWords(const CloseRow& row, std::string_view message,
                               uint32_t retry_after_ms) {
  return Farewell(encoding(), row, message, retry_after_ms);
}

void WebSocket::OnBeastClose(uint16_t code) {
  switch (static_cast<websocket::close_code>(code)) {
    case websocket::close_code::protocol_error:
      return Close(CloseCode::kBadRequest, "not a WebSocket frame as RFC 6455 has them");
    case websocket::close_code::bad_payload:
      return Close(CloseCode::kBadRequest, "a text message is not UTF-8");
    case websocket::close_code::too_big:
      return Close(CloseCode::kTooLarge, "a message is larger than --max-message-bytes");
    default:
      break;
  }
  // The peer leaves; its own code is the answer, as RFC 6455 has it.
  if (state() != State::kClosing) {
    BeginClosing("closed by the client", v1::CONNECTION_STATE_DISCONNECTED, BareClose(code));
  }
}

}  // namespace clarion::gateway
