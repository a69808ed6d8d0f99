// CheckWiring, with gateways played by the test; the real ones are in tests/e2e.
#include "proto/contract/event_json.h"
#include "proto/contract/event_type.h"
#include "service/front/front_testing.h"
#include "service/front/wiring_canaries.h"

namespace clarion::front {
namespace {

using Canary = FakeGateway::Behaviour::Canary;
using testing::HasSubstr;
using testing::IsEmpty;

class WiringTest : public FrontTest {
 protected:
  v1::CheckWiringResponse Check(const std::vector<std::string>& gateways = {},
                                std::chrono::milliseconds timeout = std::chrono::seconds(10)) {
    v1::CheckWiringRequest request;
    for (const auto& gateway : gateways) request.add_gateway_ids(gateway);
    request.mutable_timeout()->set_seconds(timeout.count() / 1000);
    request.mutable_timeout()->set_nanos(static_cast<int>(timeout.count() % 1000) * 1'000'000);
    v1::CheckWiringResponse response;
    EXPECT_THAT(Call(&Stub::CheckWiring, request, &response), IsOk());
    return response;
  }
};

TEST_F(WiringTest, SeesEveryTypeArriveOnEveryLoopOfAGateway) {
  Gateway("g.0");
  Gateway("g.1");
  for (const auto& gateways : {std::vector<std::string>{}, std::vector<std::string>{"g"}}) {
    const auto found = Check(gateways);
    EXPECT_TRUE(found.ok());
    ASSERT_EQ(found.canaries_size(), static_cast<int>(2 * kEventTypes.size()));
    for (const auto& canary : found.canaries()) {
      EXPECT_EQ(canary.step(), v1::WIRING_STEP_ARRIVED) << canary.DebugString();
      EXPECT_TRUE(canary.has_took());
      EXPECT_THAT(canary.message(), IsEmpty());
    }
    EXPECT_EQ(found.canaries(0).type(), "agent_started");
    EXPECT_EQ(found.canaries(0).gateway_id(), "g.0");
  }
}

TEST_F(WiringTest, LeavesNothingBehind) {
  Gateway("g");
  ASSERT_TRUE(Check().ok());
  v1::ListThreadsResponse threads;
  ASSERT_THAT(Call(&Stub::ListThreads, v1::ListThreadsRequest(), &threads), IsOk());
  EXPECT_EQ(threads.threads_size(), 0);
  EXPECT_THAT(threads.next_page_token(), IsEmpty());
}

TEST_F(WiringTest, FindsThatNoGatewayIsAttached) {
  const auto found = Check();
  EXPECT_FALSE(found.ok());
  ASSERT_EQ(found.canaries_size(), 1);
  EXPECT_EQ(found.canaries(0).step(), v1::WIRING_STEP_LINK);
  EXPECT_THAT(found.canaries(0).message(), HasSubstr("no gateway"));
}

TEST_F(WiringTest, FindsAGatewayThatIsAttachedElsewhere) {
  Gateway("mine");
  const auto found = Check({"mine", "other"});
  EXPECT_FALSE(found.ok());
  ASSERT_EQ(found.canaries_size(), static_cast<int>(kEventTypes.size()) + 1);
  EXPECT_EQ(found.canaries(0).gateway_id(), "other");
  EXPECT_EQ(found.canaries(0).step(), v1::WIRING_STEP_LINK);
  EXPECT_EQ(found.canaries(1).step(), v1::WIRING_STEP_ARRIVED);
}

TEST_F(WiringTest, FindsATypeThatTheEncoderLacks) {
  Stop();
  options_.encoder = [](const v1::Event& event, std::string* out) {
    return event.has_recovery_attempt() ? false : AppendEventJson(event, out);
  };
  Start();
  Gateway("g");
  const auto found = Check();
  EXPECT_FALSE(found.ok());
  for (const auto& canary : found.canaries()) {
    EXPECT_EQ(canary.step(), canary.type() == "recovery_attempt" ? v1::WIRING_STEP_ENCODE
                                                                 : v1::WIRING_STEP_ARRIVED);
  }
}

TEST_F(WiringTest, FindsAGatewayThatDoesNotAnswer) {
  Gateway("g", {.canary = Canary::kSilent});
  const auto found = Check({}, std::chrono::milliseconds(50));
  EXPECT_FALSE(found.ok());
  ASSERT_EQ(found.canaries_size(), 1);
  EXPECT_EQ(found.canaries(0).step(), v1::WIRING_STEP_LINK);
}

TEST_F(WiringTest, FindsAGatewayThatCannotReachItself) {
  Gateway("g", {.canary = Canary::kCannotConnect});
  const auto found = Check();
  ASSERT_EQ(found.canaries_size(), 1);
  EXPECT_EQ(found.canaries(0).step(), v1::WIRING_STEP_CONNECT);
}

TEST_F(WiringTest, FindsEventsThatDoNotComeOutOfTheSocket) {
  Gateway("g", {.canary = Canary::kBlind});
  const auto found = Check({}, std::chrono::milliseconds(200));
  EXPECT_FALSE(found.ok());
  ASSERT_EQ(found.canaries_size(), static_cast<int>(kEventTypes.size()));
  for (const auto& canary : found.canaries()) EXPECT_EQ(canary.step(), v1::WIRING_STEP_SOCKET);
}

TEST_F(WiringTest, ChecksFields) {
  v1::CheckWiringRequest request;
  request.mutable_timeout()->set_seconds(31);
  request.add_gateway_ids("");
  EXPECT_THAT(Call(&Stub::CheckWiring, request), NamesField("timeout"));
  EXPECT_THAT(Call(&Stub::CheckWiring, request), NamesField("gateway_ids[0]"));
}

TEST(WiringCanariesTest, AreValidEventsOfEveryType) {
  const auto canaries = MakeCanaries(ThreadId("_clarion.x"));
  ASSERT_EQ(canaries.size(), kEventTypes.size());
  for (size_t i = 0; i < canaries.size(); ++i) {
    EXPECT_EQ(canaries[i].payload_case(), kEventTypes[i].payload);
    std::vector<FieldViolation> faults;
    ValidateEvent(canaries[i], "", &faults, EventOrigin::kService);
    EXPECT_TRUE(faults.empty()) << kEventTypes[i].name << ": " << faults[0].field;
  }
}

}  // namespace
}  // namespace clarion::front
