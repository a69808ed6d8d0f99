// A WebSocket, from the upgrade to its end.
//
// One reading coroutine; everything written goes through the FrameStream below Beast. Its buffer is
// given back after each large message.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "boost/beast/http/empty_body.hpp"
#include "boost/beast/http/message.hpp"
#include "boost/beast/websocket/stream.hpp"
#include "gateway/auth/handshake_bytes.h"
#include "gateway/connection/stream_connection.h"

namespace clarion::gateway {

using UpgradeRequest = boost::beast::http::request<boost::beast::http::empty_body>;

// On the loop's thread only.
class WebSocket final : public StreamConnection {
 public:
  // `request` asks for an upgrade to the subprotocol of `encoding`, or names none.
  // `on_end` is called once, when everything of the connection is over.
  static void Start(ConnectionContext& context, Socket socket, UpgradeRequest request,
                    Encoding encoding, std::function<void()> on_end);
  ~WebSocket() override {
    LeaveHub();  // which looks at the stream
    ReportCutOff();
  }

 private:
  using Stream = boost::beast::websocket::stream<FrameStream, false>;

  WebSocket(ConnectionContext& context, Socket socket, Encoding encoding,
            std::function<void()> on_end);

  // The one coroutine: upgrade, read until the end, linger.
  static Awaitable<void> Run(std::shared_ptr<WebSocket> self,
                             std::unique_ptr<UpgradeRequest> request);
  static Awaitable<bool> Upgrade(std::shared_ptr<WebSocket> self,
                                 std::unique_ptr<UpgradeRequest> request);

  FrameStream& stream() override { return stream_.next_layer(); }
  bool answers_pings() const override { return true; }
  FramesPtr LastWords(const CloseRow& row, std::string_view message,
                      uint32_t retry_after_ms) override;
  void OnBeastClose(uint16_t code) override;

  // Reading.
  void OnRead(size_t bytes);
  void OnText(std::string_view bytes);
  void OnControlFrame();
  void GrowBuffer();
  void RefuseHandshake();
  void ReleaseBuffer(size_t keep);

  Stream stream_;
  size_t buffered_ = 0;                    // of buffer()
  HandshakeBytes::Share handshake_share_;  // of buffer(), until the connection is authenticated
};

}  // namespace clarion::gateway
