// What a page's frames mean to its connection. Those about threads go on to the hub.
#include <utility>

#include "gateway/connection/client_frame.h"
#include "gateway/connection/connection.h"
#include "proto/contract/error.h"

namespace clarion::gateway {
namespace {

std::chrono::system_clock::time_point WallNow() {
  return std::chrono::system_clock::now();
}

void SetTime(std::chrono::system_clock::time_point time, google::protobuf::Timestamp* out) {
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  out->set_seconds(ms / 1000);
  out->set_nanos(static_cast<int32_t>(ms % 1000 * 1'000'000));
}

}  // namespace

void Connection::OnMessage(const ClientMessage& message) {
  if (message.verdict == ClientMessage::Verdict::kUnreadable) {
    return Close(CloseCode::kBadRequest, message.problem);
  }
  if (message.verdict == ClientMessage::Verdict::kInvalid) {
    if (state_ == State::kConnecting) return Close(CloseCode::kBadRequest, message.problem);
    return SendError(Reason::kContextInvalid, message.problem, message.frame.id());
  }
  if (state_ == State::kConnecting) {
    OnFirstFrame(message.frame);
  } else {
    OnFrame(message.frame);
  }
}

void Connection::OnFirstFrame(const v1::ClientFrame& frame) {
  if (!frame.has_connect()) {
    return Close(CloseCode::kBadRequest, "the first frame must be `connect`");
  }
  Connect(frame.connect(), frame.id());
}

void Connection::Connect(const v1::Connect& connect, const std::string& request_id) {
  const absl::StatusOr<VerifiedToken> token = CheckToken(connect.token());
  if (!token.ok()) {
    const absl::string_view why = token.status().message();
    return Close(CloseCode::kUnauthenticated, std::string_view(why.data(), why.size()));
  }
  Admit(connect, *token, request_id);
}

absl::StatusOr<VerifiedToken> Connection::CheckToken(const std::string& token) const {
  if (const auto expires_at = context_.tickets.Redeem(token, WallNow())) {
    return VerifiedToken{UserId(kCanaryUser), *expires_at, *expires_at};
  }
  return context_.verifier.Verify(token, WallNow());
}

void Connection::Admit(const v1::Connect& connect, const VerifiedToken& token,
                       const std::string& request_id) {
  if (token.user.str() != kCanaryUser && !context_.user_limit.TryAcquire(token.user)) {
    return Close(CloseCode::kRateLimited, "the user has --max-connections-per-user connections");
  }
  BecomeConnected(token.user);
  OnAdmitted();
  KeepToken(token);
  ConnectionInfo info{
      .id = ConnectionId(MakeId()),
      .user = user_,
      .transport = transport_,
      .client = connect.client(),
      .connected_at = WallNow(),
      .unseen = unseen(),
  };

  v1::ServerFrame answer;
  answer.set_id(request_id);
  v1::Connected& connected = *answer.mutable_connected();
  connected.set_connection_id(info.id.str());
  connected.set_user_id(user_.str());
  connected.set_protocol(kProtocol);
  connected.set_heartbeat_ms(context_.options.heartbeat_ms);
  SetTime(token.expires_at, connected.mutable_token_expires_at());
  if (!resumed()) SendMessage(answer);

  in_hub_ = true;
  context_.hub->Open(this, std::move(info));
  for (const v1::Subscribe& subscribe : connect.subscribe()) {
    if (state_ == State::kClosing) return;
    context_.hub->Subscribe(this, subscribe, request_id);
  }
}

void Connection::KeepToken(const VerifiedToken& token) {
  // The wall clock may be set; what counts is how much longer the token holds from now on.
  const auto remaining =
      std::chrono::duration_cast<Clock::duration>(token.accepted_until - WallNow());
  constexpr Clock::duration kLongest = std::chrono::hours(24 * 365);
  token_ends_at_ = Clock::now() + std::min(remaining, kLongest);
  ArmNext();
}

void Connection::OnFrame(const v1::ClientFrame& frame) {
  switch (frame.frame_case()) {
    case v1::ClientFrame::kSubscribe:
      return context_.hub->Subscribe(this, frame.subscribe(), frame.id());
    case v1::ClientFrame::kUnsubscribe:
      return context_.hub->Unsubscribe(this, frame.unsubscribe(), frame.id());
    case v1::ClientFrame::kAck:
      return context_.hub->Ack(this, frame.ack(), frame.id());
    case v1::ClientFrame::kRefresh:
      return OnRefresh(frame.refresh(), frame.id());
    case v1::ClientFrame::kProbeReply:
      return context_.hub->ProbeReply(this, frame.probe_reply());
    case v1::ClientFrame::kPong:
      return;
    case v1::ClientFrame::kRunInput:
      return SendError(Reason::kContextInvalid, "run_input is reserved and not served", frame.id());
    case v1::ClientFrame::kConnect:
      return SendError(Reason::kContextInvalid, "this connection is connected already", frame.id());
    case v1::ClientFrame::FRAME_NOT_SET:
      break;
  }
  SendError(Reason::kContextInvalid, "the frame says nothing", frame.id());
}

void Connection::OnRefresh(const v1::Refresh& refresh, const std::string& request_id) {
  const absl::StatusOr<VerifiedToken> token = context_.verifier.Verify(refresh.token(), WallNow());
  if (!token.ok()) {
    const absl::string_view why = token.status().message();
    return SendError(Reason::kUnauthenticated, std::string_view(why.data(), why.size()),
                     request_id);
  }
  if (token->user != user_) {
    return SendError(Reason::kPermissionDenied, "the token is another user's", request_id);
  }
  KeepToken(*token);
  v1::ServerFrame answer;
  answer.set_id(request_id);
  SetTime(token->expires_at, answer.mutable_refreshed()->mutable_token_expires_at());
  SendMessage(answer);
}

}  // namespace clarion::gateway
