// Callers that go away at any moment: nothing leaks, nothing is called after the end, the service
// serves on and stops. Run under AddressSanitizer and ThreadSanitizer, which judge it.
#include <random>

#include "service/front/front_testing.h"

namespace clarion::front {
namespace {

class CancelTest : public FrontTest {
 protected:
  // Makes calls of every kind that may wait, and cancels each after a random moment.
  void Hurry(int seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    for (int i = 0; i < kCalls; ++i) {
      grpc::ClientContext context;
      const std::string name = std::to_string(seed) + "-" + std::to_string(i);
      std::thread canceller([&context, delay = random() % 3000] {
        std::this_thread::sleep_for(std::chrono::microseconds(delay));
        context.TryCancel();
      });
      MakeCall(random() % 6, name, &context);
      canceller.join();
    }
  }

  void MakeCall(unsigned kind, const std::string& name, grpc::ClientContext* context) {
    switch (kind) {
      case 0: {
        v1::StartRunRequest request = RunRequest(name, "", "t-" + name);
        request.set_min_readiness(v1::READINESS_SUBSCRIBED);
        request.mutable_ready_timeout()->set_seconds(60);
        v1::StartRunResponse response;
        stub_->StartRun(context, request, &response);
        break;
      }
      case 1: {
        v1::AwaitReadyRequest request;
        request.set_user_id(kUser);
        request.set_thread_id("t-" + name);
        request.set_min_readiness(v1::READINESS_SUBSCRIBED);
        request.mutable_timeout()->set_seconds(60);
        v1::AwaitReadyResponse response;
        stub_->AwaitReady(context, request, &response);
        break;
      }
      case 2: {
        v1::BindThreadRequest request;
        request.set_user_id("silent");
        request.set_thread_id("b-" + name);
        request.mutable_timeout()->set_seconds(1);
        v1::BindThreadResponse response;
        stub_->BindThread(context, request, &response);
        break;
      }
      case 3: {
        v1::CheckWiringRequest request;
        request.mutable_timeout()->set_seconds(1);
        v1::CheckWiringResponse response;
        stub_->CheckWiring(context, request, &response);
        break;
      }
      case 4: {
        v1::WatchConnectionsRequest request;
        request.set_user_id(kUser);
        auto reader = stub_->WatchConnections(context, request);
        v1::WatchConnectionsResponse response;
        while (reader->Read(&response)) {
        }
        reader->Finish();
        break;
      }
      default: {
        auto stream = stub_->PublishStream(context);
        v1::PublishStreamRequest batch;
        for (int i = 0; i < 20; ++i) *batch.add_events() = Delta(name + "-" + std::to_string(i));
        while (stream->Write(batch)) {
        }
        stream->Finish();
      }
    }
  }

  static constexpr int kCallers = 6, kCalls = 40;
};

TEST_F(CancelTest, ServesOnAndStopsAfterCallersThatGoAtAnyMoment) {
  auto gateway = Gateway("g");
  gateway->Connect(kUser, "c");
  auto silent = Gateway("s", {.confirm = false, .canary = FakeGateway::Behaviour::Canary::kSilent});
  silent->Connect("silent", "s-c");
  std::vector<std::thread> callers;
  callers.reserve(kCallers);
  for (int i = 0; i < kCallers; ++i) callers.emplace_back([this, i] { Hurry(i); });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(MustPublish(Delta("after", "after")).offset(), 1u);
  Stop();
}

TEST_F(CancelTest, StopsInTheMiddleOfCallsOfEveryKind) {
  auto gateway = Gateway("g");
  gateway->Connect(kUser, "c");
  std::vector<std::thread> callers;
  callers.reserve(kCallers);
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([this, i] {
      for (unsigned kind = 0; kind < 6; ++kind) {
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(2));
        MakeCall((kind + static_cast<unsigned>(i)) % 6, std::to_string(i), &context);
      }
    });
  }
  MustPublish(Delta("e", "before-the-stop"));
  app_->Stop();
  for (std::thread& caller : callers) caller.join();
}

}  // namespace
}  // namespace clarion::front
