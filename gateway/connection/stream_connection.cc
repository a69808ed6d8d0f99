#include "gateway/connection/stream_connection.h"

#include <algorithm>
#include <utility>

#include "boost/asio/buffer.hpp"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace clarion::gateway {
namespace {

namespace asio = boost::asio;

constexpr double kSilentHeartbeats = 2.5;

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

StreamConnection::StreamConnection(ConnectionContext& context, v1::Transport transport,
                                   Encoding encoding, std::function<void()> on_end)
    : Connection(context, transport, encoding),
      on_end_(std::move(on_end)),
      heard_at_(Clock::now()),
      handshake_ends_at_(heard_at_ +
                         std::chrono::milliseconds(context.options.handshake_timeout_ms)) {}

StreamConnection::~StreamConnection() {
  ConnectionListHook::unlink();
  on_end_();
}

Awaitable<void> StreamConnection::Finish(std::shared_ptr<StreamConnection> self) {
  // A peer that vanished hears nothing; one that was told why gets the chance to read it.
  if (self->state() == State::kClosing && self->stream().next_layer().is_open()) {
    co_await Linger(self);
  }
  self->Disarm();
  self->LeaveHub();
  self->stream().Abort();
}

Awaitable<void> StreamConnection::Linger(std::shared_ptr<StreamConnection> self) {
  // Closing a socket with unread bytes resets it, and the peer may lose what it was told. So: send
  // all, say that was all, and read until the peer is done too or the wheel closes the socket.
  self->reader_done_ = true;
  self->ShutDownWhenDrained();
  self->buffer() = std::string(kDiscardBytes, '\0');
  Socket& socket = self->stream().next_layer();
  for (;;) {
    const asio::mutable_buffer room(self->buffer().data(), self->buffer().size());
    const auto [error, bytes] = co_await socket.async_read_some(room, kUseTuple);
    if (error) break;
  }
}

// ---- Writing ----

void StreamConnection::Send(FramesPtr frames, size_t first, FrameTag tag) {
  stream().Queue(std::move(frames), first, tag);
}

std::vector<Subscriber::TakenBack> StreamConnection::TakeBack(
    const absl::flat_hash_set<uint32_t>& sources) {
  const size_t before = stream().queued_frames();
  std::vector<TakenBack> taken = stream().TakeBack(sources);
  if (taken.empty()) return taken;
  Relieved().Add();
  FramesTakenBack().Add(before - stream().queued_frames());
  return taken;
}

bool StreamConnection::OverBound() const {
  return stream().queued_bytes() > context_.options.max_queued_bytes ||
         stream().queued_frames() > context_.options.max_queued_events;
}

// While all queues together are large, who has something waiting gets no replay on top of it.
bool StreamConnection::RoomNow() const {
  return stream().queued_bytes() < context_.options.max_queued_bytes / 2 &&
         stream().queued_frames() < context_.options.max_queued_events / 2 &&
         (stream().drained() || !context_.turn.queues().budget().tight());
}

bool StreamConnection::HasRoom() {
  if (RoomNow()) return true;
  wants_room_ = true;
  return false;
}

void StreamConnection::OnWritten() {
  if (state() == State::kClosing) {
    LeaveHub();
    return ShutDownWhenDrained();
  }
  if (OverBound()) {
    OnRelieve();
    if (OverBound()) return CloseSlow("queue", "the connection does not take what is sent to it");
  }
  if (wants_room_ && in_hub() && RoomNow()) {
    wants_room_ = false;
    context_.hub->OnRoom(this);
  }
}

void StreamConnection::OnRelieve() {
  if (in_hub() && state() == State::kConnected) context_.hub->OnOverflow(this);
}

void StreamConnection::OnGiveUp(QueueWatch::Queue::Cause cause) {
  if (cause == QueueWatch::Queue::Cause::kStalled) {
    return CloseSlow("stalled", "the connection has taken nothing for --stall-timeout-ms");
  }
  CloseSlow("memory",
            "all connections together hold --max-queued-bytes-total, this one much of it");
}

void StreamConnection::CloseSlow(const char* cause, std::string_view message) {
  if (state() == State::kClosing) return;
  CountSlowConnectionClosed(cause);
  stream().DropUnsent();
  Close(CloseCode::kSlowConsumer, message);
}

// ---- Deadlines ----

void StreamConnection::OnAdmitted() {
  ping_at_ = Clock::now() + std::chrono::milliseconds(context_.options.heartbeat_ms);
}

void StreamConnection::ArmNext() {
  Clock::time_point next = handshake_ends_at_;
  if (state() == State::kClosing) {
    next = closing_ends_at();
  } else if (state() == State::kConnected) {
    next = std::min(ping_at_, token_ends_at());
    if (answers_pings()) {
      next = std::min(next, heard_at_ + std::chrono::milliseconds(static_cast<int64_t>(
                                            kSilentHeartbeats * context_.options.heartbeat_ms)));
    }
  }
  context_.wheel.Arm(*this, next);
}

void StreamConnection::OnTimer(TimerWheel::Time now) {
  const auto hold = shared_from_this();
  const std::chrono::milliseconds heartbeat(context_.options.heartbeat_ms);
  switch (state()) {
    case State::kConnecting:
      Close(CloseCode::kTimeout, "no `connect` within --handshake-timeout-ms");
      break;
    case State::kConnected:
      if (now >= token_ends_at()) {
        Close(CloseCode::kUnauthenticated, "the token has expired");
      } else if (answers_pings() && now - heard_at_ >= kSilentHeartbeats * heartbeat) {
        Close(CloseCode::kTimeout, "nothing was heard for 2.5 heartbeats");
      } else if (now >= ping_at_) {
        Send(context_.pings[static_cast<size_t>(encoding())], 0);
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

void StreamConnection::ReportCutOff() {
  const size_t untaken = stream().untaken_bytes();
  if (closed_as() == nullptr || untaken == 0) return;
  CutOffs(*closed_as()).Add();
  const auto left_out = context_.cut_off_lines.Admit(Clock::now());
  if (!left_out) return;
  Log(Severity::kInfo, "a browser did not read why its connection was closed",
      {{"user_id", user().str()},
       {"connection_id", user().empty() ? "" : id()},
       {"code", std::to_string(static_cast<uint16_t>(closed_as()->code))},
       {"reason", std::string(closed_as()->name)},
       {"untaken_bytes", std::to_string(untaken)},
       {"left_out", std::to_string(*left_out)}});
}

void StreamConnection::ShutDownWhenDrained() {
  if (!reader_done_ || !stream().drained()) return;
  boost::system::error_code ignored;
  stream().next_layer().shutdown(Socket::shutdown_send, ignored);
}

}  // namespace clarion::gateway
