// Connections over real sockets, with a fake hub behind them: what is heard and what is said.
// How they end is in connection_end_test.cc.
#include "gateway/connection/websocket.h"

#include <string>

#include "boost/json/serialize.hpp"
#include "gateway/connection/connection_testing.h"
#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

using Call = FakeHub::Call;

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
  EXPECT_EQ(loop.hub.Next(), (Call{"probe_reply", "", "", "n"}));
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
  ExpectLeft(loop, "CONNECTION_STATE_ERROR internal");
}

}  // namespace
}  // namespace clarion::gateway
