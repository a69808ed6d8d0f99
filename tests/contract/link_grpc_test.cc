#include "gateway/link/grpc_link_client.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "service/delivery/grpc_link_server.h"
#include "telemetry/runtime/thread_scheduler.h"
#include "tests/contract/link_contract.h"

namespace clarion::link {
namespace {

class GrpcHarness : public LinkHarness {
 public:
  GrpcHarness(FakeService* service, const LinkBounds& bounds)
      : scheduler_(MakeThreadScheduler()),
        link_server_(MakeGrpcLinkServer(service, {.live_bytes = bounds.live_bytes,
                                                  .control_messages = bounds.control_messages,
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
                               .backoff_most = std::chrono::milliseconds(200)});
  }

  std::chrono::milliseconds heartbeat{5'000};

 private:
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

TEST_P(GrpcLinkTest, AGatewayThatGoesIsDetachedAtOnce) {
  Begin();
  link_->Stop();
  Until([this] { return service_.detached().size() == 1; });
}

TEST_P(GrpcLinkTest, HeartbeatsStayInTheCarrier) {
  harness_ = Make(&service_, {});
  harness().heartbeat = std::chrono::milliseconds(1);
  link_ = harness_->MakeLink(loop_);
  link_->Start(&sink_);
  Until([this] { return sink_.up; });
  // Long enough for many beats: each answer is a batch that the loop takes.
  for (uint64_t i = 1; i <= 20; ++i) {
    link_->Send(FromGateway(i));
    Until([&] { return service_.messages().size() == i; });
  }
  for (const v1::GatewayMessage& message : service_.messages())
    EXPECT_TRUE(message.has_confirmed());
  EXPECT_TRUE(sink_.received.empty());
  EXPECT_TRUE(sink_.up);
}

TEST_P(GrpcLinkTest, TriesUntilAServiceIsThere) {
  // Nobody listens where this one goes.
  link_ =
      MakeGrpcLink(loop_, {.target = "127.0.0.1:1", .backoff_most = std::chrono::milliseconds(20)});
  link_->Start(&sink_);
  loop_.run_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(sink_.up);
  EXPECT_TRUE(sink_.downs.empty());
}

}  // namespace
}  // namespace clarion::link
