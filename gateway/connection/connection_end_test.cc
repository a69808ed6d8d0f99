// Every way a connection ends, over real sockets, with a fake hub behind them.
#include <array>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>

#include "absl/time/time.h"
#include "gateway/connection/connection_testing.h"
#include "gateway/connection/websocket.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "telemetry/metrics.h"

namespace clarion::gateway {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

TEST(ConnectionEndTest, WhatThrowsEndsItsConnectionAloneAndLeavesTheHub) {
  TestLoop loop;
  TestClient other(loop.port());
  other.Connect(TokenOf("eve"));
  loop.hub.on_subscribe = [](Subscriber*, const v1::Subscribe&) {
    throw std::runtime_error("for a test");
  };
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  client.Send(R"({"type":"subscribe","thread_id":"t"})");
  ExpectClosed(client, "GATEWAY_UNAVAILABLE", 4500, true);
  ExpectLeft(loop, "CONNECTION_STATE_ERROR internal");
  other.Send(R"({"type":"nothing"})");
  EXPECT_EQ(other.Next().at("type"), "error");
}

TEST(ConnectionEndTest, WhatThrowsSomethingUnknownLeavesTheHubToo) {
  TestLoop loop;
  loop.hub.on_subscribe = [](Subscriber*, const v1::Subscribe&) { throw 7; };
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  client.Send(R"({"type":"subscribe","thread_id":"t"})");
  EXPECT_EQ(loop.hub.NextOf("close").what, "close");
  loop.WaitForEnds(1);
  EXPECT_EQ(client.Next().at("type"), "closed");
}

// README.md, "A WebSocket closes with": what each code says of coming back.
struct Promise {
  int code;
  bool reconnect;
  uint32_t least_ms;
};
constexpr std::array kPromises = {
    Promise{1000, false, 0},   Promise{1001, true, 100},  Promise{4400, false, 0},
    Promise{4401, true, 0},    Promise{4403, false, 0},   Promise{4408, true, 0},
    Promise{4413, false, 0},   Promise{4429, true, 5000}, Promise{4500, true, 1000},
    Promise{4503, true, 1000}, Promise{4507, true, 0},
};

TEST(ConnectionEndTest, EveryRowOfTheTableClosesWithItsCodeAndTheErrorBeforeItAgrees) {
  ASSERT_EQ(kPromises.size(), kCloseRows.size());
  TestLoop loop;
  for (const Promise& promise : kPromises) {
    SCOPED_TRACE(promise.code);
    const CloseRow& row = RowOf(static_cast<CloseCode>(promise.code));
    TestClient client(loop.port());
    client.Connect(TokenOf("ada"));
    loop.hub.NextOf("open");
    loop.Do([&] { loop.hub.last()->Close(row.code, "for a test"); });
    boost::json::object frame = client.Next();
    if (row.code == CloseCode::kGoingAway) {
      EXPECT_EQ(frame.at("type"), "going_away");
      EXPECT_GE(frame.at("reconnect_after_ms").to_number<uint32_t>(), promise.least_ms);
      frame = client.Next();
    }
    if (row.code != CloseCode::kNormal) {
      EXPECT_EQ(std::string(frame.at("code").as_string()), NameOf(row.reason));
      EXPECT_EQ(frame.contains("reconnect"), promise.reconnect);
      const auto* retry_after = frame.if_contains("retry_after_ms");
      EXPECT_GE(retry_after ? retry_after->to_number<uint32_t>() : 0, promise.least_ms);
      const std::string user_message(frame.at("user_message").as_string());
      EXPECT_EQ(user_message, row.user_message);
      if (!promise.reconnect) {
        EXPECT_EQ(user_message.find("econnect"), std::string::npos) << user_message;
      }
      frame = client.Next();
    }
    EXPECT_EQ(frame.at("code"), promise.code);
  }
}

TEST(ConnectionEndTest, PeerThatClosesGetsItsCodeBack) {
  TestLoop loop;
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  boost::system::error_code error;
  client.stream().close({static_cast<boost::beast::websocket::close_code>(4123), "bye"}, error);
  EXPECT_FALSE(error) << error.message();
  ExpectLeft(loop, "CONNECTION_STATE_DISCONNECTED closed by the client");
}

TEST(ConnectionEndTest, PeerThatVanishesIsGone) {
  TestLoop loop;
  {
    TestClient client(loop.port());
    client.Connect(TokenOf("ada"));
  }
  ExpectLeft(loop, "CONNECTION_STATE_DISCONNECTED connection lost");
}

TEST(ConnectionEndTest, GatewayThatStopsSaysSo) {
  TestLoop loop;
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.GoAway();
  EXPECT_EQ(client.Next().at("type"), "going_away");
  ExpectClosed(client, "GATEWAY_UNAVAILABLE", 1001, true);
}

TEST(ConnectionEndTest, NoConnectInTimeIs4408) {
  TestLoop loop({.handshake_timeout_ms = 60});
  TestClient client(loop.port());
  ExpectClosed(client, "GATEWAY_UNAVAILABLE", 4408, true);
}

TEST(ConnectionEndTest, SilentPeerIsPingedThenClosedWith4408) {
  TestLoop loop({.heartbeat_ms = 60});
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  EXPECT_EQ(client.Next().at("type"), "ping");
  ExpectClosed(client, "GATEWAY_UNAVAILABLE", 4408, true);
}

TEST(ConnectionEndTest, PeerThatAnswersPingsStays) {
  TestLoop loop({.heartbeat_ms = 1'000});
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  // Longer than 2.5 heartbeats.
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(client.Next().at("type"), "ping") << i;
    client.Send(R"({"type":"pong"})");
  }
}

TEST(ConnectionEndTest, TokenThatEndsClosesWith4401UnlessRefreshed) {
  TestLoop loop;
  TestClient client(loop.port());
  // Signed to the second, and a second of leeway: between one and two of them.
  client.Connect(TokenOf("ada", 1s));
  client.Send(R"({"type":"refresh","id":"r","token":")" + TokenOf("ada", 2s) + "\"}");
  const boost::json::object refreshed = client.Next();
  EXPECT_EQ(refreshed.at("type"), "refreshed");
  EXPECT_EQ(refreshed.at("id"), "r");
  EXPECT_TRUE(refreshed.contains("token_expires_at"));
  ExpectClosed(client, "UNAUTHENTICATED", 4401, true);
}

TEST(ConnectionEndTest, TokenAcceptedByLeewayHoldsUntilTheLeewayEnds) {
  TestLoop loop({.heartbeat_ms = 1'000}, 100, 1min);
  TestClient client(loop.port());
  const auto before = std::chrono::system_clock::now();
  const boost::json::object connected = client.Connect(TokenOf("ada", -10s));
  ASSERT_EQ(connected.at("type"), "connected") << connected;
  // What the page is told is the token's own end, so that it gets a new one at once.
  EXPECT_LT(std::string(connected.at("token_expires_at").as_string()),
            absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromChrono(before), absl::UTCTimeZone()));
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(client.Next().at("type"), "ping") << i;
    client.Send(R"({"type":"pong"})");
  }
}

TEST(ConnectionEndTest, RefreshWithAnothersOrABadTokenIsRefusedAndTheConnectionStays) {
  TestLoop loop;
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  client.Send(R"({"type":"refresh","id":"1","token":")" + TokenOf("eve") + "\"}");
  EXPECT_EQ(client.Next().at("code"), "PERMISSION_DENIED");
  client.Send(R"({"type":"refresh","id":"2","token":"x.y.z"})");
  EXPECT_EQ(client.Next().at("code"), "UNAUTHENTICATED");
  client.Send(R"({"type":"subscribe","id":"3","thread_id":"t"})");
  EXPECT_EQ(loop.hub.NextOf("subscribe").request_id, "3");
}

struct Garbage {
  std::string message;
  std::string reason;
  int code;
};

TEST(ConnectionEndTest, WrongFirstFramesAreNamedAndClosed) {
  TestLoop loop;
  for (const Garbage& c : {
           Garbage{"not json", "CONTEXT_INVALID", 4400},
           Garbage{"{\"type\":", "CONTEXT_INVALID", 4400},
           Garbage{std::string(5000, '['), "CONTEXT_INVALID", 4400},
           Garbage{"[]", "CONTEXT_INVALID", 4400},
           Garbage{R"({"type":"nothing"})", "CONTEXT_INVALID", 4400},
           Garbage{R"({"type":"subscribe","thread_id":"t"})", "CONTEXT_INVALID", 4400},
           Garbage{R"({"type":"connect","protocol":2,"token":"x"})", "CONTEXT_INVALID", 4400},
           Garbage{R"({"type":"connect","protocol":1})", "UNAUTHENTICATED", 4401},
           Garbage{R"({"type":"connect","protocol":1,"token":"no.such.token"})", "UNAUTHENTICATED",
                   4401},
           Garbage{R"({"type":"connect","protocol":1,"token":")" + TokenOf("ada", -1h) + "\"}",
                   "UNAUTHENTICATED", 4401},
       }) {
    SCOPED_TRACE(c.message.substr(0, 60));
    TestClient client(loop.port());
    client.Send(c.message);
    ExpectClosed(client, c.reason, c.code, c.code == 4401);
  }
  EXPECT_TRUE(loop.hub.Quiet());
}

TEST(ConnectionEndTest, UnreadableFramesCloseWith4400) {
  TestLoop loop;
  const auto after_connect = [&](const std::function<void(TestClient&)>& act) {
    TestClient client(loop.port());
    client.Connect(TokenOf("ada"));
    act(client);
    ExpectClosed(client, "CONTEXT_INVALID", 4400, false);
  };
  after_connect([](TestClient& client) { client.Send("{{{"); });
  after_connect([](TestClient& client) { client.Binary("{}"); });
  after_connect([](TestClient& client) { client.Send("{\"type\":\"\xff\xfe\"}"); });
  // Below WebSocket: unmasked; a reserved bit; an unknown opcode; a control frame in fragments.
  after_connect([](TestClient& client) { client.Raw(std::string("\x81\x02{}", 4)); });
  after_connect([](TestClient& client) { client.Raw(std::string("\xc1\x80\0\0\0\0", 6)); });
  after_connect([](TestClient& client) { client.Raw(std::string("\x83\x80\0\0\0\0", 6)); });
  after_connect([](TestClient& client) { client.Raw(std::string("\x09\x80\0\0\0\0", 6)); });
}

TEST(ConnectionEndTest, OversizedMessagesCloseWith4413) {
  TestLoop loop({.max_message_bytes = 4096});
  {
    TestClient client(loop.port());
    client.Connect(TokenOf("ada"));
    client.Send(std::string(4097, ' '));
    ExpectClosed(client, "BUFFER_OVERFLOW", 4413, false);
  }
  {
    TestClient client(loop.port());
    client.Connect(TokenOf("ada"));
    client.stream().write_buffer_bytes(512);
    client.Send(std::string(1'000'000, ' '));
    ExpectClosed(client, "BUFFER_OVERFLOW", 4413, false);
  }
  {
    // A header that promises 2^62 bytes costs nothing until they come.
    TestClient client(loop.port());
    client.Connect(TokenOf("ada"));
    client.Raw(std::string("\x81\xff\x40\0\0\0\0\0\0\0\0\0\0\0", 14) + std::string(5000, ' '));
    ExpectClosed(client, "BUFFER_OVERFLOW", 4413, false);
  }
}

TEST(ConnectionEndTest, TooManyFramesCloseWith4429) {
  TestLoop loop({.frames_per_second = 1, .frames_burst = 10});
  {
    TestClient client(loop.port());
    client.Connect(TokenOf("ada"));
    for (int i = 0; i < 15; ++i) client.Send(R"({"type":"pong"})");
    ExpectClosed(client, "RATE_LIMITED", 4429, true);
  }
  {
    TestClient client(loop.port());
    client.Connect(TokenOf("ada"));
    for (int i = 0; i < 15; ++i) client.stream().ping("");
    ExpectClosed(client, "RATE_LIMITED", 4429, true);
  }
}

TEST(ConnectionEndTest, MoreConnectionsThanAUserMayHaveCloseWith4429) {
  TestLoop loop({}, 2);
  TestClient first(loop.port());
  first.Connect(TokenOf("ada"));
  {
    TestClient second(loop.port());
    second.Connect(TokenOf("ada"));
    TestClient third(loop.port());
    third.Send(R"({"type":"connect","protocol":1,"token":")" + TokenOf("ada") + "\"}");
    ExpectClosed(third, "RATE_LIMITED", 4429, true);
    TestClient eve(loop.port());
    EXPECT_EQ(eve.Connect(TokenOf("eve")).at("type"), "connected");
  }
  loop.WaitForEnds(3);
  TestClient again(loop.port());
  EXPECT_EQ(again.Connect(TokenOf("ada")).at("type"), "connected");
}

// ---- Browsers that do not read ----

uint64_t CutOffs(const char* code) {
  return GetCounter("clarion_connection_cut_offs_total", "", {{"code", code}}).value();
}

// Sends what the client does not read until the kernel takes no more and some of it waits here.
void Fill(TestLoop& loop) {
  while (loop.Do([&] { return loop.hub.last()->HasRoom(); })) {
    loop.Do([&] { loop.hub.last()->Send(EventFrame(1, 50'000), 0); });
    loop.TurnOver();
  }
}

TEST(ConnectionEndTest, SlowConsumerThatNeverReadsIsCutOffWithALineAndACount) {
  const uint64_t before = CutOffs("slow_consumer");
  testing::internal::CaptureStderr();
  TestLoop loop({.close_timeout_ms = 100, .max_queued_bytes = 128 * 1024});
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.hub.NextOf("open");
  Fill(loop);
  loop.Do([&] { loop.hub.last()->Send(EventFrame(1, 200'000), 0); });
  loop.WaitForEnds(1);
  EXPECT_EQ(CutOffs("slow_consumer"), before + 1);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::AllOf(HasSubstr("did not read why its connection was closed"),
                             HasSubstr("user_id=ada connection_id=g-1-1 code=4507 "
                                       "reason=slow_consumer untaken_bytes=")));
}

TEST(ConnectionEndTest, GatewayThatStopsSaysWhomItCouldNotTell) {
  const uint64_t before = CutOffs("going_away");
  testing::internal::CaptureStderr();
  auto loop = std::make_unique<TestLoop>();
  TestClient client(loop->port());
  client.Connect(TokenOf("ada"));
  loop->hub.NextOf("open");
  Fill(*loop);
  loop->GoAway();
  loop->TurnOver();
  loop.reset();
  EXPECT_EQ(CutOffs("going_away"), before + 1);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("user_id=ada connection_id=g-1-1 code=1001 reason=going_away"));
}

TEST(ConnectionEndTest, BrowserThatReadsAndDoesNotLeaveIsNotCountedAsCutOff) {
  const uint64_t before = CutOffs("internal");
  TestLoop loop({.close_timeout_ms = 100});
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.hub.NextOf("open");
  loop.Do([&] { loop.hub.last()->Close(CloseCode::kInternal, "for a test"); });
  // Its TCP takes the farewell; it answers nothing.
  loop.WaitForEnds(1);
  EXPECT_EQ(CutOffs("internal"), before);
}

// ---- Bytes before authentication ----

// Half of a message: its buffer is 128 KiB, of which 120 KiB count.
constexpr size_t kHalfMessageCounts = (128 - 8) * 1024;

void SendHalfMessage(TestClient& client) {
  client.Raw(std::string("\x81\xff\0\0\0\0\0\x05\0\0\0\0\0\0", 14) + std::string(100'000, ' '));
}
std::string ConnectOf(const std::string& user, size_t padding) {
  return R"({"type":"connect","protocol":1,"client":"test","token":")" + TokenOf(user) + "\"" +
         std::string(padding, ' ') + "}";
}
void WaitForHandshakeBytes(TestLoop& loop, int64_t bytes) {
  while (GetGauge("clarion_handshake_bytes", "").value() != bytes) loop.TurnOver();
}

TEST(ConnectionEndTest, MoreBytesBeforeConnectThanTheProcessMayHoldCloseWith4429) {
  const Counter& refusals = GetCounter("clarion_handshake_refusals_total", "");
  const uint64_t before = refusals.value();
  testing::internal::CaptureStderr();
  TestLoop loop({}, 100, 1s, kHalfMessageCounts);
  {
    TestClient holder(loop.port());
    SendHalfMessage(holder);
    WaitForHandshakeBytes(loop, kHalfMessageCounts);
    TestClient refused(loop.port());
    refused.Send(ConnectOf("ada", 20'000));
    ExpectClosed(refused, "RATE_LIMITED", 4429, true);
    EXPECT_EQ(refusals.value(), before + 1);
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                testing::AllOf(HasSubstr("--max-handshake-bytes"), HasSubstr("peer=127.0.0.1")));
    // Of usual length, and messages of who is connected.
    TestClient usual(loop.port());
    usual.Send(ConnectOf("ada", 7'000));
    EXPECT_EQ(usual.Next().at("type"), "connected");
    usual.Send(R"({"type":"nothing","id":")" + std::string(100'000, 'x') + "\"}");
    EXPECT_EQ(usual.Next().at("code"), "CONTEXT_INVALID");
    EXPECT_EQ(refusals.value(), before + 1);
  }
  // The holder is gone, and its bytes with it.
  loop.WaitForEnds(3);
  WaitForHandshakeBytes(loop, 0);
  TestClient again(loop.port());
  again.Send(ConnectOf("ada", 20'000));
  EXPECT_EQ(again.Next().at("type"), "connected");
  loop.TurnOver();
  WaitForHandshakeBytes(loop, 0);
}

TEST(ConnectionEndTest, BytesOfAHandshakeThatFailedAreGivenBackBeforeItsSocketCloses) {
  TestLoop loop({.handshake_timeout_ms = 200, .close_timeout_ms = 60'000}, 100, 1s,
                kHalfMessageCounts);
  TestClient unreadable(loop.port());
  unreadable.Send(std::string(100'000, ' '));
  ExpectClosed(unreadable, "CONTEXT_INVALID", 4400, false);
  WaitForHandshakeBytes(loop, 0);
  // Closed while more is awaited.
  TestClient late(loop.port());
  SendHalfMessage(late);
  ExpectClosed(late, "GATEWAY_UNAVAILABLE", 4408, true);
  WaitForHandshakeBytes(loop, 0);
}

TEST(ConnectionEndTest, RandomBytesDoNoHarm) {
  TestLoop loop({.handshake_timeout_ms = 1'000});
  std::mt19937 random(7);
  const auto bytes = [&](size_t most) {
    std::string out(1 + random() % most, '\0');
    for (char& byte : out) byte = static_cast<char>(random());
    return out;
  };
  for (int i = 0; i < 100; ++i) {
    TestClient client(loop.port());
    if (i % 2 == 0) client.Connect(TokenOf("ada"));
    client.Raw(bytes(400));
  }
  for (int i = 0; i < 100; ++i) {
    boost::asio::io_context io;
    boost::asio::ip::tcp::socket socket(io);
    socket.connect({boost::asio::ip::address_v4::loopback(), loop.port()});
    boost::system::error_code ignored;
    boost::asio::write(socket, boost::asio::buffer(bytes(4'000)), ignored);
  }
  loop.WaitForEnds(200);
  TestClient client(loop.port());
  EXPECT_EQ(client.Connect(TokenOf("ada")).at("type"), "connected");
}

}  // namespace
}  // namespace clarion::gateway
