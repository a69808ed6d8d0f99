// One browser's WebSocket, from the upgrade to its end.
//
// One reading coroutine; everything written goes through the FrameStream below Beast. All deadlines
// of a connection (its first frame, heartbeats, the token's end, the end of closing) share one
// entry in the loop's timer wheel. Idle connections are many: this object is kept small, and its
// buffer is given back after each large message.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "boost/asio/awaitable.hpp"
#include "boost/beast/http/empty_body.hpp"
#include "boost/beast/http/message.hpp"
#include "boost/beast/websocket/stream.hpp"
#include "clarion/v1/stream.pb.h"
#include "gateway/connection/context.h"
#include "gateway/connection/frame_stream.h"
#include "gateway/hub/hub.h"

namespace clarion::gateway {

using UpgradeRequest = boost::beast::http::request<boost::beast::http::empty_body>;

// On the loop's thread only. Owns itself: it lives until its coroutine ends.
class Connection final : public Subscriber,
                         private FrameStream::Owner,
                         private TimerWheel::Entry,
                         private ConnectionListHook,
                         public std::enable_shared_from_this<Connection> {
 public:
  // `request` asks for an upgrade to the subprotocol of `encoding`, or names none.
  // `on_end` is called once, when everything of the connection is over.
  static void Start(ConnectionContext& context, Socket socket, UpgradeRequest request,
                    Encoding encoding, std::function<void()> on_end);
  ~Connection() override;

  // Subscriber.
  Encoding encoding() const override { return encoding_; }
  using Subscriber::Send;
  void Send(FramesPtr frames, size_t first, FrameTag tag) override;
  std::vector<TakenBack> TakeBack(const absl::flat_hash_set<uint32_t>& sources) override;
  bool HasRoom() const override;
  Mark mark() const override {
    return {.written = stream().written_bytes(),
            .queued = stream().written_bytes() + stream().queued_bytes()};
  }
  void Close(CloseCode code, std::string_view message) override;

 private:
  using Clock = std::chrono::steady_clock;
  using Stream = boost::beast::websocket::stream<FrameStream, false>;
  template <class T>
  using Awaitable = boost::asio::awaitable<T, boost::asio::io_context::executor_type>;

  enum class State : uint8_t {
    kConnecting,  // no valid `connect` yet
    kConnected,
    kClosing,  // the close frame is queued; nothing is said or heard any more
  };

  Connection(ConnectionContext& context, Socket socket, Encoding encoding,
             std::function<void()> on_end);

  // The one coroutine: upgrade, read until the end, linger.
  static Awaitable<void> Run(std::shared_ptr<Connection> self,
                             std::unique_ptr<UpgradeRequest> request);
  static Awaitable<bool> Upgrade(std::shared_ptr<Connection> self,
                                 std::unique_ptr<UpgradeRequest> request);
  static Awaitable<void> Linger(std::shared_ptr<Connection> self);
  std::string id() const { return context_.id_prefix + "-" + std::to_string(number_); }
  FrameStream& stream() { return stream_.next_layer(); }
  const FrameStream& stream() const { return stream_.next_layer(); }

  // FrameStream::Owner.
  std::shared_ptr<void> Hold() override { return shared_from_this(); }
  void OnWritten() override;
  void OnBeastClose(uint16_t code) override;
  void OnRelieve() override;
  void OnGiveUp(QueueWatch::Queue::Cause cause) override;
  // TimerWheel::Entry.
  void OnTimer(TimerWheel::Time now) override;
  void ArmNext();
  // ConnectionListHook.
  void GoAway(uint32_t reconnect_after_ms) override;
  bool FollowsOpenRun() const override;
  void Abort() override { stream().Abort(); }

  // Reading.
  void OnRead(size_t bytes);
  void OnMessage(std::string_view bytes);
  void OnControlFrame();
  void GrowBuffer();
  void RefuseHandshake();
  void ReleaseBuffer(size_t keep);
  // Takes one token of the frame rate; false: closed for having none.
  bool WithinRate(Clock::time_point now);

  // Frames of the page.
  void OnFirstFrame(const v1::ClientFrame& frame);
  void OnFrame(const v1::ClientFrame& frame);
  void OnRefresh(const v1::Refresh& refresh, const std::string& request_id);
  absl::StatusOr<VerifiedToken> CheckToken(const std::string& token) const;
  void Admit(const v1::Connect& connect, const VerifiedToken& token, const std::string& request_id);
  void BecomeConnected(const UserId& user);
  void KeepToken(const VerifiedToken& token);

  // Writing.
  void SendMessage(const v1::ServerFrame& frame);
  void SendError(Reason reason, std::string_view message, const std::string& request_id);
  bool OverBound() const;
  bool RoomNow() const;
  // It could not keep up. What it has not got it gets when it comes back.
  void CloseSlow(const char* cause, std::string_view message);

  // Ending.
  void CloseBy(const CloseRow& row, std::string_view message, uint32_t retry_after_ms);
  void BeginClosing(std::string_view reason, v1::ConnectionState state, FramesPtr last_words);
  void LeaveHub();
  void ShutDownWhenDrained();
  // It was closed by us: says so if the peer has not taken that.
  void ReportCutOff();

  ConnectionContext& context_;
  Stream stream_;
  std::function<void()> on_end_;
  UserId user_;
  std::string buffer_;                     // of the message being read
  size_t buffered_ = 0;                    // of buffer_
  HandshakeBytes::Share handshake_share_;  // of buffer_, until the connection is authenticated
  std::string_view end_reason_;            // a constant: why it ended, for the hub
  const CloseRow* closed_as_ = nullptr;    // null: not by us
  uint64_t number_ = 0;                    // of its connection id
  // When: the last frame came, the next ping goes, the token ends, the phase (connecting or
  // closing) must be over.
  Clock::time_point heard_at_;
  Clock::time_point ping_at_;
  Clock::time_point token_ends_at_;
  Clock::time_point phase_ends_at_;
  // The bucket of the frame rate: tokens at rate_at_.
  Clock::time_point rate_at_;
  float rate_tokens_;
  v1::ConnectionState end_state_ = v1::CONNECTION_STATE_DISCONNECTED;
  const Encoding encoding_;
  State state_ = State::kConnecting;
  bool in_hub_ = false;
  bool user_counted_ = false;
  bool reader_done_ = false;
  mutable bool wants_room_ = false;  // HasRoom() said no: tell the hub when there is
};

}  // namespace clarion::gateway
