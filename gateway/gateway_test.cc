// The gateway as a whole: real loops, hubs and sockets; behind them a service of a few lines.
#include "gateway/gateway.h"

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "boost/asio/connect.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/read.hpp"
#include "boost/asio/write.hpp"
#include "gateway/connection/test_client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/mutex.h"
#include "proto/contract/error.h"

namespace clarion::gateway {
namespace {

using ::testing::HasSubstr;

constexpr const char* kSecret = "thirty-two bytes of secret, or more than that";

// What the service did, over all loops. Thread-safe.
struct Seen {
  void Note(const std::string& what) {
    MutexLock lock(mutex);
    notes.push_back(what);
    changed.NotifyAll();
  }
  void WaitFor(const std::string& what, long times = 1) {
    MutexLock lock(mutex);
    while (std::count(notes.begin(), notes.end(), what) < times) changed.Wait(mutex);
  }
  Mutex mutex;
  CondVar changed;
  std::vector<std::string> notes ABSL_GUARDED_BY(mutex);
};

// A service whose threads have three events, and get a fourth when they are followed for the first
// time.
class TinyService : public link::Link {
 public:
  TinyService(boost::asio::io_context& loop, Seen& seen) : loop_(loop), seen_(seen) {}

  void Start(link::LinkSink* sink) override {
    sink_ = sink;
    Later([this] { sink_->OnUp(); });
  }
  void Send(v1::GatewayMessage message) override {
    if (message.has_hello()) {
      v1::ServiceMessage welcome;
      welcome.mutable_welcome()->set_service_id("tiny");
      welcome.mutable_welcome()->set_version(1);
      Deliver(std::move(welcome));
    } else if (message.has_subscribe()) {
      OnSubscribe(message.subscribe());
    } else if (message.has_connection_opened()) {
      seen_.Note("opened " + message.connection_opened().user_id());
    } else if (message.has_connection_closed()) {
      seen_.Note("closed " + v1::ConnectionState_Name(message.connection_closed().state()));
    } else if (message.has_canary_report()) {
      seen_.Note("canary " + v1::WiringStep_Name(message.canary_report().step()));
    }
  }
  void ReadPage(v1::ReadPageRequest request, link::PageCallback done) override {
    seen_.Note("page of " + std::to_string(request.max_bytes()));
    link::Page page;
    page.last = {Epoch("e"), Last(request.thread_id())};
    if (request.after().offset() < page.last.offset.value()) {
      page.runs.push_back(
          Events(request.thread_id(), Offset(request.after().offset() + 1), page.last.offset));
    }
    Later([page = std::move(page), done = std::move(done)] { done(page); });
  }
  void Ask(v1::AskRequest /*request*/, link::AskCallback done) override {
    Later([done = std::move(done)] {
      done(MakeError(Reason::kNotFound, "a tiny service knows nothing"));
    });
  }
  void Stop() override { sink_ = nullptr; }

  void OpenCanary() {
    v1::ServiceMessage message;
    v1::OpenCanary& check = *message.mutable_open_canary();
    check.set_check_id("check");
    check.set_ticket("ticket");
    check.set_thread_id("canary");
    check.add_types("custom");
    check.mutable_life()->set_seconds(60);
    boost::asio::post(loop_, [this, message] { Deliver(message); });
  }

 private:
  void OnSubscribe(const v1::SubscribeThread& subscribe) {
    v1::ServiceMessage message;
    v1::SubscriptionStarted& started = *message.mutable_started();
    started.set_subscription_id(subscribe.subscription_id());
    started.mutable_last()->set_epoch("e");
    started.mutable_last()->set_offset(Last(subscribe.thread_id()).value());
    started.set_from_offset(1);
    std::vector<link::ToGateway> batch;
    batch.emplace_back(std::move(message));
    if (followed_.insert(subscribe.thread_id()).second) {
      batch.emplace_back(Events(subscribe.thread_id(), Offset(4), Offset(4)));
    }
    Later([this, batch = std::move(batch)] {
      if (sink_ != nullptr) sink_->OnMessages(batch);
    });
  }
  static link::Live Events(const std::string& thread, Offset first, Offset last) {
    link::Live live{.thread = ThreadId(thread), .epoch = Epoch("e"), .first = first};
    for (Offset offset = first; offset <= last; offset = offset.next()) {
      v1::Event event;
      event.mutable_custom()->set_name("n");
      live.events.push_back(
          std::make_shared<EncodedEvent>("\"type\":\"custom\"}", event.SerializeAsString()));
    }
    return live;
  }
  void Deliver(v1::ServiceMessage message) {
    std::vector<link::ToGateway> batch;
    batch.emplace_back(std::move(message));
    Later([this, batch = std::move(batch)] {
      if (sink_ != nullptr) sink_->OnMessages(batch);
    });
  }
  Offset Last(const std::string& thread) const {
    return Offset(followed_.contains(thread) ? 4 : 3);
  }
  void Later(std::function<void()> task) { boost::asio::post(loop_, std::move(task)); }

  boost::asio::io_context& loop_;
  Seen& seen_;
  link::LinkSink* sink_ = nullptr;
  std::set<std::string> followed_;
};

class GatewayTest : public ::testing::Test {
 protected:
  static GatewayOptions Options() {
    GatewayOptions options;
    options.gateway_id = "g";
    options.listen = "127.0.0.1:0";
    options.admin_listen = "127.0.0.1:0";
    options.token_secret = kSecret;
    return options;
  }
  LinkFactory Links() {
    return [this](boost::asio::io_context& loop) {
      auto service = std::make_unique<TinyService>(loop, seen_);
      services_.push_back(service.get());
      return service;
    };
  }
  void Start(GatewayOptions options = Options()) {
    auto gateway = Gateway::Start(std::move(options), Links());
    ASSERT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
  }
  void TearDown() override {
    if (gateway_) gateway_->Stop();
  }
  // The sentence with which the gateway refuses to start.
  std::string Refusal(GatewayOptions options) {
    auto gateway = Gateway::Start(std::move(options), Links());
    if (!gateway.ok()) return std::string(gateway.status().message());
    (*gateway)->Stop();
    return "it started";
  }
  std::string Get(uint16_t port, const std::string& path) const {
    boost::asio::io_context io;
    boost::asio::ip::tcp::socket socket(io);
    socket.connect({boost::asio::ip::address_v4::loopback(), port});
    boost::system::error_code ignored;
    boost::asio::write(
        socket,
        boost::asio::buffer("GET " + path +
                            " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        ignored);
    std::string answer;
    boost::asio::read(socket, boost::asio::dynamic_buffer(answer), ignored);
    return answer;
  }
  // Subscribes and expects offsets 1 to 4, in order.
  static void ExpectWholeThread(TestClient& client, const std::string& thread) {
    client.Send(R"({"type":"subscribe","id":"s","thread_id":")" + thread + "\"}");
    EXPECT_EQ(client.NextFrame().at("type"), "subscribed");
    for (int offset = 1; offset <= 4;) {
      const boost::json::object frame = client.NextFrame();
      if (frame.at("type") == "caught_up") continue;
      ASSERT_EQ(frame.at("type"), "custom") << frame;
      EXPECT_EQ(frame.at("offset"), offset++);
    }
  }

  Seen seen_;
  std::vector<TinyService*> services_;
  std::unique_ptr<Gateway> gateway_;
};

TEST_F(GatewayTest, BrowsersOnEveryLoopSeeAThreadInOrder) {
  GatewayOptions options = Options();
  options.loops = 2;
  Start(options);
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<TestClient>(gateway_->port()));
    const boost::json::object connected =
        clients.back()->Connect(TestClient::Token(kSecret, "ada"));
    EXPECT_TRUE(connected.at("connection_id").as_string().starts_with(i % 2 == 0 ? "g.0-" : "g.1-"))
        << connected;
    ExpectWholeThread(*clients.back(), "t");
  }
  seen_.WaitFor("opened ada", 4);
}

TEST_F(GatewayTest, APageIsAQuarterOfWhatMayWaitForAConnectionAtMost) {
  GatewayOptions options = Options();
  options.max_queued_bytes = 64 * 1024;
  Start(options);
  TestClient client(gateway_->port());
  client.Connect(TestClient::Token(kSecret, "ada"));
  ExpectWholeThread(client, "t");
  seen_.WaitFor("page of 16384");
}

TEST_F(GatewayTest, CanaryGoesThroughTheRealSocket) {
  GatewayOptions options = Options();
  options.loops = 2;
  options.max_connections_per_user = 1;
  Start(options);
  services_[0]->OpenCanary();
  services_[1]->OpenCanary();
  seen_.WaitFor("canary WIRING_STEP_ARRIVED", 1);
}

TEST_F(GatewayTest, StopTellsBrowsersAndTheService) {
  Start();
  TestClient client(gateway_->port());
  client.Connect(TestClient::Token(kSecret, "ada"));
  seen_.WaitFor("opened ada");
  std::thread stopping([this] { gateway_->Stop(); });
  EXPECT_EQ(client.Next().at("type"), "going_away");
  EXPECT_EQ(client.Next().at("code"), "GATEWAY_UNAVAILABLE");
  EXPECT_EQ(client.Next().at("code"), 1001);
  stopping.join();
  seen_.WaitFor("closed CONNECTION_STATE_DISCONNECTED");
}

TEST_F(GatewayTest, IsNotReadyWhileItSendsBrowsersAway) {
  GatewayOptions options = Options();
  options.drain_per_second = 1;
  Start(options);
  TestClient first(gateway_->port());
  first.Connect(TestClient::Token(kSecret, "ada"));
  TestClient second(gateway_->port());
  second.Connect(TestClient::Token(kSecret, "bob"));
  std::thread stopping([this] { gateway_->Stop(); });
  EXPECT_EQ(first.Next().at("type"), "going_away");
  // The other one has a second before its turn comes.
  EXPECT_THAT(Get(gateway_->admin_port(), "/readyz"),
              ::testing::AllOf(HasSubstr("503"), HasSubstr("sends browsers away")));
  EXPECT_EQ(second.Next().at("type"), "going_away");
  stopping.join();
}

TEST_F(GatewayTest, MoreConnectionsThanAllowedAreToldToComeBack) {
  GatewayOptions options = Options();
  options.max_connections = 1;
  Start(options);
  TestClient client(gateway_->port());
  client.Connect(TestClient::Token(kSecret, "ada"));
  const std::string answer = Get(gateway_->port(), "/");
  EXPECT_THAT(answer, HasSubstr("503 Service Unavailable"));
  EXPECT_THAT(answer, HasSubstr("Retry-After: 5"));
  EXPECT_THAT(answer, HasSubstr("RATE_LIMITED"));
}

TEST_F(GatewayTest, ReadinessIsTheLinks) {
  Start();
  TestClient client(gateway_->port());
  client.Connect(TestClient::Token(kSecret, "ada"));
  ExpectWholeThread(client, "t");  // the link is up
  EXPECT_THAT(Get(gateway_->admin_port(), "/readyz"), HasSubstr("200 OK"));
  EXPECT_THAT(Get(gateway_->admin_port(), "/metrics"),
              HasSubstr("clarion_connections{state=\"connected\",transport=\"websocket\"} 1"));
}

TEST_F(GatewayTest, DevelopmentTokensAreForDevelopment) {
  GatewayOptions options = Options();
  Start(options);
  EXPECT_THAT(Get(gateway_->port(), "/v1/dev/token?user=ada"), HasSubstr("404"));
  gateway_->Stop();
  options.dev = true;
  Start(options);
  const std::string answer = Get(gateway_->port(), "/v1/dev/token?user=ada");
  const boost::json::value body = boost::json::parse(answer.substr(answer.find("\r\n\r\n") + 4));
  TestClient client(gateway_->port());
  EXPECT_EQ(client.Connect(std::string(body.at("token").as_string())).at("user_id"), "ada");
}

TEST_F(GatewayTest, MistakesInFlagsAreNamed) {
  GatewayOptions options = Options();
  options.token_secret.clear();
  EXPECT_THAT(Refusal(options),
              ::testing::AllOf(HasSubstr("--token-secret"), HasSubstr("--token-public-key")));
  options = Options();
  options.listen = "0.0.0.0:0";
  EXPECT_THAT(Refusal(options), ::testing::AllOf(HasSubstr("--listen"), HasSubstr("--insecure")));
  options.flag_prefix = "gateway-";
  EXPECT_THAT(Refusal(options), HasSubstr("--gateway-listen"));
  options = Options();
  options.admin_listen = "0.0.0.0:0";
  EXPECT_THAT(Refusal(options), HasSubstr("--admin-listen"));
  options = Options();
  options.listen = "nonsense";
  EXPECT_THAT(Refusal(options), HasSubstr("--listen"));
  options = Options();
  options.loops = 0;
  EXPECT_THAT(Refusal(options), HasSubstr("--loops"));
  options = Options();
  options.gateway_id = "a b";
  EXPECT_THAT(Refusal(options), HasSubstr("--gateway-id"));
  options = Options();
  options.web_root = "/does/not/exist";
  EXPECT_THAT(Refusal(options), HasSubstr("--web-root"));
  options = Options();
  options.max_handshake_bytes = options.max_message_bytes - 1;
  EXPECT_THAT(Refusal(options), HasSubstr("--max-handshake-bytes"));
  options = Options();
  options.token_max_days = 36'501;
  EXPECT_THAT(Refusal(options), HasSubstr("--token-max-days"));
  options = Options();
  options.drain_per_second = 0;
  EXPECT_THAT(Refusal(options), HasSubstr("--drain-per-second"));
  options = Options();
  options.drain_seconds = 3'601;
  EXPECT_THAT(Refusal(options), HasSubstr("--drain-seconds"));
  options = Options();
  options.token_secret.clear();
  options.dev = true;
  EXPECT_THAT(Refusal(options), HasSubstr("--dev needs --token-secret"));
}

TEST_F(GatewayTest, PortThatIsTakenIsNamed) {
  Start();
  GatewayOptions options = Options();
  options.listen = "127.0.0.1:" + std::to_string(gateway_->port());
  EXPECT_THAT(Refusal(options), ::testing::AllOf(HasSubstr("--listen"), HasSubstr("in use")));
}

}  // namespace
}  // namespace clarion::gateway
