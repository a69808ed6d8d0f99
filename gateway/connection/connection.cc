// The connection's life: who it is, and how it ends. What frames mean: connection_frames.cc.
#include "gateway/connection/connection.h"

#include <algorithm>
#include <array>
#include <utility>

#include "gateway/connection/farewell.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace clarion::gateway {
namespace {

constexpr const char* NameOf(v1::Transport transport) {
  switch (transport) {
    case v1::TRANSPORT_SSE:
      return "sse";
    case v1::TRANSPORT_POLLING:
      return "polling";
    default:
      return "websocket";
  }
}

Gauge& StateGauge(v1::Transport transport, const char* state) {
  return GetGauge("clarion_connections", "Browsers' connections",
                  {{"transport", NameOf(transport)}, {"state", state}});
}
// Looked up once for each transport.
Gauge& Connecting(v1::Transport transport) {
  static const std::array<Gauge*, 3> gauges = {&StateGauge(v1::TRANSPORT_WEBSOCKET, "connecting"),
                                               &StateGauge(v1::TRANSPORT_SSE, "connecting"),
                                               &StateGauge(v1::TRANSPORT_POLLING, "connecting")};
  return *gauges[static_cast<size_t>(transport - v1::TRANSPORT_WEBSOCKET)];
}
Gauge& Connected(v1::Transport transport) {
  static const std::array<Gauge*, 3> gauges = {&StateGauge(v1::TRANSPORT_WEBSOCKET, "connected"),
                                               &StateGauge(v1::TRANSPORT_SSE, "connected"),
                                               &StateGauge(v1::TRANSPORT_POLLING, "connected")};
  return *gauges[static_cast<size_t>(transport - v1::TRANSPORT_WEBSOCKET)];
}

Counter& Closes(const CloseRow& row) {
  return GetCounter("clarion_connection_closes_total",
                    "Connections closed by the gateway, by close code",
                    {{"code", std::string(row.name)}});
}

}  // namespace

Connection::Connection(ConnectionContext& context, v1::Transport transport, Encoding encoding)
    : context_(context),
      rate_at_(Clock::now()),
      rate_tokens_(static_cast<float>(context.options.frames_burst)),
      transport_(transport),
      encoding_(encoding) {
  context_.connections.push_back(*this);
  Connecting(transport_).Add(1);
}

Connection::~Connection() {
  (user_counted_ ? Connected(transport_) : Connecting(transport_)).Add(-1);
  if (user_counted_ && user_.str() != kCanaryUser) context_.user_limit.Release(user_);
  ConnectionListHook::unlink();
}

std::string Connection::MakeId() {
  number_ = ++context_.last_id;
  return id();
}

std::string Connection::id() const {
  return context_.id_prefix + "-" + std::to_string(number_);
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

void Connection::SendMessage(const v1::ServerFrame& frame) {
  Send(Frames::OfMessage(encoding_, frame), 0);
}

void Connection::SendError(Reason reason, std::string_view message, const std::string& request_id) {
  CountFailure(NameOf(reason));
  SendMessage(ErrorFrame(reason, message, "", request_id));
}

void Connection::BecomeConnected(const UserId& user) {
  state_ = State::kConnected;
  user_ = user;
  user_counted_ = true;
  Connecting(transport_).Add(-1);
  Connected(transport_).Add(1);
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
  if (fault) CountFailure(clarion::NameOf(row.reason));
  BeginClosing(row.name, fault ? v1::CONNECTION_STATE_ERROR : v1::CONNECTION_STATE_DISCONNECTED,
               LastWords(row, message, retry_after_ms));
}

void Connection::BeginClosing(std::string_view reason, v1::ConnectionState state,
                              FramesPtr last_words) {
  state_ = State::kClosing;
  end_reason_ = reason;
  end_state_ = state;
  phase_ends_at_ = Clock::now() + std::chrono::milliseconds(context_.options.close_timeout_ms);
  ArmNext();
  // It leaves the hub at the end of this turn, when that was written.
  SayLast(std::move(last_words));
}

void Connection::LeaveHub() {
  // A loop that ends takes the hub away before its connections.
  if (!in_hub()) return;
  in_hub_ = false;
  if (end_reason_.empty()) end_reason_ = "connection lost";
  context_.hub->Close(this, end_state_, end_reason_);
}

void Connection::RestInHub(std::chrono::milliseconds lease) {
  if (!in_hub()) return;
  in_hub_ = false;
  context_.hub->Rest(this, lease);
}

}  // namespace clarion::gateway
