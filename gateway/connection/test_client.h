// For tests: a blocking WebSocket client that does what it is told, however wrong.
#pragma once

#include <string>
#include <string_view>

#include "boost/asio/connect.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/read.hpp"
#include "boost/asio/write.hpp"
#include "boost/beast/core/buffers_to_string.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/field.hpp"
#include "boost/beast/websocket/stream.hpp"
#include "boost/json/object.hpp"
#include "boost/json/parse.hpp"
#include "boost/json/value.hpp"
#include "gateway/auth/token_verifier.h"
#include "gateway/http/subprotocol.h"

namespace clarion::gateway {

class TestClient {
 public:
  explicit TestClient(uint16_t port, Encoding encoding = Encoding::kJson) : stream_(io_) {
    stream_.next_layer().connect({boost::asio::ip::address_v4::loopback(), port});
    const std::string protocol(SubprotocolOf(encoding));
    stream_.set_option(boost::beast::websocket::stream_base::decorator(
        [protocol](boost::beast::websocket::request_type& request) {
          request.set(boost::beast::http::field::sec_websocket_protocol, protocol);
        }));
    boost::beast::websocket::response_type response;
    stream_.handshake(response, "127.0.0.1", "/v1/stream");
    protocol_ = std::string(response[boost::beast::http::field::sec_websocket_protocol]);
    stream_.text(encoding == Encoding::kJson);
  }

  void Send(std::string_view message) {
    boost::system::error_code ignored;
    stream_.write(boost::asio::buffer(message.data(), message.size()), ignored);
  }
  void Binary(std::string_view message) {
    stream_.binary(true);
    Send(message);
  }
  // Bytes as they are, no frame made of them.
  void Raw(std::string_view bytes) {
    boost::system::error_code ignored;
    boost::asio::write(stream_.next_layer(), boost::asio::buffer(bytes.data(), bytes.size()),
                       ignored);
  }
  // The next message; empty: closed (or broken).
  std::string NextBytes() {
    boost::beast::flat_buffer buffer;
    boost::system::error_code error;
    stream_.read(buffer, error);
    if (error) return "";
    return boost::beast::buffers_to_string(buffer.data());
  }
  // The next frame; {"type":"closed","code":…} at the end.
  boost::json::object Next() {
    const std::string bytes = NextBytes();
    if (bytes.empty()) return {{"type", "closed"}, {"code", stream_.reason().code}};
    return boost::json::parse(bytes).as_object();
  }
  // Skips pings.
  boost::json::object NextFrame() {
    for (;;) {
      if (boost::json::object frame = Next(); frame.at("type") != "ping") return frame;
    }
  }

  static std::string Token(const std::string& secret, const std::string& user,
                           std::chrono::milliseconds life = std::chrono::hours(1)) {
    return SignDevToken(secret, {}, UserId(user), std::chrono::system_clock::now() + life);
  }
  // Sends `connect` and answers what came back.
  boost::json::object Connect(const std::string& token) {
    Send(R"({"type":"connect","protocol":1,"client":"test","token":")" + token + "\"}");
    return Next();
  }

  auto& stream() { return stream_; }
  const std::string& protocol() const { return protocol_; }

 private:
  boost::asio::io_context io_;
  boost::beast::websocket::stream<boost::asio::ip::tcp::socket> stream_;
  std::string protocol_;
};

}  // namespace clarion::gateway
