#include "gateway/link/grpc_link_client.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "proto/contract/error.h"
#include "proto/contract/raw_call_testing.h"
#include "service/delivery/grpc_link_server.h"
#include "telemetry/metrics.h"
#include "telemetry/runtime/thread_scheduler.h"
#include "tests/contract/link_contract.h"

namespace clarion::link {
namespace {

using std::chrono::milliseconds;

class GrpcHarness : public LinkHarness {
 public:
  GrpcHarness(FakeService* service, const LinkBounds& bounds,
              std::chrono::milliseconds silence = std::chrono::seconds(16))
      : displaced_first_(bounds.displaced_first),
        scheduler_(MakeThreadScheduler()),
        link_server_(MakeGrpcLinkServer(service, {.live_bytes = bounds.live_bytes,
                                                  .control_messages = bounds.control_messages,
                                                  .silence = silence,
                                                  .scheduler = scheduler_.get()})) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(link_server_.get());
    server_ = builder.BuildAndStart();
  }
  ~GrpcHarness() override { StopServer(); }

  void StopServer() {
    if (server_ == nullptr) return;
    link_server_->Stop();
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
    server_.reset();
  }
  std::unique_ptr<Link> MakeLink(boost::asio::io_context& loop) override {
    return MakeGrpcLink(loop, {.target = "127.0.0.1:" + std::to_string(port_),
                               .heartbeat = heartbeat,
                               .backoff_most = std::chrono::milliseconds(200),
                               .displaced_first = displaced_first_});
  }

  void TakeNobody() { link_server_->Stop(); }
  std::shared_ptr<grpc::Channel> Channel() const {
    return grpc::CreateChannel("127.0.0.1:" + std::to_string(port_),
                               grpc::InsecureChannelCredentials());
  }

  std::chrono::milliseconds heartbeat{5'000};

 private:
  const std::chrono::milliseconds displaced_first_;
  const std::unique_ptr<Scheduler> scheduler_;
  const std::unique_ptr<GrpcLinkServer> link_server_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

std::unique_ptr<LinkHarness> Make(FakeService* service, const LinkBounds& bounds) {
  return std::make_unique<GrpcHarness>(service, bounds);
}

INSTANTIATE_TEST_SUITE_P(Grpc, LinkContractTest, testing::Values(&Make));

class GrpcLinkTest : public LinkContractTest {
 protected:
  GrpcHarness& harness() { return static_cast<GrpcHarness&>(*harness_); }
};
INSTANTIATE_TEST_SUITE_P(Grpc, GrpcLinkTest, testing::Values(&Make));

TEST_P(GrpcLinkTest, CarriesOnlyTheEncodingsThatAreWanted) {
  Begin();
  v1::GatewayMessage hello;
  hello.mutable_hello()->set_want_json(true);
  link_->Send(hello);
  Until([this] { return service_.messages().size() == 1; });
  service_.attachment()->SendLive(LiveOf(1, 1));
  Until([this] { return !sink_.received.empty(); });
  const auto& live = std::get<Live>(sink_.received[0]);
  EXPECT_EQ(live.events[0]->json(), std::string(10, 'j'));
  EXPECT_EQ(live.events[0]->proto(), "");
}

TEST_P(GrpcLinkTest, ServerThatStopsDetachesItsGatewaysAndTellsThem) {
  Begin();
  harness().StopServer();
  EXPECT_EQ(service_.detached().size(), 1u);
  Until([this] { return sink_.downs.size() == 1; });
}

TEST_P(GrpcLinkTest, AServerThatTakesNobodyIsNotUp) {
  Begin();
  const Counter& failures =
      GetCounter("clarion_failures_total", "", {{"reason", "GATEWAY_UNAVAILABLE"}});
  const uint64_t before = failures.value();
  harness().TakeNobody();
  Until([&] { return failures.value() >= before + 2; });
  EXPECT_EQ(sink_.ups, 1);
  EXPECT_EQ(sink_.downs.size(), 1u);
}

TEST_P(GrpcLinkTest, AGatewayThatGoesIsDetachedAtOnce) {
  Begin();
  link_->Stop();
  Until([this] { return service_.detached().size() == 1; });
}

// What a gateway with many connections says when it attaches anew: far more than a gRPC server
// takes in one message.
TEST_P(GrpcLinkTest, RestoresMoreThanOneMessageMayHold) {
  harness_ = Make(&service_, {});
  link_ = harness_->MakeLink(loop_);
  constexpr uint64_t kSubscriptions = 60'000;
  sink_.on_up = [this] {
    for (uint64_t i = 1; i <= kSubscriptions; ++i) {
      v1::GatewayMessage message;
      message.mutable_subscribe()->set_subscription_id(i);
      message.mutable_subscribe()->set_thread_id(std::string(100, 't'));
      link_->Send(std::move(message));
    }
  };
  link_->Start(&sink_);
  Until([&] { return service_.messages().size() == kSubscriptions; });
  EXPECT_EQ(sink_.ups, 1);
  const auto messages = service_.messages();
  ASSERT_EQ(messages.size(), kSubscriptions);
  for (uint64_t i = 1; i <= kSubscriptions; ++i)
    ASSERT_EQ(messages[i - 1].subscribe().subscription_id(), i);
}

TEST_P(GrpcLinkTest, CarriesARunOfEventsThatOneMessageCannotHold) {
  Begin();
  constexpr int kEvents = 100;
  constexpr size_t kBytes = 200'000;  // in each encoding: 40 MB, and the gateway takes 16 MiB
  EXPECT_TRUE(service_.attachment()->SendLive(LiveOf(1, kEvents, kBytes)));
  service_.attachment()->SendControl(Control(7));
  const auto over = [this] {
    return !sink_.received.empty() &&
           std::holds_alternative<v1::ServiceMessage>(sink_.received.back());
  };
  Until(over);
  ASSERT_TRUE(over());
  sink_.received.pop_back();
  uint64_t next = 1;
  for (const ToGateway& message : sink_.received) {
    const Live& live = std::get<Live>(message);
    EXPECT_EQ(live.first, Offset(next));
    next += live.events.size();
  }
  EXPECT_EQ(next, kEvents + 1u);
  EXPECT_EQ(sink_.ups, 1);
}

TEST_P(GrpcLinkTest, BytesThatAreNoMessageEndTheStreamWithAReason) {
  harness_ = Make(&service_, {});
  RawStream stream(harness().Channel(), "/clarion.v1.GatewayService/Attach");
  stream.Write("\x0a\x7fshort");
  v1::AttachResponse response;
  EXPECT_FALSE(stream.Read(&response));
  const absl::Status status = FromGrpc(stream.Finish());
  EXPECT_EQ(ReasonOf(status), Reason::kContextInvalid) << status;
  EXPECT_EQ(ContextOf(status).operation, "Attach");
  Until([this] { return service_.detached().size() == 1; });
  EXPECT_EQ(ReasonOf(service_.detached().front()), Reason::kContextInvalid);
}

TEST_P(GrpcLinkTest, BytesThatAreNoPageRequestAreRefusedWithAReason) {
  harness_ = Make(&service_, {});
  const absl::Status status = FromGrpc(
      RawCall(harness().Channel(), "/clarion.v1.GatewayService/ReadPage", "\x0a\x7fshort"));
  EXPECT_EQ(ReasonOf(status), Reason::kContextInvalid) << status;
  EXPECT_EQ(ContextOf(status).operation, "ReadPage");
}

TEST_P(GrpcLinkTest, BytesThatAreNoQuestionAreRefusedWithAReason) {
  harness_ = Make(&service_, {});
  const absl::Status status =
      FromGrpc(RawCall(harness().Channel(), "/clarion.v1.GatewayService/Ask", "\x0a\x7fshort"));
  EXPECT_EQ(ReasonOf(status), Reason::kContextInvalid) << status;
  EXPECT_EQ(ContextOf(status).operation, "Ask");
}

TEST_P(GrpcLinkTest, HeartbeatsStayInTheCarrier) {
  harness_ = Make(&service_, {});
  harness().heartbeat = std::chrono::milliseconds(1);
  link_ = harness_->MakeLink(loop_);
  link_->Start(&sink_);
  // Long enough for many beats: each answer is a batch that the loop takes. On a busy machine three
  // of them may be late, and the link comes up anew: what it forgot is said again.
  for (uint64_t i = 1; i <= 20; ++i) {
    int said_on = 0;
    Until([&] {
      if (sink_.up && std::exchange(said_on, sink_.ups) != sink_.ups) link_->Send(FromGateway(i));
      return service_.messages().size() >= i;
    });
  }
  for (const v1::GatewayMessage& message : service_.messages())
    EXPECT_TRUE(message.has_confirmed());
  EXPECT_TRUE(sink_.received.empty());
}

// Takes streams and everything that is said on them, and never says a word.
class MuteService : public v1::GatewayService::CallbackService {
 public:
  grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>* Attach(
      grpc::CallbackServerContext* /*context*/) override {
    class Reactor : public grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse> {
     public:
      Reactor() {
        StartSendInitialMetadata();
        StartRead(&request_);
      }
      void OnReadDone(bool ok) override {
        if (!ok) return Finish(grpc::Status::OK);
        StartRead(&request_);
      }
      void OnDone() override { delete this; }

     private:
      v1::AttachRequest request_;
    };
    return new Reactor;
  }
};

// Ends after the link that it serves.
class MuteServer {
 public:
  MuteServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  ~MuteServer() { server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5)); }
  std::string target() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  MuteService service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// MuteService answers no unary call: as a service that does not know them.
TEST_P(GrpcLinkTest, AQuestionThatAnOlderServiceDoesNotKnowIsAnsweredThatItIsOlder) {
  const MuteServer mute;
  link_ = MakeGrpcLink(loop_, {.target = mute.target()});
  link_->Start(&sink_);
  Until([this] { return sink_.up; });
  absl::Status got;
  link_->Ask({}, [&](absl::StatusOr<v1::AskResponse> response) { got = response.status(); });
  Until([&] { return !got.ok(); });
  EXPECT_EQ(ReasonOf(got), Reason::kNotInitialized);
  EXPECT_THAT(got.message(), testing::HasSubstr("older"));
  EXPECT_EQ(ContextOf(got).operation, "Ask");
  EXPECT_TRUE(sink_.up);
  link_->Stop();
}

TEST_P(GrpcLinkTest, AServiceThatIsSilentForThreeHeartbeatsIsGone) {
  const MuteServer mute;
  link_ =
      MakeGrpcLink(loop_, {.target = mute.target(), .heartbeat = std::chrono::milliseconds(20)});
  link_->Start(&sink_);
  Until([this] { return !sink_.downs.empty(); });
  Until([this] { return sink_.ups == 2; });
  link_->Stop();
}

TEST_P(GrpcLinkTest, AGatewayThatIsSilentIsGoneHoweverMuchTheServiceSays) {
  auto harness = std::make_unique<GrpcHarness>(&service_, LinkBounds(), milliseconds(50));
  harness->heartbeat = std::chrono::hours(1);
  harness_ = std::move(harness);
  link_ = harness_->MakeLink(loop_);
  link_->Start(&sink_);
  uint64_t said = 0;
  Until([&] {
    if (const auto attachment = service_.attachment()) attachment->SendControl(Control(++said));
    return !service_.detached().empty() && !sink_.downs.empty();
  });
  EXPECT_EQ(service_.detached().front().message(), "the gateway is silent");
}

TEST_P(GrpcLinkTest, TriesUntilAServiceIsThere) {
  // Nobody listens where this one goes.
  link_ =
      MakeGrpcLink(loop_, {.target = "127.0.0.1:1", .backoff_most = std::chrono::milliseconds(20)});
  const Counter& failures =
      GetCounter("clarion_failures_total", "", {{"reason", "GATEWAY_UNAVAILABLE"}});
  const uint64_t before = failures.value();
  testing::internal::CaptureStderr();
  link_->Start(&sink_);
  Until([&] { return failures.value() >= before + 2; });
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, testing::HasSubstr("cannot attach to 127.0.0.1:1"));
  EXPECT_THAT(log, testing::HasSubstr("cause="));
  EXPECT_FALSE(sink_.up);
  EXPECT_TRUE(sink_.downs.empty());
}

}  // namespace
}  // namespace clarion::link
