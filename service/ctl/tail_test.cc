// `clarionctl tail` against a gateway that follows a script.
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/beast/core/buffers_to_string.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/websocket.hpp"
#include "boost/json/parse.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/ctl/ctl_testing.h"
#include "service/ctl/program.h"

namespace clarion::ctl {
namespace {

using boost::asio::ip::tcp;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
namespace beast = boost::beast;
namespace websocket = boost::beast::websocket;

constexpr char kEvent1[] =
    R"({"offset":1,"type":"agent_started","event_id":"e1","thread_id":"t1","run_id":"r"})";
constexpr char kEvent2[] =
    R"({"offset":2,"type":"agent_completed","event_id":"e2","thread_id":"t1","run_id":"r"})";
constexpr char kAway[] =
    R"({"type":"error","id":"tail","thread_id":"t1","code":"GATEWAY_UNAVAILABLE",)"
    R"("message":"the service does not answer","retry_after_ms":1})";

// One connection as the gateway sees it.
class Peer {
 public:
  explicit Peer(tcp::socket socket) : stream_(std::move(socket)) {
    stream_.set_option(websocket::stream_base::decorator([](websocket::response_type& response) {
      response.set(beast::http::field::sec_websocket_protocol, "clarion.v1.json");
    }));
  }

  // Opens the WebSocket; what the first frame says.
  boost::json::object Accept() {
    stream_.accept();
    beast::flat_buffer buffer;
    stream_.read(buffer);
    return boost::json::parse(beast::buffers_to_string(buffer.data())).as_object();
  }
  // ... and takes it.
  boost::json::object Connect() {
    boost::json::object frame = Accept();
    Say(R"({"type":"connected","id":"tail","connection_id":"c"})");
    return frame;
  }
  void Subscribed(int from, int last) {
    Say(R"({"type":"subscribed","id":"tail","thread_id":"t1","epoch":"e","from_offset":)" +
        std::to_string(from) + R"(,"last_offset":)" + std::to_string(last) + "}");
  }
  void Say(std::string_view text) {
    stream_.text(true);
    stream_.write(boost::asio::buffer(text.data(), text.size()));
  }
  // Until the other side leaves.
  void WaitForEnd() {
    boost::system::error_code error;
    while (!error) {
      beast::flat_buffer buffer;
      stream_.read(buffer, error);
    }
  }
  void WaitForEndOfTcp() {
    boost::system::error_code error;
    char byte = 0;
    while (!error) stream_.next_layer().read_some(boost::asio::buffer(&byte, 1), error);
  }
  void Drop() { stream_.next_layer().close(); }

 private:
  websocket::stream<tcp::socket> stream_;
};

// A gateway that does with each connection what the next part of its script says.
class ScriptedGateway {
 public:
  using Part = std::function<void(Peer&)>;

  explicit ScriptedGateway(std::vector<Part> script)
      : thread_([this, script = std::move(script)] {
          for (const Part& part : script) {
            Peer peer(acceptor_.accept());
            part(peer);
          }
        }) {}
  ~ScriptedGateway() { thread_.join(); }

  std::string url() const {
    return "ws://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port());
  }
  Ran Tail(const std::string& timeout) const {
    return Ctl({"tail", "t1", "--token", "x", "--url", url(), "--timeout", timeout, "--events-only",
                "--until-complete"});
  }

 private:
  boost::asio::io_context loop_;
  tcp::acceptor acceptor_{loop_, {boost::asio::ip::make_address("127.0.0.1"), 0}};
  std::thread thread_;
};

TEST(Tail, SubscribesAgainAfterARefusalThatMayBeRetried) {
  const auto refuse = [](Peer& peer) {
    EXPECT_EQ(peer.Connect().at("id"), "tail");
    peer.Say(kAway);
    peer.WaitForEnd();
  };
  ScriptedGateway gateway({refuse, refuse, [](Peer& peer) {
                             peer.Connect();
                             peer.Subscribed(1, 2);
                             peer.Say(kEvent1);
                             peer.Say(kEvent2);
                             peer.Say(R"({"type":"caught_up","thread_id":"t1","offset":2})");
                             peer.WaitForEnd();
                           }});
  const Ran ran = gateway.Tail("60");
  EXPECT_EQ(ran.exit_code, kOk) << ran.err;
  EXPECT_EQ(ran.out, std::string(kEvent1) + "\n" + kEvent2 + "\n");
  EXPECT_THAT(ran.err, AllOf(HasSubstr("GATEWAY_UNAVAILABLE"), HasSubstr("again in")));
}

TEST(Tail, GoesOnAfterWhatItSawWhenItsSubscriptionEnds) {
  ScriptedGateway gateway(
      {[](Peer& peer) {
         peer.Connect();
         peer.Subscribed(1, 1);
         peer.Say(kEvent1);
         // Nobody asked: a subscription that could not be restored.
         peer.Say(R"({"type":"error","thread_id":"t1","code":"LOG_UNAVAILABLE",)"
                  R"("message":"no","retry_after_ms":1})");
         peer.WaitForEnd();
       },
       [](Peer& peer) {
         const auto frame = peer.Connect();
         const auto& after = frame.at("subscribe").as_array().at(0).as_object().at("after");
         EXPECT_EQ(after.at("epoch"), "e");
         EXPECT_EQ(after.at("offset"), 1);
         peer.Subscribed(2, 2);
         peer.Say(kEvent2);
         peer.Say(R"({"type":"caught_up","thread_id":"t1","offset":2})");
         peer.WaitForEnd();
       }});
  const Ran ran = gateway.Tail("60");
  EXPECT_EQ(ran.exit_code, kOk) << ran.err;
  EXPECT_EQ(ran.out, std::string(kEvent1) + "\n" + kEvent2 + "\n");
}

TEST(Tail, StopsWhenASubscribeIsRefusedForGood) {
  ScriptedGateway gateway({[](Peer& peer) {
    peer.Connect();
    peer.Say(R"({"type":"error","id":"tail","thread_id":"t1","code":"NOT_FOUND",)"
             R"("message":"the thread was deleted"})");
    peer.WaitForEnd();
  }});
  const Ran ran = gateway.Tail("60");
  EXPECT_EQ(ran.exit_code, kFailed);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("the thread was deleted"), HasSubstr("NOT_FOUND"),
                             HasSubstr("t1"), HasSubstr("what to do")));
}

TEST(Tail, GivesUpOnAServiceThatStaysAway) {
  ScriptedGateway gateway({[](Peer& peer) {
    peer.Connect();
    peer.Say(R"({"type":"error","id":"tail","thread_id":"t1","code":"GATEWAY_UNAVAILABLE",)"
             R"("message":"the service does not answer","retry_after_ms":60000})");
    peer.WaitForEnd();
  }});
  const Ran ran = gateway.Tail("0.5");
  EXPECT_EQ(ran.exit_code, kUnreachable);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("the service does not answer"), HasSubstr("clarion-service"),
                             Not(HasSubstr("again in"))));
}

TEST(Tail, GivesUpOnARefusalThatStays) {
  ScriptedGateway gateway({[](Peer& peer) {
    peer.Connect();
    peer.Say(R"({"type":"error","id":"tail","thread_id":"t1","code":"RATE_LIMITED",)"
             R"("message":"16 claims","retry_after_ms":60000})");
    peer.WaitForEnd();
  }});
  const Ran ran = gateway.Tail("0.5");
  EXPECT_EQ(ran.exit_code, kFailed);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("RATE_LIMITED"), HasSubstr("16 claims")));
}

// Each of these waits for an answer that never comes: without a limit the test would not end.
TEST(Tail, TimeoutHoldsAtEveryStepUntilTheThreadIsFollowed) {
  const std::vector<std::pair<std::string, ScriptedGateway::Part>> steps = {
      {"the handshake", [](Peer& peer) { peer.WaitForEndOfTcp(); }},
      {"connected",
       [](Peer& peer) {
         peer.Accept();
         peer.WaitForEnd();
       }},
      {"subscribed",
       [](Peer& peer) {
         peer.Connect();
         peer.WaitForEnd();
       }},
  };
  for (const auto& [name, part] : steps) {
    SCOPED_TRACE(name);
    ScriptedGateway gateway({part});
    const Ran ran = gateway.Tail("0.3");
    EXPECT_EQ(ran.exit_code, kUnreachable);
    EXPECT_THAT(ran.err, AllOf(HasSubstr(gateway.url()), HasSubstr("--timeout")));
    EXPECT_THAT(ran.out, IsEmpty());
  }
}

TEST(Tail, TimeoutIsNotOfTheWaitingForEvents) {
  ScriptedGateway gateway({[](Peer& peer) {
    peer.Connect();
    peer.Subscribed(1, 0);
    // Longer than --timeout, in which nothing is to happen.
    boost::asio::io_context clock;
    boost::asio::steady_timer(clock, std::chrono::milliseconds(600)).wait();
    peer.Say(kEvent1);
    peer.Say(kEvent2);
    peer.Say(R"({"type":"caught_up","thread_id":"t1","offset":2})");
    peer.WaitForEnd();
  }});
  EXPECT_EQ(gateway.Tail("0.2").exit_code, kOk);
}

TEST(Tail, SaysWhatIsMissedEvenIfOnlyEventsArePrinted) {
  ScriptedGateway gateway({[](Peer& peer) {
    peer.Connect();
    peer.Subscribed(1, 2);
    peer.Say(R"({"type":"missed","thread_id":"t1","epoch":"e","from_offset":1,"to_offset":1,)"
             R"("reason":"expired"})");
    peer.Say(kEvent2);
    peer.Say(R"({"type":"caught_up","thread_id":"t1","offset":2})");
    peer.WaitForEnd();
  }});
  EXPECT_THAT(gateway.Tail("60").err, HasSubstr("missed offsets 1 to 1: expired"));
}

}  // namespace
}  // namespace clarion::ctl
