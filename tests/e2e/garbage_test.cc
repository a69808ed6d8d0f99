// Bytes that no well-meaning client sends. Both programs answer with a typed error or a close, and
// serve on.
#include <random>

#include "boost/asio/connect.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/read.hpp"
#include "boost/asio/write.hpp"
#include "boost/beast/core.hpp"
#include "boost/beast/websocket.hpp"
#include "boost/json.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/contract/error.h"
#include "proto/contract/raw_call_testing.h"
#include "tests/e2e/support/browser.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"

namespace clarion::testing {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using asio::ip::tcp;

// A WebSocket client that does what it is told, however wrong.
class Wire {
 public:
  explicit Wire(uint16_t port) : stream_(context_) {
    stream_.next_layer().connect({asio::ip::address_v4::loopback(), port});
    stream_.set_option(websocket::stream_base::decorator([](websocket::request_type& request) {
      request.set(beast::http::field::sec_websocket_protocol, "clarion.v1.json");
    }));
    stream_.handshake("127.0.0.1", "/v1/stream");
  }

  void Text(std::string_view text) {
    boost::system::error_code ignored;
    stream_.text(true);
    stream_.write(asio::buffer(text.data(), text.size()), ignored);
  }
  void Binary(std::string_view bytes) {
    boost::system::error_code ignored;
    stream_.binary(true);
    stream_.write(asio::buffer(bytes.data(), bytes.size()), ignored);
  }
  void Raw(std::string_view bytes) {
    boost::system::error_code ignored;
    asio::write(stream_.next_layer(), asio::buffer(bytes.data(), bytes.size()), ignored);
  }
  void Connect(const Deployment& deployment) {
    Text(R"({"type":"connect","protocol":1,"token":")" + deployment.Token("ada") + "\"}");
    ASSERT_EQ(Next().at("type"), "connected");
  }
  // The next frame; an object with `closed` when there is none.
  boost::json::object Next() {
    beast::flat_buffer buffer;
    boost::system::error_code error;
    stream_.read(buffer, error);
    if (error) return {{"type", "closed"}, {"code", stream_.reason().code}};
    return boost::json::parse(beast::buffers_to_string(buffer.data())).as_object();
  }
  boost::json::object NextOf(std::string_view type) {
    for (;;) {
      boost::json::object frame = Next();
      const auto& got = frame.at("type").as_string();
      if (got == boost::json::string_view(type.data(), type.size()) || got == "closed")
        return frame;
    }
  }

 private:
  asio::io_context context_;
  websocket::stream<tcp::socket> stream_;
};

class GarbageTest : public ::testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    deployment_.Start();
    stub_ = deployment_.Stub();
  }

  // A whole exchange works: nothing that came before did harm.
  void ExpectServing() {
    ASSERT_TRUE(deployment_.service().running()) << deployment_.service().log();
    ASSERT_TRUE(deployment_.gateway().running()) << deployment_.gateway().log();
    Wire wire(deployment_.stream_port());
    wire.Connect(deployment_);
    wire.Text(R"({"type":"subscribe","id":"s","thread_id":"serving","from":"live"})");
    ASSERT_EQ(wire.NextOf("subscribed").at("thread_id"), "serving");
    EXPECT_TRUE(Publish(Thinking("ada", "serving", "e" + std::to_string(++serial_))).ok());
    EXPECT_EQ(wire.NextOf("agent_thinking").at("event_id"),
              boost::json::string("e" + std::to_string(serial_)));
  }

  absl::Status Publish(const v1::Event& event) {
    v1::PublishRequest request;
    *request.mutable_event() = event;
    grpc::ClientContext context;
    v1::PublishResponse response;
    return FromGrpc(stub_->Publish(&context, request, &response));
  }

  Deployment deployment_{GetParam()};
  std::unique_ptr<v1::EventService::Stub> stub_;
  int serial_ = 0;
};

TEST_P(GarbageTest, RandomBytesOnTheSocketDoNoHarm) {
  std::mt19937 random(3);
  for (int i = 0; i < 200; ++i) {
    asio::io_context context;
    tcp::socket socket(context);
    socket.connect({asio::ip::address_v4::loopback(), deployment_.stream_port()});
    std::string bytes(1 + random() % 4000, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    boost::system::error_code ignored;
    asio::write(socket, asio::buffer(bytes), ignored);
  }
  for (int i = 0; i < 200; ++i) {
    Wire wire(deployment_.stream_port());
    std::string bytes(1 + random() % 400, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    wire.Raw(bytes);
  }
  ExpectServing();
}

TEST_P(GarbageTest, UnmaskedFrameIsRefused) {
  Wire wire(deployment_.stream_port());
  wire.Raw(std::string("\x81\x02{}", 4));
  EXPECT_EQ(wire.NextOf("closed").at("type"), "closed");
  ExpectServing();
}

struct WireCase {
  std::string text;
  std::string reason;
  int close_code;  // 0: the connection stays
};

TEST_P(GarbageTest, WrongFramesBeforeConnectAreNamedAndClosed) {
  const std::string deep(5000, '[');
  for (const WireCase& c : {
           WireCase{"not json", "CONTEXT_INVALID", 4400},
           WireCase{"{\"type\":", "CONTEXT_INVALID", 4400},
           WireCase{"{\"type\":\"connect\",\"token\":" + deep, "CONTEXT_INVALID", 4400},
           WireCase{"[]", "CONTEXT_INVALID", 4400},
           WireCase{R"({"type":"subscribe","thread_id":"t"})", "CONTEXT_INVALID", 4400},
           WireCase{R"({"type":"connect","protocol":1,"token":"no.such.token"})", "UNAUTHENTICATED",
                    4401},
           WireCase{R"({"type":"connect","protocol":1})", "UNAUTHENTICATED", 4401},
       }) {
    Wire wire(deployment_.stream_port());
    wire.Text(c.text);
    EXPECT_EQ(wire.NextOf("error").at("code"), boost::json::string(c.reason))
        << c.text.substr(0, 60);
    EXPECT_EQ(wire.NextOf("closed").at("code").to_number<int>(), c.close_code)
        << c.text.substr(0, 60);
  }
  ExpectServing();
}

TEST_P(GarbageTest, WrongFramesAfterConnectAreNamed) {
  const std::string long_id(129, 'x');
  for (const WireCase& c : {
           WireCase{R"({"type":"no_such","id":"1"})", "CONTEXT_INVALID", 0},
           WireCase{R"({"type":"subscribe","id":"1"})", "CONTEXT_INVALID", 0},
           WireCase{R"({"type":"subscribe","id":"1","thread_id":")" + long_id + "\"}",
                    "CONTEXT_INVALID", 0},
           WireCase{R"({"type":"subscribe","id":"1","thread_id":"a b"})", "CONTEXT_INVALID", 0},
           WireCase{R"({"type":"subscribe","id":"1","thread_id":"t","history":"short"})",
                    "CONTEXT_INVALID", 0},
           WireCase{R"({"type":"ack","id":"1","thread_id":"never","epoch":"e","offset":1})",
                    "NOT_FOUND", 0},
           WireCase{R"({"type":"run_input","id":"1","thread_id":"t","run_id":"r","kind":"cancel"})",
                    "CONTEXT_INVALID", 0},
           WireCase{"{{{", "CONTEXT_INVALID", 4400},
       }) {
    Wire wire(deployment_.stream_port());
    wire.Connect(deployment_);
    wire.Text(c.text);
    const auto error = wire.NextOf("error");
    EXPECT_EQ(error.at("code"), boost::json::string(c.reason)) << c.text.substr(0, 60);
    if (c.close_code) {
      EXPECT_EQ(wire.NextOf("closed").at("code").to_number<int>(), c.close_code);
    } else {
      EXPECT_EQ(error.at("id"), "1") << c.text.substr(0, 60);
      wire.Text(R"({"type":"subscribe","id":"2","thread_id":"t","from":"live"})");
      EXPECT_EQ(wire.NextOf("subscribed").at("id"), "2") << "the connection should have stayed";
    }
  }
}

TEST_P(GarbageTest, OversizedInvalidUtf8AndBinaryMessagesClose) {
  {
    Wire wire(deployment_.stream_port());
    wire.Connect(deployment_);
    wire.Text("{\"type\":\"subscribe\",\"thread_id\":\"" + std::string(500'000, 'x') + "\"}");
    EXPECT_EQ(wire.NextOf("closed").at("code").to_number<int>(), 4413);
  }
  {
    Wire wire(deployment_.stream_port());
    wire.Connect(deployment_);
    wire.Text("{\"type\":\"\xff\xfe\"}");
    EXPECT_EQ(wire.NextOf("closed").at("type"), "closed");
  }
  {
    Wire wire(deployment_.stream_port());
    wire.Connect(deployment_);
    wire.Binary("{}");
    EXPECT_EQ(wire.NextOf("closed").at("code").to_number<int>(), 4400);
  }
  ExpectServing();
}

TEST_P(GarbageTest, WrongEventsAreRefusedWithTheFieldNamed) {
  const auto violation = [&](const std::function<void(v1::Event&)>& spoil) {
    v1::Event event = Thinking("ada", "t", "e");
    spoil(event);
    const absl::Status status = Publish(event);
    EXPECT_EQ(ReasonOf(status), Reason::kContextInvalid) << status;
    const auto violations = ViolationsOf(status);
    return violations.empty() ? "" : violations[0].field;
  };
  EXPECT_EQ(violation([](v1::Event& e) { e.clear_event_id(); }), "event.event_id");
  EXPECT_EQ(violation([](v1::Event& e) { e.set_event_id("_mine"); }), "event.event_id");
  EXPECT_EQ(violation([](v1::Event& e) { e.set_user_id("_clarion"); }), "event.user_id");
  EXPECT_EQ(violation([](v1::Event& e) { e.set_thread_id(std::string(129, 'x')); }),
            "event.thread_id");
  EXPECT_EQ(violation([](v1::Event& e) { e.set_run_id("a b"); }), "event.run_id");
  EXPECT_EQ(violation([](v1::Event& e) { e.set_offset(3); }), "event.offset");
  EXPECT_EQ(violation([](v1::Event& e) { e.clear_payload(); }), "event.payload");
  EXPECT_EQ(violation([](v1::Event& e) {
              e.mutable_tool_executing()->set_tool_call_id("c");
              e.mutable_tool_executing()->set_tool_name("n");
              e.mutable_tool_executing()->set_arguments("{\"a\":");
            }),
            "event.tool_executing.arguments");
  EXPECT_EQ(violation([](v1::Event& e) { e.mutable_agent_completed(); }),
            "event.agent_completed.outcome");
  ExpectServing();
}

TEST_P(GarbageTest, BytesThatAreNoRequestAreRefusedAndNothingIsPrintedOfThem) {
  v1::PublishRequest request;
  *request.mutable_event() = Thinking("ada", "t", "e", "\xff\xfe");
  const auto channel = deployment_.Channel();
  for (const std::string& bytes : {request.SerializePartialAsString(), std::string("\x0a\x7f")}) {
    const absl::Status status =
        FromGrpc(RawCall(channel, "/clarion.v1.EventService/Publish", bytes));
    EXPECT_EQ(ReasonOf(status), Reason::kContextInvalid) << status;
    EXPECT_FALSE(ViolationsOf(status).empty()) << status;
  }
  EXPECT_EQ(deployment_.service().log().find("libprotobuf"), std::string::npos);
  ExpectServing();
}

TEST_P(GarbageTest, StreamSaysWhichMessageWasNoneAfterTheResultsBeforeIt) {
  v1::PublishStreamRequest batch;
  *batch.add_events()->mutable_event() = Thinking("ada", "t", "e");
  RawStream stream(deployment_.Channel(), "/clarion.v1.EventService/PublishStream");
  stream.Write(batch.SerializeAsString());
  stream.Write("\xff");
  stream.WritesDone();
  v1::PublishStreamResponse response;
  ASSERT_TRUE(stream.Read(&response));
  EXPECT_TRUE(response.results(0).has_accepted());
  EXPECT_FALSE(stream.Read(&response));
  const absl::Status status = FromGrpc(stream.Finish());
  EXPECT_EQ(ReasonOf(status), Reason::kContextInvalid) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("message 2 of the stream"));
  ExpectServing();
}

TEST_P(GarbageTest, OversizedEventIsRefused) {
  const absl::Status status = Publish(Thinking("ada", "t", "big", std::string(300'000, 'x')));
  EXPECT_EQ(ReasonOf(status), Reason::kBufferOverflow) << status;
  ExpectServing();
}

TEST_P(GarbageTest, ValuesThatThisVersionDoesNotKnowAreRefusedNotIgnored) {
  v1::StartRunRequest request;
  request.set_request_id("q");
  request.set_user_id("ada");
  request.set_thread_id("t");
  request.set_agent_name("agent");
  request.set_if_exists(static_cast<v1::IfExists>(99));
  grpc::ClientContext context;
  v1::StartRunResponse response;
  EXPECT_EQ(ReasonOf(FromGrpc(stub_->StartRun(&context, request, &response))),
            Reason::kContextInvalid);
}

TEST_P(GarbageTest, ForeignThreadIsRefusedWithUserThreadAndOperationNamed) {
  EXPECT_TRUE(Publish(Thinking("ada", "t", "a")).ok());
  const absl::Status status = Publish(Thinking("eve", "t", "b"));
  EXPECT_EQ(ReasonOf(status), Reason::kThreadOwnership);
  const ErrorContext context = ContextOf(status);
  EXPECT_EQ(context.user_id, "eve");
  EXPECT_EQ(context.thread_id, "t");
  EXPECT_EQ(context.operation, "Publish");
}

TEST_P(GarbageTest, FloodOfClaimsBlocksNobody) {
  Wire eve(deployment_.stream_port());
  eve.Text(R"({"type":"connect","protocol":1,"token":")" + deployment_.Token("eve") + "\"}");
  ASSERT_EQ(eve.Next().at("type"), "connected");
  int refused = 0;
  for (int i = 0; i < 40; ++i) {
    eve.Text(R"({"type":"subscribe","id":"c","thread_id":"future)" + std::to_string(i) + "\"}");
    const auto answer = eve.Next();
    if (answer.at("type") == "error") {
      EXPECT_EQ(answer.at("code"), "RATE_LIMITED");
      ++refused;
    } else {
      EXPECT_EQ(answer.at("type"), "subscribed");
      EXPECT_EQ(answer.at("claim"), true);
    }
  }
  EXPECT_EQ(refused, 40 - 16);
  ExpectServing();
}

INSTANTIATE_TEST_SUITE_P(Forms, GarbageTest,
                         ::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace clarion::testing
