// What is not wired is found.
#include <signal.h>

#include <set>

#include "gtest/gtest.h"
#include "proto/contract/event_type.h"
#include "tests/e2e/support/deployment.h"

namespace clarion::testing {
namespace {

v1::CheckWiringResponse Check(const Deployment& deployment,
                              std::vector<std::string> gateways = {}) {
  v1::CheckWiringRequest request;
  for (const std::string& gateway : gateways) request.add_gateway_ids(gateway);
  grpc::ClientContext context;
  v1::CheckWiringResponse response;
  const grpc::Status status = deployment.Stub()->CheckWiring(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response;
}

class WiringTest : public ::testing::TestWithParam<Form> {};

TEST_P(WiringTest, EveryEventTypeArrivesOverARealWebSocketAndLeavesNoTrace) {
  Deployment deployment(GetParam());
  deployment.Start();
  const auto response = Check(deployment);
  EXPECT_TRUE(response.ok()) << response.DebugString();
  std::set<std::string> types;
  for (const v1::WiringCanary& canary : response.canaries()) {
    EXPECT_EQ(canary.step(), v1::WIRING_STEP_ARRIVED) << canary.DebugString();
    types.insert(canary.type());
  }
  EXPECT_EQ(types.size(), kEventTypes.size());
  grpc::ClientContext context;
  v1::ListThreadsResponse threads;
  ASSERT_TRUE(deployment.Stub()->ListThreads(&context, {}, &threads).ok());
  EXPECT_EQ(threads.threads_size(), 0);
}

INSTANTIATE_TEST_SUITE_P(Forms, WiringTest,
                         ::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                         [](const auto& info) { return NameOf(info.param); });

TEST(WiringFaultTest, MissingGatewayIsFound) {
  Deployment deployment(Form::kTwoProcesses);
  deployment.StartService();
  const auto response = Check(deployment);
  EXPECT_FALSE(response.ok());
  ASSERT_EQ(response.canaries_size(), 1);
  EXPECT_EQ(response.canaries(0).step(), v1::WIRING_STEP_LINK);
}

TEST(WiringFaultTest, OfTwoGatewaysWithOneIdTheOlderStaysAwayWhileTheNewerLives) {
  Deployment deployment(Form::kTwoProcesses, {}, {"--gateway-id", "same"});
  deployment.Start();
  const uint16_t admin_port = FreePort();
  const auto loopback = [](uint16_t port) { return "127.0.0.1:" + std::to_string(port); };
  Program newer(std::filesystem::path(CLARION_BIN_DIR) / "gateway" / "clarion-gateway",
                {"--gateway-id", "same", "--token-secret", deployment.secret(), "--listen",
                 loopback(FreePort()), "--admin-listen", loopback(admin_port), "--service",
                 loopback(deployment.grpc_port())},
                deployment.dir() / "newer.log");
  newer.Start();
  WaitUntilServing(newer, admin_port, "/readyz");
  WaitUntilLogged(deployment.gateway(), "another gateway with the id 'same' is attached from ");
  EXPECT_EQ(HttpGet(deployment.gateway_admin_port(), "/readyz"), "");
  // Refused at least once, and nobody was disturbed by it.
  WaitUntilLogged(deployment.service(), "GATEWAY_DISPLACED");
  EXPECT_NE(HttpGet(admin_port, "/readyz"), "");
  EXPECT_EQ(newer.log().find("the link to the service is down"), std::string::npos);
  newer.Stop(SIGKILL);
  WaitUntilServing(deployment.gateway(), deployment.gateway_admin_port(), "/readyz");
}

TEST(WiringFaultTest, GatewayOfAnotherServiceIsFound) {
  Deployment mine(Form::kTwoProcesses, {}, {"--gateway-id", "mine"});
  Deployment other(Form::kTwoProcesses, {}, {"--gateway-id", "other"});
  mine.Start();
  other.Start();
  EXPECT_TRUE(Check(mine, {"mine"}).ok());
  const auto response = Check(mine, {"mine", "other"});
  EXPECT_FALSE(response.ok());
  bool named = false;
  for (const v1::WiringCanary& canary : response.canaries()) {
    if (canary.gateway_id() == "other") {
      EXPECT_EQ(canary.step(), v1::WIRING_STEP_LINK);
      named = true;
    }
  }
  EXPECT_TRUE(named);
}

}  // namespace
}  // namespace clarion::testing
