// The race that seeded this project: an agent starts while its user's browser is still connecting.
#include <random>
#include <thread>

#include "gtest/gtest.h"
#include "tests/e2e/support/browser.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"

namespace clarion::testing {
namespace {

constexpr int kRuns = 1000;
constexpr int kEventsEach = 5;

class RaceTest : public ::testing::TestWithParam<Form> {
 protected:
  void SetUp() override { deployment_.Start(); }

  // Browser i connects at a random moment of the same second in which run i starts.
  void OpenBrowsers() {
    std::mt19937 random(7);
    std::uniform_int_distribution<int> delay(0, 400);
    for (int i = 0; i < kRuns; ++i) {
      BrowserOptions options;
      options.port = deployment_.stream_port();
      const std::string user = "user" + std::to_string(i);
      options.token = [this, user] { return deployment_.Token(user); };
      options.threads = {"thread" + std::to_string(i)};
      options.before_connect = std::chrono::milliseconds(delay(random));
      options.before_subscribe = std::chrono::milliseconds(delay(random) / 4);
      options.before_read = std::chrono::milliseconds(delay(random) / 8);
      browsers_.Open(std::move(options));
    }
  }

  // Calls `run(i, stub)` for all runs from sixteen threads at once.
  void ForEachRun(const std::function<void(int, v1::EventService::Stub&)>& run) {
    std::vector<std::thread> threads;
    threads.reserve(16);
    for (int t = 0; t < 16; ++t) {
      threads.emplace_back([this, t, &run] {
        auto stub = deployment_.Stub();
        for (int i = t; i < kRuns; i += 16) run(i, *stub);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  void PublishRest(int i, v1::EventService::Stub& stub, int from) {
    for (int e = from; e <= kEventsEach; ++e) {
      v1::PublishRequest request;
      *request.mutable_event() = Thinking("user" + std::to_string(i), "thread" + std::to_string(i),
                                          "e" + std::to_string(e));
      grpc::ClientContext context;
      v1::PublishResponse response;
      const grpc::Status status = stub.Publish(&context, request, &response);
      EXPECT_TRUE(status.ok()) << status.error_message();
    }
  }

  void ExpectEverythingSeen() {
    for (int i = 0; i < kRuns; ++i) {
      const std::string thread = "thread" + std::to_string(i);
      ASSERT_TRUE(browsers_.WaitForOffset(i, thread, kEventsEach)) << "browser " << i;
      const ThreadView view = browsers_.View(i, thread);
      EXPECT_EQ(view.fault, "") << "browser " << i;
      ASSERT_EQ(view.events.size(), static_cast<size_t>(kEventsEach)) << "browser " << i;
      EXPECT_EQ(view.events.front().offset, 1u);
    }
  }

  Deployment deployment_{GetParam()};
  Browsers browsers_;
};

TEST_P(RaceTest, StartRunWaitsForItsUserAndNothingNeedsReplay) {
  OpenBrowsers();
  std::atomic<int> delivering{0};
  ForEachRun([&](int i, v1::EventService::Stub& stub) {
    v1::StartRunRequest request;
    request.set_request_id("start");
    request.set_user_id("user" + std::to_string(i));
    request.set_thread_id("thread" + std::to_string(i));
    request.set_agent_name("e2e");
    request.set_min_readiness(v1::READINESS_SUBSCRIBED);
    request.set_if_not_ready(v1::IF_NOT_READY_FAIL);
    request.mutable_ready_timeout()->set_seconds(60);
    grpc::ClientContext context;
    v1::StartRunResponse response;
    const grpc::Status status = stub.StartRun(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.started().offset(), 1u);
    if (response.started().disposition() == v1::DISPOSITION_DELIVERING &&
        response.started().subscriptions() >= 1) {
      ++delivering;
    }
    PublishRest(i, stub, 2);
  });
  EXPECT_EQ(delivering, kRuns);
  ExpectEverythingSeen();
  EXPECT_EQ(MetricValue(deployment_.gateway_admin_port(), "clarion_replay_pages_total"), 0);
}

TEST_P(RaceTest, PlainPublishMissesNothingEither) {
  OpenBrowsers();
  ForEachRun([&](int i, v1::EventService::Stub& stub) { PublishRest(i, stub, 1); });
  ExpectEverythingSeen();
}

INSTANTIATE_TEST_SUITE_P(Forms, RaceTest, ::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace clarion::testing
