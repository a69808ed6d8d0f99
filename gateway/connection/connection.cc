// The connection's life: coroutine, reading, deadlines, ending. What frames mean:
// connection_frames.cc.
#include "gateway/connection/connection.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "boost/asio/as_tuple.hpp"
#include "boost/asio/buffer.hpp"
#include "boost/asio/co_spawn.hpp"
#include "boost/asio/use_awaitable.hpp"
#include "boost/beast/websocket/error.hpp"
#include "boost/beast/websocket/rfc6455.hpp"
#include "boost/beast/websocket/stream_base.hpp"
#include "gateway/connection/farewell.h"
#include "gateway/http/subprotocol.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace clarion::gateway {
namespace {

namespace asio = boost::asio;
namespace websocket = boost::beast::websocket;

constexpr auto kUseTuple =
    asio::as_tuple_t<asio::use_awaitable_t<asio::io_context::executor_type>>();

// Most frames of a page fit; larger ones get a buffer for as long as they are read.
constexpr size_t kIdleBufferBytes = 128;
constexpr size_t kDiscardBytes = 512;
constexpr double kSilentHeartbeats = 2.5;

Gauge& StateGauge(const char* state) {
  return GetGauge("clarion_connections", "Browsers' connections",
                  {{"transport", "websocket"}, {"state", state}});
}
Gauge& Connecting() {
  static Gauge& gauge = StateGauge("connecting");
  return gauge;
}
Gauge& Connected() {
  static Gauge& gauge = StateGauge("connected");
  return gauge;
}

Counter& Closes(const CloseRow& row) {
  return GetCounter("clarion_connection_closes_total",
                    "Connections closed by the gateway, by close code",
                    {{"code", std::string(row.name)}});
}

Counter& CutOffs(const CloseRow& row) {
  return GetCounter("clarion_connection_cut_offs_total",
                    "Connections closed by the gateway whose browser did not take the reason",
                    {{"code", std::string(row.name)}});
}

Counter& Relieved() {
  static Counter& counter =
      GetCounter("clarion_slow_connections_relieved_total",
                 "Times that events waiting for a slow connection were dropped, to be replayed");
  return counter;
}
Counter& FramesTakenBack() {
  static Counter& counter =
      GetCounter("clarion_frames_taken_back_total",
                 "Frames that were queued for slow connections and dropped, to be replayed");
  return counter;
}

}  // namespace

void Connection::Start(ConnectionContext& context, Socket socket, UpgradeRequest request,
                       Encoding encoding, std::function<void()> on_end) {
  std::shared_ptr<Connection> self(
      new Connection(context, std::move(socket), encoding, std::move(on_end)));
  asio::co_spawn(context.loop.get_executor(),
                 Run(self, std::make_unique<UpgradeRequest>(std::move(request))),
                 [](std::exception_ptr error) {
                   if (error) Log(Severity::kError, "a connection's coroutine threw");
                 });
}

Connection::Connection(ConnectionContext& context, Socket socket, Encoding encoding,
                       std::function<void()> on_end)
    : context_(context),
      stream_(std::move(socket), context.turn, static_cast<FrameStream::Owner&>(*this)),
      on_end_(std::move(on_end)),
      handshake_share_(context.handshake_bytes),
      heard_at_(Clock::now()),
      phase_ends_at_(heard_at_ + std::chrono::milliseconds(context.options.handshake_timeout_ms)),
      rate_at_(heard_at_),
      rate_tokens_(static_cast<float>(context.options.frames_burst)),
      encoding_(encoding) {
  context_.connections.push_back(*this);
  Connecting().Add(1);
}

Connection::~Connection() {
  // Run leaves it, unless something threw that it does not catch.
  LeaveHub();
  ReportCutOff();
  (user_counted_ ? Connected() : Connecting()).Add(-1);
  if (user_counted_ && user_.str() != kCanaryUser) context_.user_limit.Release(user_);
  ConnectionListHook::unlink();
  on_end_();
}

Connection::Awaitable<void> Connection::Run(std::shared_ptr<Connection> self,
                                            std::unique_ptr<UpgradeRequest> request) {
  self->ArmNext();
  try {
    const bool upgraded = co_await Upgrade(self, std::move(request));
    while (upgraded) {
      const asio::mutable_buffer room(self->buffer_.data() + self->buffered_,
                                      self->buffer_.size() - self->buffered_);
      const auto [error, bytes] = co_await self->stream_.async_read_some(room, kUseTuple);
      if (error) break;
      self->OnRead(bytes);
    }
  } catch (const std::exception& error) {
    Log(Severity::kError, "a connection threw", {{"cause", error.what()}});
    self->Close(CloseCode::kInternal, "the gateway failed at this connection");
  }
  // A peer that vanished hears nothing; one that was told why gets the chance to read it.
  if (self->state_ == State::kClosing && self->stream().next_layer().is_open()) {
    co_await Linger(self);
  }
  self->Disarm();
  self->LeaveHub();
  self->stream().Abort();
}

Connection::Awaitable<bool> Connection::Upgrade(std::shared_ptr<Connection> self,
                                                std::unique_ptr<UpgradeRequest> request) {
  const bool named = request->count(boost::beast::http::field::sec_websocket_protocol) > 0;
  const std::string_view protocol = named ? SubprotocolOf(self->encoding_) : std::string_view();
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
  self->buffer_.resize(kIdleBufferBytes);
  co_return true;
}

Connection::Awaitable<void> Connection::Linger(std::shared_ptr<Connection> self) {
  // Closing a socket with unread bytes resets it, and the peer may lose what it was told. So: send
  // all, say that was all, and read until the peer is done too or the wheel closes the socket.
  self->reader_done_ = true;
  self->ShutDownWhenDrained();
  self->ReleaseBuffer(kDiscardBytes);
  self->buffer_.resize(kDiscardBytes);
  Socket& socket = self->stream().next_layer();
  for (;;) {
    const asio::mutable_buffer room(self->buffer_.data(), self->buffer_.size());
    const auto [error, bytes] = co_await socket.async_read_some(room, kUseTuple);
    if (error) break;
  }
}

void Connection::OnRead(size_t bytes) {
  buffered_ += bytes;
  if (state_ == State::kClosing) {
    buffered_ = 0;
    return ReleaseBuffer(kDiscardBytes);
  }
  if (buffered_ > context_.options.max_message_bytes) {
    buffered_ = 0;
    ReleaseBuffer(kDiscardBytes);
    return Close(CloseCode::kTooLarge, "a message is larger than --max-message-bytes");
  }
  if (!stream_.is_message_done()) return GrowBuffer();
  OnMessage(std::string_view(buffer_.data(), buffered_));
  buffered_ = 0;
  ReleaseBuffer(kIdleBufferBytes);
}

void Connection::GrowBuffer() {
  if (buffered_ < buffer_.size()) return;
  // One byte over the bound is enough to see that a message is over it.
  const size_t size = std::min(4 * buffer_.size(), context_.options.max_message_bytes + 1);
  if (state_ == State::kConnecting && !handshake_share_.TryGrow(size)) return RefuseHandshake();
  buffer_.resize(size);
}

void Connection::RefuseHandshake() {
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

void Connection::ReleaseBuffer(size_t keep) {
  if (buffer_.size() > keep) buffer_ = std::string(keep, '\0');
  handshake_share_.Release();
}

void Connection::OnControlFrame() {
  const Clock::time_point now = Clock::now();
  heard_at_ = now;
  if (state_ != State::kClosing) WithinRate(now);
}

bool Connection::WithinRate(Clock::time_point now) {
  const std::chrono::duration<float> passed = now - rate_at_;
  const auto rate = static_cast<float>(context_.options.frames_per_second);
  const auto burst = static_cast<float>(context_.options.frames_burst);
  rate_at_ = now;
  rate_tokens_ = std::min(burst, rate_tokens_ + passed.count() * rate) - 1;
  if (rate_tokens_ >= 0) return true;
  Close(CloseCode::kRateLimited, "more frames than --max-frames-per-second allows");
  return false;
}

// ---- Writing ----

void Connection::Send(FramesPtr frames, size_t first, FrameTag tag) {
  stream().Queue(std::move(frames), first, tag);
}

std::vector<Subscriber::TakenBack> Connection::TakeBack(
    const absl::flat_hash_set<uint32_t>& sources) {
  const size_t before = stream().queued_frames();
  std::vector<TakenBack> taken = stream().TakeBack(sources);
  if (taken.empty()) return taken;
  Relieved().Add();
  FramesTakenBack().Add(before - stream().queued_frames());
  return taken;
}

bool Connection::OverBound() const {
  return stream().queued_bytes() > context_.options.max_queued_bytes ||
         stream().queued_frames() > context_.options.max_queued_events;
}

// While all queues together are large, who has something waiting gets no replay on top of it.
bool Connection::RoomNow() const {
  return stream().queued_bytes() < context_.options.max_queued_bytes / 2 &&
         stream().queued_frames() < context_.options.max_queued_events / 2 &&
         (stream().drained() || !context_.turn.queues().budget().tight());
}

bool Connection::HasRoom() const {
  if (RoomNow()) return true;
  wants_room_ = true;
  return false;
}

void Connection::SendMessage(const v1::ServerFrame& frame) {
  Send(Frames::OfMessage(encoding_, frame), 0);
}

void Connection::SendError(Reason reason, std::string_view message, const std::string& request_id) {
  CountFailure(NameOf(reason));
  SendMessage(ErrorFrame(reason, message, "", request_id));
}

void Connection::OnWritten() {
  if (state_ == State::kClosing) {
    LeaveHub();
    return ShutDownWhenDrained();
  }
  if (OverBound()) {
    OnRelieve();
    if (OverBound()) return CloseSlow("queue", "the connection does not take what is sent to it");
  }
  if (wants_room_ && in_hub_ && RoomNow()) {
    wants_room_ = false;
    context_.hub->OnRoom(this);
  }
}

void Connection::OnRelieve() {
  if (in_hub_ && state_ == State::kConnected) context_.hub->OnOverflow(this);
}

void Connection::OnGiveUp(QueueWatch::Queue::Cause cause) {
  if (cause == QueueWatch::Queue::Cause::kStalled) {
    return CloseSlow("stalled", "the connection has taken nothing for --stall-timeout-ms");
  }
  CloseSlow("memory",
            "all connections together hold --max-queued-bytes-total, this one much of it");
}

void Connection::CloseSlow(const char* cause, std::string_view message) {
  if (state_ == State::kClosing) return;
  GetCounter("clarion_slow_connections_closed_total",
             "Connections closed because they did not take what was sent to them, by cause",
             {{"cause", cause}})
      .Add();
  stream().DropUnsent();
  Close(CloseCode::kSlowConsumer, message);
}

void Connection::BecomeConnected(const UserId& user) {
  state_ = State::kConnected;
  user_ = user;
  user_counted_ = true;
  Connecting().Add(-1);
  Connected().Add(1);
  ping_at_ = Clock::now() + std::chrono::milliseconds(context_.options.heartbeat_ms);
}

// ---- Deadlines ----

void Connection::ArmNext() {
  Clock::time_point next = phase_ends_at_;
  if (state_ == State::kConnected) {
    next = std::min({ping_at_, token_ends_at_,
                     heard_at_ + std::chrono::milliseconds(static_cast<int64_t>(
                                     kSilentHeartbeats * context_.options.heartbeat_ms))});
  }
  context_.wheel.Arm(*this, next);
}

void Connection::OnTimer(TimerWheel::Time now) {
  const auto hold = shared_from_this();
  const std::chrono::milliseconds heartbeat(context_.options.heartbeat_ms);
  switch (state_) {
    case State::kConnecting:
      Close(CloseCode::kTimeout, "no `connect` within --handshake-timeout-ms");
      break;
    case State::kConnected:
      if (now >= token_ends_at_) {
        Close(CloseCode::kUnauthenticated, "the token has expired");
      } else if (now - heard_at_ >= kSilentHeartbeats * heartbeat) {
        Close(CloseCode::kTimeout, "nothing was heard for 2.5 heartbeats");
      } else if (now >= ping_at_) {
        Send(context_.pings[static_cast<size_t>(encoding_)], 0);
        ping_at_ = now + heartbeat;
      }
      break;
    case State::kClosing:
      ReportCutOff();
      return stream().Abort();
  }
  ArmNext();
}

// ---- Ending ----

void Connection::Close(CloseCode code, std::string_view message) {
  const CloseRow& row = RowOf(code);
  CloseBy(row, message, row.retry_after_ms);
}

void Connection::GoAway(uint32_t reconnect_after_ms) {
  CloseBy(RowOf(CloseCode::kGoingAway), "the gateway stops", reconnect_after_ms);
}

bool Connection::FollowsOpenRun() const {
  return in_hub_ && context_.hub != nullptr && context_.hub->FollowsOpenRun(this);
}

void Connection::CloseBy(const CloseRow& row, std::string_view message, uint32_t retry_after_ms) {
  if (state_ == State::kClosing) return;
  Closes(row).Add();
  closed_as_ = &row;
  const bool fault = row.code != CloseCode::kNormal && row.code != CloseCode::kGoingAway;
  if (fault) CountFailure(NameOf(row.reason));
  BeginClosing(row.name, fault ? v1::CONNECTION_STATE_ERROR : v1::CONNECTION_STATE_DISCONNECTED,
               Farewell(encoding_, row, message, retry_after_ms));
}

void Connection::OnBeastClose(uint16_t code) {
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
  if (state_ != State::kClosing) {
    BeginClosing("closed by the client", v1::CONNECTION_STATE_DISCONNECTED, BareClose(code));
  }
}

void Connection::BeginClosing(std::string_view reason, v1::ConnectionState state,
                              FramesPtr last_words) {
  state_ = State::kClosing;
  end_reason_ = reason;
  end_state_ = state;
  phase_ends_at_ = Clock::now() + std::chrono::milliseconds(context_.options.close_timeout_ms);
  ArmNext();
  // OnWritten follows at the end of this turn, and leaves the hub.
  stream().QueueLast(std::move(last_words));
}

void Connection::LeaveHub() {
  // A loop that ends takes the hub away before its connections.
  if (!in_hub_ || context_.hub == nullptr) return;
  in_hub_ = false;
  if (end_reason_.empty()) end_reason_ = "connection lost";
  context_.hub->Close(this, end_state_, end_reason_);
}

void Connection::ReportCutOff() {
  const size_t untaken = stream().untaken_bytes();
  if (closed_as_ == nullptr || untaken == 0) return;
  CutOffs(*closed_as_).Add();
  const auto left_out = context_.cut_off_lines.Admit(Clock::now());
  if (!left_out) return;
  Log(Severity::kInfo, "a browser did not read why its connection was closed",
      {{"user_id", user_.str()},
       {"connection_id", user_counted_ ? id() : ""},
       {"code", std::to_string(static_cast<uint16_t>(closed_as_->code))},
       {"reason", std::string(closed_as_->name)},
       {"untaken_bytes", std::to_string(untaken)},
       {"left_out", std::to_string(*left_out)}});
}

void Connection::ShutDownWhenDrained() {
  if (!reader_done_ || !stream().drained()) return;
  boost::system::error_code ignored;
  stream().next_layer().shutdown(Socket::shutdown_send, ignored);
}

}  // namespace clarion::gateway
