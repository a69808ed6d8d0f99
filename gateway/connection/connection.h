// One browser's connection, whatever carries it: who it is, what its frames mean, how it ends.
//
// What each transport adds stands in a file of its own: websocket.h, event_stream.h, poll.h; what
// those that have a standing socket share, in stream_connection.h. All deadlines of a connection
// share one entry in the loop's timer wheel. Idle connections are many: these objects are kept
// small.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "clarion/v1/stream.pb.h"
#include "gateway/connection/client_frame.h"
#include "gateway/connection/context.h"
#include "gateway/hub/hub.h"
#include "proto/contract/close_code.h"

namespace clarion::gateway {

// On the loop's thread only.
class Connection : public Subscriber, protected TimerWheel::Entry, protected ConnectionListHook {
 public:
  // It has left the hub by then.
  ~Connection() override;
  Encoding encoding() const override { return encoding_; }
  using Subscriber::Send;
  void Close(CloseCode code, std::string_view message) override;

 protected:
  using Clock = std::chrono::steady_clock;

  enum class State : uint8_t {
    kConnecting,  // no valid `connect` yet
    kConnected,
    kClosing,  // its last words are queued; nothing is said or heard any more
  };

  Connection(ConnectionContext& context, v1::Transport transport, Encoding encoding);

  // ---- What a transport says how ----
  // `connect` counts: before anything is sent.
  virtual void OnAdmitted() {}
  // Its name towards the service. Called once.
  virtual std::string MakeId();
  // The page has heard `connected` before, on this connection.
  virtual bool resumed() const { return false; }
  // See ConnectionInfo.
  virtual bool unseen() const { return false; }
  // What is said before the connection is closed by us, and how it is said: nothing follows it.
  virtual FramesPtr LastWords(const CloseRow& row, std::string_view message,
                              uint32_t retry_after_ms) = 0;
  virtual void SayLast(FramesPtr last_words) = 0;
  // A deadline changed.
  virtual void ArmNext() = 0;

  State state() const { return state_; }
  const UserId& user() const { return user_; }
  std::string id() const;
  const CloseRow* closed_as() const { return closed_as_; }
  Clock::time_point token_ends_at() const { return token_ends_at_; }
  // kClosing: when it has to be over.
  Clock::time_point closing_ends_at() const { return phase_ends_at_; }

  // ---- Frames of the page (connection_frames.cc) ----
  // Any frame, once connected; before that, `connect`.
  void OnMessage(const ClientMessage& message);
  // With a token that came beside the frames.
  void Connect(const v1::Connect& connect, const std::string& request_id);
  // Takes one token of the frame rate; false: closed for having none.
  bool WithinRate(Clock::time_point now);

  // ---- Writing ----
  void SendMessage(const v1::ServerFrame& frame);
  void SendError(Reason reason, std::string_view message, const std::string& request_id);

  // ---- Ending ----
  // ConnectionListHook.
  void GoAway(uint32_t reconnect_after_ms) override;
  bool FollowsOpenRun() const override;
  void CloseBy(const CloseRow& row, std::string_view message, uint32_t retry_after_ms);
  void BeginClosing(std::string_view reason, v1::ConnectionState state, FramesPtr last_words);
  void LeaveHub();
  // As LeaveHub, but the page comes back for it.
  void RestInHub(std::chrono::milliseconds lease);
  bool in_hub() const { return in_hub_ && context_.hub != nullptr; }

  ConnectionContext& context_;

 private:
  void OnFirstFrame(const v1::ClientFrame& frame);
  void OnFrame(const v1::ClientFrame& frame);
  void OnRefresh(const v1::Refresh& refresh, const std::string& request_id);
  absl::StatusOr<VerifiedToken> CheckToken(const std::string& token) const;
  void Admit(const v1::Connect& connect, const VerifiedToken& token, const std::string& request_id);
  void BecomeConnected(const UserId& user);
  void KeepToken(const VerifiedToken& token);

  UserId user_;
  std::string_view end_reason_;          // a constant: why it ended, for the hub
  const CloseRow* closed_as_ = nullptr;  // null: not by us
  uint64_t number_ = 0;                  // of its connection id
  Clock::time_point token_ends_at_;
  Clock::time_point phase_ends_at_;
  // The bucket of the frame rate: tokens at rate_at_.
  Clock::time_point rate_at_;
  float rate_tokens_;
  v1::ConnectionState end_state_ = v1::CONNECTION_STATE_DISCONNECTED;
  const v1::Transport transport_;
  const Encoding encoding_;
  State state_ = State::kConnecting;
  bool in_hub_ = false;
  bool user_counted_ = false;
};

}  // namespace clarion::gateway
