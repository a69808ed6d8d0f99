// Connections over real sockets, with a fake hub behind them: what is heard, what is said, and
// every way a connection ends.
#include "gateway/connection/connection.h"

#include <random>
#include <stdexcept>
#include <string>

#include "absl/time/time.h"
#include "boost/json/serialize.hpp"
#include "gateway/connection/fake_hub.h"
#include "gateway/connection/test_client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

using Call = FakeHub::Call;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

std::string TokenOf(const std::string& user, std::chrono::milliseconds life = 1h) {
  return TestClient::Token(TestLoop::kSecret, user, life);
}

// One event's frame with `bytes` of payload.
FramesPtr EventFrame(uint64_t offset, size_t bytes) {
  const auto event = std::make_shared<EncodedEvent>(
      R"("type":"custom","pad":")" + std::string(bytes, 'x') + "\"}", "");
  return Frames::OfEvents(Encoding::kJson, Offset(offset), std::vector<EventPtr>{event});
}

// `error` with this code, then the close frame with that one.
void ExpectClosed(TestClient& client, const std::string& reason, int code, bool reconnect) {
  const boost::json::object error = client.NextFrame();
  ASSERT_EQ(error.at("type"), "error") << error;
  EXPECT_EQ(std::string(error.at("code").as_string()), reason) << error;
  EXPECT_EQ(error.contains("reconnect"), reconnect) << error;
  EXPECT_TRUE(error.contains("user_message")) << error;
  EXPECT_EQ(client.Next().at("code"), code);
}

TEST(ConnectionTest, ConnectIsAnsweredAndItsSubscriptionsAreMadeAtOnce) {
  TestLoop loop;
  TestClient client(loop.port());
  EXPECT_EQ(client.protocol(), "clarion.v1.json");
  client.Send(R"({"type":"connect","id":"c","protocol":1,"token":")" + TokenOf("ada") +
              R"(","subscribe":[{"thread_id":"t1"},{"thread_id":"t2","from":"live"}]})");
  const boost::json::object connected = client.Next();
  EXPECT_EQ(connected.at("type"), "connected");
  EXPECT_EQ(connected.at("id"), "c");
  EXPECT_EQ(connected.at("connection_id"), "g-1-1");
  EXPECT_EQ(connected.at("user_id"), "ada");
  EXPECT_EQ(connected.at("protocol"), 1);
  EXPECT_EQ(connected.at("heartbeat_ms"), 25'000);
  EXPECT_TRUE(connected.contains("token_expires_at"));
  EXPECT_EQ(loop.hub.Next(), (Call{"open", "", "", "ada"}));
  EXPECT_EQ(loop.hub.Next(), (Call{"subscribe", "t1", "c", ""}));
  EXPECT_EQ(loop.hub.Next(), (Call{"subscribe", "t2", "c", ""}));
}

TEST(ConnectionTest, FramesAboutThreadsGoToTheHub) {
  TestLoop loop;
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.hub.NextOf("open");
  client.Send(R"({"type":"subscribe","id":"1","thread_id":"t"})");
  client.Send(R"({"type":"ack","id":"2","thread_id":"t","epoch":"e","offset":5})");
  client.Send(R"({"type":"pong"})");
  client.Send(R"({"type":"probe_reply","nonce":"n"})");
  client.Send(R"({"type":"unsubscribe","id":"3","thread_id":"t"})");
  EXPECT_EQ(loop.hub.Next(), (Call{"subscribe", "t", "1", ""}));
  EXPECT_EQ(loop.hub.Next(), (Call{"ack", "t", "2", "e:5"}));
  EXPECT_EQ(loop.hub.Next(), (Call{"unsubscribe", "t", "3", ""}));
}

TEST(ConnectionTest, BinarySubprotocolSpeaksProto) {
  TestLoop loop;
  TestClient client(loop.port(), Encoding::kProto);
  EXPECT_EQ(client.protocol(), "clarion.v1.proto");
  v1::ClientFrame connect;
  connect.mutable_connect()->set_token(TokenOf("ada"));
  connect.mutable_connect()->set_protocol(1);
  client.Send(connect.SerializeAsString());
  v1::ServerFrame frame;
  ASSERT_TRUE(frame.ParseFromString(client.NextBytes()));
  EXPECT_EQ(frame.connected().user_id(), "ada");
  EXPECT_TRUE(client.stream().got_binary());
  client.stream().text(true);
  client.Send("{}");
  ASSERT_TRUE(frame.ParseFromString(client.NextBytes()));
  EXPECT_EQ(frame.error().code(), "CONTEXT_INVALID");
  client.NextBytes();
  EXPECT_EQ(client.stream().reason().code, 4400);
}

TEST(ConnectionTest, RefusedFramesAreNamedAndTheConnectionStays) {
  TestLoop loop;
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  for (const char* frame : {R"({"type":"nothing","id":"1"})", R"({"type":"subscribe","id":"1"})",
                            R"({"type":"run_input","id":"1","kind":"cancel"})",
                            R"({"type":"connect","id":"1","protocol":1,"token":"x"})",
                            R"({"type":"pong","id":"1","extra":1})"}) {
    client.Send(frame);
    const boost::json::object error = client.Next();
    EXPECT_EQ(error.at("type"), "error") << frame;
    EXPECT_EQ(error.at("code"), "CONTEXT_INVALID") << frame;
    EXPECT_EQ(error.at("id"), "1") << frame;
  }
}

TEST(ConnectionTest, MessagesInFragmentsAndOfEverySizeAreRead) {
  TestLoop loop({.max_message_bytes = 4096});
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.hub.NextOf("open");
  for (const size_t padding : {0u, 20u, 60u, 61u, 62u, 63u, 64u, 127u, 500u, 1500u, 1536u, 4000u}) {
    std::string frame = R"({"type":"subscribe","thread_id":"t","id":"1")";
    frame += std::string(padding, ' ') + "}";
    client.stream().auto_fragment(padding % 2 == 0);
    client.stream().write_buffer_bytes(64);
    client.Send(frame);
    EXPECT_EQ(loop.hub.Next().what, "subscribe") << padding;
  }
  // Exactly at the bound.
  std::string frame = R"({"type":"subscribe","thread_id":"t")";
  frame += std::string(4096 - frame.size() - 1, ' ') + "}";
  client.Send(frame);
  EXPECT_EQ(loop.hub.Next().what, "subscribe");
}

// Every field of `connect` as long as stream.proto allows: 1,024 positions, as many subscriptions
// by name as a connection has by default, ids and token of full length.
std::string LongestConnect(const std::string& token) {
  const auto id = [](char kind, int number) {
    std::string text = kind + std::to_string(number);
    return text + std::string(kMaxIdBytes - text.size(), 'x');
  };
  const std::string epoch = id('e', 0);
  boost::json::array after;
  for (int i = 0; i < 1024; ++i) {
    after.push_back({{"thread_id", id('t', i)}, {"epoch", epoch}, {"offset", (1ull << 53) - 1}});
  }
  boost::json::array subscribe{{{"all", true}, {"after", std::move(after)}}};
  for (int i = 0; i < 128; ++i) {
    subscribe.push_back(
        {{"thread_id", id('n', i)}, {"after", {{"epoch", epoch}, {"offset", (1ull << 53) - 1}}}});
  }
  return boost::json::serialize(boost::json::object{{"type", "connect"},
                                                    {"id", id('c', 0)},
                                                    {"token", token},
                                                    {"protocol", 1},
                                                    {"client", std::string(256, 'x')},
                                                    {"subscribe", std::move(subscribe)}});
}

TEST(ConnectionTest, LongestConnectThatTheContractAllowsIsAccepted) {
  const ConnectionOptions options;
  TestLoop loop(options);
  // A token is 8 KiB at most; the test's own is shorter.
  EXPECT_LE(LongestConnect(std::string(8 * 1024, 'x')).size(), options.max_message_bytes);
  TestClient client(loop.port());
  int positions = 0;
  loop.hub.on_subscribe = [&](Subscriber*, const v1::Subscribe& subscribe) {
    positions += subscribe.positions_size();
  };
  client.Send(LongestConnect(TokenOf("ada")));
  ASSERT_EQ(client.Next().at("type"), "connected");
  for (int i = 0; i < 1 + 128; ++i) loop.hub.NextOf("subscribe");
  EXPECT_EQ(loop.Do([&] { return positions; }), 1024);
}

// ---- Writing ----

TEST(ConnectionTest, FramesQueuedInOneTurnLeaveInFewWrites) {
  TestLoop loop;
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.TurnOver();
  const uint64_t before = loop.writes();
  loop.Do([&] {
    for (uint64_t i = 1; i <= 100; ++i) loop.hub.last()->Send(EventFrame(i, 100), 0);
  });
  for (int i = 1; i <= 100; ++i) EXPECT_EQ(client.Next().at("offset"), i);
  EXPECT_EQ(loop.writes() - before, 2u) << "64 buffers in the first, the rest in the second";
}

TEST(ConnectionTest, OnlyTheFramesFromFirstOnAreSent) {
  TestLoop loop;
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.hub.NextOf("open");
  loop.Do([&] {
    const std::vector<EventPtr> events(4,
                                       std::make_shared<EncodedEvent>("\"type\":\"custom\"}", ""));
    const FramesPtr frames = Frames::OfEvents(Encoding::kJson, Offset(1), events);
    loop.hub.last()->Send(frames, 2);
    loop.hub.last()->Send(frames, 4);  // nothing
    loop.hub.last()->Send(frames, 3);
  });
  EXPECT_EQ(client.Next().at("offset"), 3);
  EXPECT_EQ(client.Next().at("offset"), 4);
  EXPECT_EQ(client.Next().at("offset"), 4);
}

TEST(ConnectionTest, PingOfThePeerIsAnsweredBetweenFrames) {
  TestLoop loop;
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.hub.NextOf("open");
  std::string pong;
  client.stream().control_callback(
      [&](boost::beast::websocket::frame_type type, boost::beast::string_view payload) {
        if (type == boost::beast::websocket::frame_type::pong) pong = std::string(payload);
      });
  client.stream().ping("are you there");
  client.Send(R"({"type":"nothing"})");
  EXPECT_EQ(client.Next().at("type"), "error");
  EXPECT_EQ(pong, "are you there");
}

TEST(ConnectionTest, RoomIsAnnouncedWhenAFullQueueHasDrainedToHalf) {
  TestLoop loop({.max_queued_bytes = 1024 * 1024});
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.hub.NextOf("open");
  uint64_t sent = 0;
  // Fill what the kernel takes, then more than half of the bound.
  const bool filled = loop.Do([&] {
    EXPECT_TRUE(loop.hub.last()->HasRoom());
    return true;
  });
  ASSERT_TRUE(filled);
  while (loop.Do([&] { return loop.hub.last()->HasRoom(); })) {
    loop.Do([&] { loop.hub.last()->Send(EventFrame(++sent, 100'000), 0); });
    loop.TurnOver();
  }
  EXPECT_TRUE(loop.hub.Quiet());
  for (uint64_t i = 1; i <= sent; ++i) ASSERT_EQ(client.Next().at("offset"), i);
  EXPECT_EQ(loop.hub.Next().what, "room");
}

TEST(ConnectionTest, SlowConsumerGetsWholeFramesThenTheReason) {
  TestLoop loop({.close_timeout_ms = 60'000, .max_queued_bytes = 256 * 1024});
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.hub.NextOf("open");
  for (uint64_t i = 1; loop.Do([&] { return loop.hub.last() != nullptr; }); ++i) {
    loop.Do([&] {
      if (loop.hub.last() != nullptr) loop.hub.last()->Send(EventFrame(i, 50'000), 0);
    });
    loop.TurnOver();
  }
  EXPECT_EQ(loop.hub.NextOf("close"),
            (Call{"close", "", "", "CONNECTION_STATE_ERROR slow_consumer"}));
  uint64_t last = 0;
  boost::json::object frame = client.Next();
  for (; frame.at("type") == "custom"; frame = client.Next()) {
    EXPECT_EQ(frame.at("offset").to_number<uint64_t>(), ++last);
  }
  EXPECT_EQ(frame.at("code"), "BUFFER_OVERFLOW");
  EXPECT_EQ(frame.at("reconnect"), true);
  EXPECT_EQ(client.Next().at("code"), 4507);
}

TEST(ConnectionTest, SlowConsumerThatNeverReadsIsCutOff) {
  TestLoop loop({.close_timeout_ms = 100, .max_queued_bytes = 128 * 1024});
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.hub.NextOf("open");
  for (uint64_t i = 1; loop.Do([&] { return loop.hub.last() != nullptr; }); ++i) {
    loop.Do([&] {
      if (loop.hub.last() != nullptr) loop.hub.last()->Send(EventFrame(i, 50'000), 0);
    });
    loop.TurnOver();
  }
  loop.WaitForEnds(1);
}

TEST(ConnectionTest, NothingFollowsTheCloseFrame) {
  TestLoop loop;
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.hub.NextOf("open");
  loop.Do([&] {
    Subscriber* subscriber = loop.hub.last();
    subscriber->Send(EventFrame(1, 10), 0);
    subscriber->Close(CloseCode::kInternal, "for a test");
    subscriber->Send(EventFrame(2, 10), 0);
    subscriber->Close(CloseCode::kSlowConsumer, "twice");
    EXPECT_EQ(loop.hub.last(), subscriber) << "the hub is left later, never inside Close";
  });
  EXPECT_EQ(client.Next().at("offset"), 1);
  ExpectClosed(client, "GATEWAY_UNAVAILABLE", 4500, true);
  EXPECT_EQ(loop.hub.NextOf("close"), (Call{"close", "", "", "CONNECTION_STATE_ERROR internal"}));
  loop.WaitForEnds(1);
}

// ---- Ending ----

TEST(ConnectionTest, WhatThrowsEndsItsConnectionAloneAndLeavesTheHub) {
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
  EXPECT_EQ(loop.hub.NextOf("close"), (Call{"close", "", "", "CONNECTION_STATE_ERROR internal"}));
  loop.WaitForEnds(1);
  other.Send(R"({"type":"nothing"})");
  EXPECT_EQ(other.Next().at("type"), "error");
}

TEST(ConnectionTest, WhatThrowsSomethingUnknownLeavesTheHubToo) {
  TestLoop loop;
  loop.hub.on_subscribe = [](Subscriber*, const v1::Subscribe&) { throw 7; };
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  client.Send(R"({"type":"subscribe","thread_id":"t"})");
  EXPECT_EQ(loop.hub.NextOf("close").what, "close");
  loop.WaitForEnds(1);
  EXPECT_EQ(client.Next().at("type"), "closed");
}

TEST(ConnectionTest, EveryRowOfTheTableClosesWithItsCode) {
  TestLoop loop;
  for (const CloseRow& row : kCloseRows) {
    TestClient client(loop.port());
    client.Connect(TokenOf("ada"));
    loop.hub.NextOf("open");
    loop.Do([&] { loop.hub.last()->Close(row.code, "for a test"); });
    boost::json::object frame = client.Next();
    if (row.code == CloseCode::kGoingAway) {
      EXPECT_EQ(frame.at("type"), "going_away");
      EXPECT_EQ(frame.at("reconnect_after_ms"), row.retry_after_ms);
      frame = client.Next();
    }
    if (row.code != CloseCode::kNormal) {
      EXPECT_EQ(std::string(frame.at("code").as_string()), NameOf(row.reason));
      EXPECT_EQ(frame.contains("reconnect"), row.reconnect != Reconnect::kNo);
      frame = client.Next();
    }
    EXPECT_EQ(frame.at("code"), static_cast<int>(row.code));
  }
}

TEST(ConnectionTest, PeerThatClosesGetsItsCodeBack) {
  TestLoop loop;
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  boost::system::error_code error;
  client.stream().close({static_cast<boost::beast::websocket::close_code>(4123), "bye"}, error);
  EXPECT_FALSE(error) << error.message();
  EXPECT_EQ(loop.hub.NextOf("close"),
            (Call{"close", "", "", "CONNECTION_STATE_DISCONNECTED closed by the client"}));
  loop.WaitForEnds(1);
}

TEST(ConnectionTest, PeerThatVanishesIsGone) {
  TestLoop loop;
  {
    TestClient client(loop.port());
    client.Connect(TokenOf("ada"));
  }
  EXPECT_EQ(loop.hub.NextOf("close"),
            (Call{"close", "", "", "CONNECTION_STATE_DISCONNECTED connection lost"}));
  loop.WaitForEnds(1);
}

TEST(ConnectionTest, GatewayThatStopsSaysSo) {
  TestLoop loop;
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  loop.GoAway();
  EXPECT_EQ(client.Next().at("type"), "going_away");
  ExpectClosed(client, "GATEWAY_UNAVAILABLE", 1001, true);
}

TEST(ConnectionTest, NoConnectInTimeIs4408) {
  TestLoop loop({.handshake_timeout_ms = 60});
  TestClient client(loop.port());
  ExpectClosed(client, "GATEWAY_UNAVAILABLE", 4408, true);
}

TEST(ConnectionTest, SilentPeerIsPingedThenClosedWith4408) {
  TestLoop loop({.heartbeat_ms = 60});
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  EXPECT_EQ(client.Next().at("type"), "ping");
  ExpectClosed(client, "GATEWAY_UNAVAILABLE", 4408, true);
}

TEST(ConnectionTest, PeerThatAnswersPingsStays) {
  TestLoop loop({.heartbeat_ms = 300});
  TestClient client(loop.port());
  client.Connect(TokenOf("ada"));
  // Longer than 2.5 heartbeats.
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(client.Next().at("type"), "ping") << i;
    client.Send(R"({"type":"pong"})");
  }
}

TEST(ConnectionTest, TokenThatEndsClosesWith4401UnlessRefreshed) {
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

TEST(ConnectionTest, TokenAcceptedByLeewayHoldsUntilTheLeewayEnds) {
  TestLoop loop({.heartbeat_ms = 300}, 100, 1min);
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

TEST(ConnectionTest, RefreshWithAnothersOrABadTokenIsRefusedAndTheConnectionStays) {
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

TEST(ConnectionTest, WrongFirstFramesAreNamedAndClosed) {
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

TEST(ConnectionTest, UnreadableFramesCloseWith4400) {
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

TEST(ConnectionTest, OversizedMessagesCloseWith4413) {
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

TEST(ConnectionTest, TooManyFramesCloseWith4429) {
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

TEST(ConnectionTest, MoreConnectionsThanAUserMayHaveCloseWith4429) {
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

TEST(ConnectionTest, RandomBytesDoNoHarm) {
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

// ---- HTTP on the same port ----

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
