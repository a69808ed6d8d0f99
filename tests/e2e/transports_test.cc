// A browser without a WebSocket: event streams, polls, pages of a thread and lists of threads, as
// any HTTP client has them, through the programs as shipped.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "boost/asio/connect.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/read_until.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http.hpp"
#include "boost/json.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/contract/error.h"
#include "tests/e2e/support/browser.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"

namespace clarion::testing {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
namespace json = boost::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Answer {
  unsigned status = 0;
  std::map<std::string, std::string> header;
  std::string text;
  json::object body;  // if it is one
};

// One connection that asks and waits, as curl does.
class Client {
 public:
  Client(uint16_t port, std::string token) : token_(std::move(token)) {
    socket_.connect({asio::ip::address_v4::loopback(), port});
  }
  void Header(const std::string& name, const std::string& value) { header_[name] = value; }

  Answer Get(const std::string& target) { return Ask(http::verb::get, target, ""); }
  Answer Post(const std::string& target, const json::value& body) {
    return Ask(http::verb::post, target, json::serialize(body));
  }
  Answer Ask(http::verb verb, const std::string& target, const std::string& body) {
    Write(verb, target, body);
    http::response<http::string_body> response;
    http::read(socket_, buffer_, response);
    Answer answer{.status = response.result_int(), .text = response.body()};
    for (const auto& field : response) {
      answer.header[std::string(field.name_string())] = std::string(field.value());
    }
    json::error_code error;
    const json::value value = json::parse(answer.text, error);
    if (!error && value.is_object()) answer.body = value.as_object();
    return answer;
  }

  // Begins an event stream; its header.
  std::string Follow(http::verb verb, const std::string& target, const std::string& body = "") {
    Write(verb, target, body);
    return ReadUntil("\r\n\r\n");
  }
  // The next event that is not a ping: its `id`, and its data as one object.
  struct Event {
    std::string id;
    json::object data;
    std::string type() const { return std::string(data.at("type").as_string()); }
  };
  Event NextEvent() {
    for (;;) {
      const std::string text = ReadUntil("\n\n");
      Event event;
      std::string data;
      for (size_t begin = 0; begin < text.size();) {
        const size_t end = text.find('\n', begin);
        const std::string line = text.substr(begin, end - begin);
        begin = end + 1;
        if (line.starts_with("id: ")) event.id = line.substr(4);
        if (line.starts_with("data: ")) data += line.substr(6);
      }
      if (text.empty()) return event;
      if (data.empty()) continue;
      event.data = json::parse(data).as_object();
      if (event.type() != "ping") return event;
    }
  }
  Event NextEvent(const std::string& type) {
    for (;;) {
      Event event = NextEvent();
      if (event.data.empty() || event.type() == type) return event;
    }
  }

 private:
  void Write(http::verb verb, const std::string& target, const std::string& body) {
    http::request<http::string_body> request(verb, target, 11);
    request.set(http::field::host, "localhost");
    if (!token_.empty()) request.set(http::field::authorization, "Bearer " + token_);
    for (const auto& [name, value] : header_) request.set(name, value);
    request.body() = body;
    request.prepare_payload();
    http::write(socket_, request);
  }
  std::string ReadUntil(const std::string& end) {
    boost::system::error_code error;
    const size_t size = asio::read_until(socket_, asio::dynamic_buffer(text_), end, error);
    if (error) return "";
    std::string text = text_.substr(0, size);
    text_.erase(0, size);
    return text;
  }

  asio::io_context io_;
  asio::ip::tcp::socket socket_{io_};
  boost::beast::flat_buffer buffer_;
  std::string text_;
  const std::string token_;
  std::map<std::string, std::string> header_;
};

std::string Text(const json::object& object, const char* key) {
  return object.contains(key) ? std::string(object.at(key).as_string()) : std::string();
}

uint64_t Number(const json::object& object, const char* key) {
  return object.contains(key) ? object.at(key).to_number<uint64_t>() : 0;
}

std::vector<uint64_t> Offsets(const json::array& events) {
  std::vector<uint64_t> offsets;
  for (const json::value& event : events) offsets.push_back(Number(event.as_object(), "offset"));
  return offsets;
}

// Of the frames of a poll, their types.
std::vector<std::string> Types(const json::object& poll) {
  std::vector<std::string> types;
  for (const json::value& frame : poll.at("frames").as_array()) {
    types.push_back(Text(frame.as_object(), "type"));
  }
  return types;
}

class TransportsTest : public ::testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    deployment_.Start();
    stub_ = deployment_.Stub();
  }
  Client Of(const std::string& user) {
    return {deployment_.stream_port(), deployment_.Token(user)};
  }
  // The offset that it got.
  uint64_t Publish(const std::string& thread, const std::string& id) {
    v1::PublishRequest request;
    *request.mutable_event() = Thinking("ada", thread, id);
    grpc::ClientContext context;
    v1::PublishResponse response;
    const grpc::Status status = stub_->Publish(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    epoch_ = response.epoch();
    return response.offset();
  }
  void Publish(const std::string& thread, int count) {
    for (int i = 1; i <= count; ++i) Publish(thread, "e" + std::to_string(i));
  }
  bool IsFollowed(const std::string& thread, std::chrono::seconds timeout) {
    v1::AwaitReadyRequest request;
    request.set_user_id("ada");
    request.set_thread_id(thread);
    request.set_min_readiness(v1::READINESS_SUBSCRIBED);
    request.mutable_timeout()->set_seconds(timeout.count());
    grpc::ClientContext context;
    v1::AwaitReadyResponse response;
    return stub_->AwaitReady(&context, request, &response).ok();
  }
  // Once ada follows the thread, in a poll or between polls.
  void PublishOnceFollowed(const std::string& thread, const std::string& id) {
    EXPECT_TRUE(IsFollowed(thread, std::chrono::seconds(20)));
    Publish(thread, id);
  }
  // The user's connections, as backends see them.
  std::vector<v1::Connection> Connections() {
    v1::GetConnectionsRequest request;
    request.set_user_id("ada");
    grpc::ClientContext context;
    v1::GetConnectionsResponse response;
    EXPECT_TRUE(stub_->GetConnections(&context, request, &response).ok());
    return {response.connections().begin(), response.connections().end()};
  }
  static json::object Position(const std::string& thread, const std::string& epoch,
                               uint64_t offset) {
    return {{"thread_id", thread}, {"epoch", epoch}, {"offset", offset}};
  }
  static json::object Subscribe(const std::string& thread) {
    return {{"type", "subscribe"}, {"thread_id", thread}, {"history", "full"}};
  }

  Deployment deployment_{GetParam()};
  std::unique_ptr<v1::EventService::Stub> stub_;
  std::string epoch_;
};

// ---- One thread, as curl follows it ----

TEST_P(TransportsTest, AThreadIsFollowedByItsUrlAndResumedByTheLastEventsId) {
  Publish("t", 2);
  Client client = Of("ada");
  client.Header("Accept", "text/event-stream");
  const std::string header = client.Follow(http::verb::get, "/v1/threads/t/events?history=full");
  EXPECT_THAT(header, HasSubstr("200 OK"));
  EXPECT_THAT(header, HasSubstr("Content-Type: text/event-stream"));
  EXPECT_THAT(header, HasSubstr("Cache-Control: no-store"));
  EXPECT_EQ(Text(client.NextEvent("subscribed").data, "thread_id"), "t");
  EXPECT_EQ(client.NextEvent().id, epoch_ + ":1");
  const Client::Event second = client.NextEvent();
  EXPECT_EQ(Text(second.data, "event_id"), "e2");
  EXPECT_EQ(client.NextEvent().type(), "caught_up");
  Publish("t", "e3");
  EXPECT_EQ(client.NextEvent().id, epoch_ + ":3");

  Client again = Of("ada");
  again.Header("Accept", "text/event-stream");
  again.Header("Last-Event-ID", second.id);
  again.Follow(http::verb::get, "/v1/threads/t/events?from=start&history=full");
  EXPECT_EQ(Number(again.NextEvent("subscribed").data, "from_offset"), 3u);
  EXPECT_EQ(Text(again.NextEvent().data, "event_id"), "e3");
}

TEST_P(TransportsTest, ARefusedStreamIsAnHttpErrorWithTheSameReason) {
  Client stranger(deployment_.stream_port(), "no token");
  stranger.Header("Accept", "text/event-stream");
  const Answer refused = stranger.Get("/v1/threads/t/events");
  EXPECT_EQ(refused.status, 401u);
  EXPECT_EQ(Text(refused.body, "code"), "UNAUTHENTICATED");
  EXPECT_EQ(Of("ada").Post("/v1/stream", "nonsense").status, 400u);
  EXPECT_EQ(Of("ada").Ask(http::verb::post, "/v1/poll", "{").status, 400u);
  EXPECT_EQ(Of("ada").Get("/v1/poll").status, 405u);
  EXPECT_EQ(Of("ada").Get("/v1/threads/t/events?limit=0").status, 400u);
  EXPECT_EQ(Of("ada").Get("/v1/threads/t/events?offset=1").status, 400u);
}

// ---- Many threads on one response, messages on requests of their own ----

TEST_P(TransportsTest, MessagesReachTheirStreamThroughAnyGatewayOnceAndInOrder) {
  Publish("t", 2);
  Publish("u", 1);
  uint16_t other = deployment_.stream_port();
  if (!deployment_.one_process()) other = deployment_.AddGateway().stream_port;
  Client stream = Of("ada");
  stream.Follow(
      http::verb::post, "/v1/stream",
      json::serialize(json::array{{{"type", "connect"}, {"protocol", 1}}, Subscribe("t")}));
  const std::string id = Text(stream.NextEvent("connected").data, "connection_id");
  EXPECT_EQ(Number(stream.NextEvent("caught_up").data, "offset"), 2u);

  Client passer(other, deployment_.Token("ada"));
  const std::string target = "/v1/connections/" + id;
  const json::object ack{
      {"type", "ack"}, {"id", "a"}, {"thread_id", "t"}, {"epoch", epoch_}, {"offset", 2}};
  const json::object first{{"sequence", 1}, {"messages", {ack, Subscribe("u")}}};
  Answer passed = passer.Post(target, first);
  EXPECT_EQ(passed.status, 200u) << passed.text;
  EXPECT_EQ(Number(passed.body, "next_sequence"), 2u);
  EXPECT_EQ(Text(stream.NextEvent("subscribed").data, "thread_id"), "u");
  // The same again changes nothing, and a gap is refused.
  EXPECT_EQ(passer.Post(target, first).status, 200u);
  const Answer early = Client(other, deployment_.Token("ada"))
                           .Post(target, json::object{{"sequence", 3}, {"messages", {ack}}});
  EXPECT_EQ(early.status, 400u);
  EXPECT_THAT(Text(early.body, "message"), HasSubstr("2"));
  // Whose connection it is, nobody else learns.
  const json::object second{{"sequence", 2}, {"messages", {ack}}};
  const Answer foreign = Client(other, deployment_.Token("bob")).Post(target, second);
  const Answer unknown =
      Client(other, deployment_.Token("bob")).Post("/v1/connections/nobody-1", second);
  EXPECT_EQ(foreign.status, 404u);
  EXPECT_EQ(foreign.text, unknown.text);
}

// ---- Polls ----

TEST_P(TransportsTest, APollKeepsItsPlaceAcrossGatewaysAndHearsOnlyWhatIsNew) {
  Publish("t", 2);
  uint16_t other = deployment_.stream_port();
  if (!deployment_.one_process()) other = deployment_.AddGateway().stream_port;
  const Answer first = Of("ada").Post("/v1/poll", json::object{{"messages", {Subscribe("t")}}});
  ASSERT_EQ(first.status, 200u) << first.text;
  EXPECT_THAT(Types(first.body), ElementsAre("connected", "subscribed", "agent_thinking",
                                             "agent_thinking", "caught_up"));
  const std::string id = Text(first.body, "connection_id");
  // Between polls it is connected, and follows its thread. (The page may hear so first.)
  ASSERT_TRUE(IsFollowed("t", std::chrono::seconds(20)));
  ASSERT_EQ(Connections().size(), 1u);
  EXPECT_EQ(Connections()[0].state(), v1::CONNECTION_STATE_CONNECTED);
  EXPECT_EQ(Connections()[0].transport(), v1::TRANSPORT_POLLING);
  EXPECT_THAT(Connections()[0].thread_ids(), ElementsAre("t"));

  const auto poll = [&](uint64_t offset, double wait) {
    return Client(other, deployment_.Token("ada"))
        .Post("/v1/poll", json::object{{"connection_id", id},
                                       {"positions", {Position("t", epoch_, offset)}},
                                       {"history", "full"},
                                       {"wait", wait}});
  };
  EXPECT_THAT(Types(poll(2, 0).body), IsEmpty());
  Publish("t", "e3");
  EXPECT_THAT(Types(poll(2, 30).body), ElementsAre("agent_thinking", "caught_up"));
  // It is behind by more than one, and says so.
  EXPECT_THAT(Types(poll(1, 30).body),
              ElementsAre("agent_thinking", "agent_thinking", "caught_up"));
  // A position that never was is told as such.
  const Answer lost = poll(100, 0);
  EXPECT_THAT(Types(lost.body), ::testing::Contains("missed"));
  EXPECT_EQ(Connections().size(), 1u);
}

TEST_P(TransportsTest, APollWaitsForTheNextEvent) {
  Publish("t", 1);
  Client client = Of("ada");
  const Answer first = client.Post("/v1/poll", json::object{{"messages", {Subscribe("t")}}});
  const auto resting = [&](double count) {
    const auto so = [&] {
      return MetricValue(deployment_.service_admin_port(), "clarion_resting_connections") == count;
    };
    return WaitUntil(so, std::chrono::seconds(20));
  };
  ASSERT_TRUE(resting(1));
  std::thread later([&] {
    EXPECT_TRUE(resting(0)) << "while the poll waits, nothing rests";
    Publish("t", "late");
  });
  const Answer second =
      client.Post("/v1/poll", json::object{{"connection_id", Text(first.body, "connection_id")},
                                           {"positions", {Position("t", epoch_, 1)}},
                                           {"wait", 60}});
  later.join();
  EXPECT_THAT(Types(second.body), ::testing::Contains("agent_thinking")) << second.text;
}

TEST_P(TransportsTest, APollThatDoesNotWaitGetsAllThereIsOfAllThreads) {
  Publish("t", 2);
  Publish("u", 1);
  Client client = Of("ada");
  const json::object all{{"type", "subscribe"}, {"all", true}, {"history", "full"}};
  const Answer first = client.Post(
      "/v1/poll", json::object{{"messages", json::array{all}}, {"wait", 0}, {"history", "full"}});
  const std::vector<std::string> types = Types(first.body);
  EXPECT_EQ(std::count(types.begin(), types.end(), "agent_thinking"), 3) << first.text;
}

TEST_P(TransportsTest, NobodyGoesOnWithAnotherUsersPoll) {
  Publish("t", 1);
  const Answer first = Of("ada").Post("/v1/poll", json::object{{"messages", {Subscribe("t")}}});
  const std::string id = Text(first.body, "connection_id");
  const Answer stolen = Of("bob").Post(
      "/v1/poll",
      json::object{{"connection_id", id}, {"positions", {Position("t", epoch_, 0)}}, {"wait", 0}});
  EXPECT_EQ(stolen.text.find("event_id"), std::string::npos) << stolen.text;
  ASSERT_EQ(Connections().size(), 1u);
  EXPECT_EQ(Connections()[0].state(), v1::CONNECTION_STATE_CONNECTED);
}

// ---- Pages and lists ----

TEST_P(TransportsTest, AThreadIsReadByPagesForwardsAndBackwards) {
  Publish("t", 7);
  Client client = Of("ada");
  const Answer first = client.Get("/v1/threads/t/events?history=full&limit=3");
  ASSERT_EQ(first.status, 200u) << first.text;
  EXPECT_EQ(first.header.at("Cache-Control"), "no-store");
  EXPECT_THAT(Offsets(first.body.at("events").as_array()), ElementsAre(1, 2, 3));
  EXPECT_EQ(Number(first.body.at("last").as_object(), "offset"), 7u);
  const std::string next = Text(first.body, "next");
  EXPECT_EQ(next, epoch_ + ":3");
  EXPECT_THAT(Offsets(client.Get("/v1/threads/t/events?history=full&after=" + next)
                          .body.at("events")
                          .as_array()),
              ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(Offsets(client.Get("/v1/threads/t/events?history=full&limit=2&before=4")
                          .body.at("events")
                          .as_array()),
              ElementsAre(2, 3));
  EXPECT_THAT(client.Get("/v1/threads/t/events?after=7").body.at("events").as_array(), IsEmpty());
  // Compacted, as it is for whoever does not say otherwise: one message is one event.
  const Answer compacted = client.Get("/v1/threads/t/events");
  EXPECT_THAT(Offsets(compacted.body.at("events").as_array()), ElementsAre(7));
}

TEST_P(TransportsTest, APageWaitsForTheNextEventIfAskedTo) {
  Publish("t", 1);
  std::thread later([&] {
    EXPECT_TRUE(WaitUntil([&] { return !Connections().empty(); }, std::chrono::seconds(20)));
    EXPECT_FALSE(IsFollowed("t", std::chrono::seconds(0))) << "no page shows it yet";
    Publish("t", "late");
  });
  const Answer waited = Of("ada").Get("/v1/threads/t/events?after=1&wait=60");
  later.join();
  EXPECT_THAT(Offsets(waited.body.at("events").as_array()), ElementsAre(2));
  EXPECT_EQ(waited.status, 200u);
}

TEST_P(TransportsTest, AThreadThatIsNotTheUsersIsNotThere) {
  Publish("t", 1);
  const Answer foreign = Of("bob").Get("/v1/threads/t/events");
  const Answer unknown = Of("bob").Get("/v1/threads/x/events");
  EXPECT_EQ(foreign.status, 404u);
  EXPECT_EQ(unknown.status, 404u);
  EXPECT_EQ(foreign.text, unknown.text);
}

TEST_P(TransportsTest, AUserListsTheirThreads) {
  Publish("t", 2);
  Publish("u", 1);
  Client client = Of("ada");
  const Answer all = client.Get("/v1/threads");
  ASSERT_EQ(all.status, 200u) << all.text;
  std::map<std::string, uint64_t> last;
  for (const json::value& thread : all.body.at("threads").as_array()) {
    last[Text(thread.as_object(), "thread_id")] =
        Number(thread.as_object().at("last").as_object(), "offset");
  }
  EXPECT_EQ(last, (std::map<std::string, uint64_t>{{"t", 2}, {"u", 1}}));
  const Answer page = client.Get("/v1/threads?limit=1");
  EXPECT_EQ(page.body.at("threads").as_array().size(), 1u);
  EXPECT_EQ(client.Get("/v1/threads?limit=1&page_token=" + Text(page.body, "next_page_token"))
                .body.at("threads")
                .as_array()
                .size(),
            1u);
  EXPECT_THAT(Of("bob").Get("/v1/threads").body.at("threads").as_array(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Forms, TransportsTest,
                         ::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                         [](const auto& info) { return NameOf(info.param); });

// ---- Pages of other origins ----

TEST(OriginsTest, OnlyPagesOfAllowedOriginsMayAsk) {
  Deployment deployment(Form::kTwoProcesses, {}, {"--allowed-origin", "https://app.example"});
  deployment.Start();
  const auto ask = [&](const std::string& origin, http::verb verb) {
    Client client(deployment.stream_port(), deployment.Token("ada"));
    client.Header("Origin", origin);
    return client.Ask(verb, "/v1/threads", "");
  };
  const Answer preflight = ask("https://app.example", http::verb::options);
  EXPECT_EQ(preflight.status, 204u);
  EXPECT_EQ(preflight.header.at("Access-Control-Allow-Origin"), "https://app.example");
  EXPECT_THAT(preflight.header.at("Access-Control-Allow-Headers"), HasSubstr("Authorization"));
  const Answer allowed = ask("https://app.example", http::verb::get);
  EXPECT_EQ(allowed.status, 200u);
  EXPECT_EQ(allowed.header.at("Access-Control-Allow-Origin"), "https://app.example");
  EXPECT_EQ(allowed.header.at("Vary"), "Origin");
  const Answer refused = ask("https://evil.example", http::verb::get);
  EXPECT_EQ(refused.status, 403u);
  EXPECT_FALSE(refused.header.contains("Access-Control-Allow-Origin"));
  EXPECT_EQ(ask("https://evil.example", http::verb::options).status, 403u);
}

}  // namespace
}  // namespace clarion::testing
