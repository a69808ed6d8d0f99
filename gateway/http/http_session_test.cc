// HTTP over real sockets, on the port where connections are upgraded.
#include "gateway/http/http_session.h"

#include <string>

#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/read.hpp"
#include "boost/asio/write.hpp"
#include "gateway/connection/fake_hub.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

using ::testing::HasSubstr;

std::string HttpExchange(uint16_t port, const std::string& request) {
  boost::asio::io_context io;
  boost::asio::ip::tcp::socket socket(io);
  socket.connect({boost::asio::ip::address_v4::loopback(), port});
  boost::system::error_code ignored;
  boost::asio::write(socket, boost::asio::buffer(request), ignored);
  std::string answer;
  boost::asio::read(socket, boost::asio::dynamic_buffer(answer), ignored);
  return answer;
}

TEST(HttpSessionTest, RequestsOnOneConnectionAreAnsweredInOrder) {
  TestLoop loop;
  const std::string answers = HttpExchange(loop.port(),
                                           "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nHEAD / "
                                           "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answers, ::testing::StartsWith("HTTP/1.1 200 OK"));
  EXPECT_THAT(answers, HasSubstr("ok\nHTTP/1.1 200 OK"));
  EXPECT_TRUE(answers.ends_with("\r\n\r\n")) << "HEAD has no body";
}

TEST(HttpSessionTest, WhatIsNoRequestIsRefused) {
  TestLoop loop;
  EXPECT_THAT(HttpExchange(loop.port(), "nonsense\r\n\r\n"), HasSubstr("400 Bad Request"));
  EXPECT_THAT(
      HttpExchange(loop.port(), "GET / HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n"),
      HasSubstr(" 431 "));
  EXPECT_THAT(
      HttpExchange(loop.port(), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"),
      HasSubstr(" 405 "));
  EXPECT_THAT(HttpExchange(loop.port(), "GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n"),
              HasSubstr(" 426 "));
  EXPECT_THAT(
      HttpExchange(
          loop.port(),
          "GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly"),
      HasSubstr("400 Bad Request"));
}

TEST(HttpSessionTest, RequestThatDoesNotComeInTimeIsCutOff) {
  TestLoop loop({.handshake_timeout_ms = 60});
  EXPECT_EQ(HttpExchange(loop.port(), "GET / HT"), "");
}

}  // namespace
}  // namespace clarion::gateway
