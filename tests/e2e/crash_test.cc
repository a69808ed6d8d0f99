// Programs die in mid-traffic. Judged by what publishers were answered and what browsers saw.
#include <signal.h>

#include <random>
#include <thread>

#include "gtest/gtest.h"
#include "tests/e2e/support/browser.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"

namespace clarion::testing {
namespace {

constexpr int kThreads = 50;
constexpr int kKills = 10;

class CrashTest : public ::testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    deployment_.Start();
    for (int i = 0; i < kThreads; ++i) {
      threads_.push_back("thread" + std::to_string(i));
      BrowserOptions options;
      options.port = deployment_.stream_port();
      options.token = [this] { return deployment_.Token("ada"); };
      options.threads = {threads_.back()};
      options.ack_every = 10;
      browsers_.Open(std::move(options));
    }
    for (int p = 0; p < 8; ++p) {
      producers_.push_back(std::make_unique<Producer>(
          deployment_, &record_, p < 4 ? Style::kOneByOne : Style::kPipelined,
          "producer" + std::to_string(p), "ada", threads_));
    }
  }

  // Waits until at least this many more events were accepted: there is traffic.
  void WaitForTraffic(size_t events) {
    ASSERT_TRUE(record_.WaitForCount(record_.count() + events, std::chrono::seconds(60)))
        << "publishing does not get on";
  }

  void ExpectEveryViewEqualsTheRecord() {
    for (auto& producer : producers_) producer->Stop();
    EXPECT_EQ(record_.fault(), "");
    for (int i = 0; i < kThreads; ++i) {
      const auto accepted = record_.Of(threads_[i]);
      ASSERT_FALSE(accepted.empty());
      const uint64_t last = accepted.rbegin()->first;
      ASSERT_TRUE(browsers_.WaitForOffset(i, threads_[i], last)) << "browser " << i;
      const ThreadView view = browsers_.View(i, threads_[i]);
      EXPECT_EQ(view.fault, "") << "browser " << i;
      std::map<uint64_t, std::string> seen;
      for (const auto& event : view.events) seen.emplace(event.offset, event.event_id);
      EXPECT_EQ(seen.size(), view.events.size()) << "repeats on browser " << i;
      // Every answer was seen. An event may also be there whose answer died with the process and
      // whose producer sent it again: then that answer names the same offset.
      for (const auto& [offset, id] : accepted) {
        ASSERT_EQ(seen[offset], id) << threads_[i] << " at " << offset;
      }
      EXPECT_EQ(accepted.size(), last) << "offsets without an accepted event in " << threads_[i];
    }
  }

  Deployment deployment_{GetParam()};
  std::vector<std::string> threads_;
  AnswerRecord record_;
  Browsers browsers_;
  std::vector<std::unique_ptr<Producer>> producers_;
};

TEST_P(CrashTest, KilledServiceLosesNothingItAccepted) {
  std::mt19937 random(11);
  for (int kill = 0; kill < kKills; ++kill) {
    WaitForTraffic(200 + random() % 500);
    deployment_.service().Stop(SIGKILL);
    deployment_.StartService();
  }
  WaitForTraffic(500);
  ExpectEveryViewEqualsTheRecord();
}

TEST_P(CrashTest, KilledGatewayCostsBrowsersNothing) {
  std::mt19937 random(12);
  for (int kill = 0; kill < kKills; ++kill) {
    WaitForTraffic(200 + random() % 500);
    deployment_.gateway().Stop(SIGKILL);
    if (deployment_.one_process()) {
      deployment_.StartService();
    } else {
      deployment_.StartGateway();
    }
  }
  WaitForTraffic(500);
  ExpectEveryViewEqualsTheRecord();
}

TEST_P(CrashTest, StoppedServiceLosesNothingItAccepted) {
  for (int stop = 0; stop < 3; ++stop) {
    WaitForTraffic(300);
    EXPECT_EQ(deployment_.service().Stop(SIGTERM), 0) << deployment_.service().log();
    deployment_.StartService();
  }
  WaitForTraffic(300);
  ExpectEveryViewEqualsTheRecord();
}

INSTANTIATE_TEST_SUITE_P(Forms, CrashTest,
                         ::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                         [](const auto& info) { return NameOf(info.param); });

// GetConnections tells the truth within a heartbeat of a gateway's death.
TEST(ConnectionsTest, ConnectionsOfAKilledGatewayAreGoneAtOnceAndComeBack) {
  Deployment deployment(Form::kTwoProcesses);
  deployment.Start();
  Browsers browsers;
  for (int i = 0; i < 10; ++i) {
    BrowserOptions options;
    options.port = deployment.stream_port();
    options.token = [&] { return deployment.Token("ada"); };
    options.threads = {"t"};
    browsers.Open(std::move(options));
  }
  auto stub = deployment.Stub();
  const auto connected = [&] {
    v1::GetConnectionsRequest request;
    request.set_user_id("ada");
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    v1::GetConnectionsResponse response;
    if (!stub->GetConnections(&context, request, &response).ok()) return -1;  // just killed
    int count = 0;
    for (const v1::Connection& connection : response.connections()) {
      count += connection.state() == v1::CONNECTION_STATE_CONNECTED;
    }
    return count;
  };
  // The gateway tells the service of them before their `connected` is read.
  const auto each_was_connected = [&](int times) {
    return browsers.WaitFor(std::chrono::seconds(20), [&] {
      for (size_t i = 0; i < browsers.size(); ++i) {
        if (browsers.connections(i) < times) return false;
      }
      return true;
    });
  };
  ASSERT_TRUE(browsers.WaitFor(std::chrono::seconds(20), [&] { return connected() == 10; }));
  ASSERT_TRUE(each_was_connected(1));
  deployment.gateway().Stop(SIGKILL);
  EXPECT_TRUE(browsers.WaitFor(std::chrono::seconds(20), [&] { return connected() == 0; }));
  deployment.StartGateway();
  EXPECT_TRUE(browsers.WaitFor(std::chrono::seconds(20), [&] { return connected() == 10; }));
  // The service dies and comes back; the gateway holds its browsers and tells of them again.
  deployment.service().Stop(SIGKILL);
  deployment.StartService();
  EXPECT_TRUE(browsers.WaitFor(std::chrono::seconds(20), [&] { return connected() == 10; }));
  EXPECT_TRUE(each_was_connected(2));
  for (size_t i = 0; i < browsers.size(); ++i) EXPECT_EQ(browsers.connections(i), 2);
}

}  // namespace
}  // namespace clarion::testing
