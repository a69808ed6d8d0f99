#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/text.h"
#include "service/runs/start_run.h"

namespace clarion::runs {
namespace {

using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

TEST(RunFactsTest, ComeBackAsTheyWere) {
  const RunFacts facts{.request = {.high = 0x0123456789abcdef, .low = 7},
                       .readiness = v1::READINESS_SUBSCRIBED,
                       .producer_token = RandomHex(),
                       .lease = std::chrono::milliseconds(1'500)};
  const std::string data = EncodeRunFacts(facts);
  EXPECT_THAT(data, StartsWith("2 0123456789abcdef0000000000000007 2 "));
  const auto decoded = DecodeRunFacts(data);
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->request, facts.request);
  EXPECT_EQ(decoded->readiness, facts.readiness);
  EXPECT_EQ(decoded->producer_token, facts.producer_token);
  EXPECT_EQ(LeaseOf(data), facts.lease);
}

TEST(RunFactsTest, AreNothingForOtherData) {
  const std::string token(32, 'a');
  for (const std::string& data :
       {std::string(), Concat("3 ", token, " 1 ", token, " 0"),
        Concat("2 ", token, " 9 ", token, " 0"), Concat("2 ", token, " 1 short 0"),
        Concat("2 ", std::string(32, 'x'), " 1 ", token, " 0"), Concat("2 ", token, " 1 ", token),
        Concat("2 ", token, " 1 ", token, " -1"), Concat("2 ", token)}) {
    EXPECT_FALSE(DecodeRunFacts(data).has_value()) << data;
  }
}

TEST(RunFactsTest, NamesAreFixedByTheRequestAndFitAnId) {
  EXPECT_EQ(StartEventId("q"), StartEventId("q"));
  EXPECT_NE(StartEventId("q"), StartEventId("p"));
  EXPECT_TRUE(IsReservedEventId(StartEventId("q").str()));
  EXPECT_TRUE(ValidId(StartEventId(std::string(128, 'q')).str()));
  EXPECT_TRUE(ValidId(MakeRunId("q").str()));
  EXPECT_NE(RandomHex(), RandomHex());
  EXPECT_THAT(RandomHex(), SizeIs(32));
}

TEST(RunFactsTest, NotReadySaysTheLastStates) {
  delivery::ReadyState state;
  for (uint32_t i = 0; i < 10; ++i) state.steps.emplace_back().set_connections(i);
  const absl::Status status = NotReady(state, true, {});
  EXPECT_EQ(ReasonOf(status), Reason::kNotReady);
  const std::string message(status.message());
  EXPECT_THAT(message, testing::Not(HasSubstr("gateway")));
  EXPECT_THAT(NotReady(state, false, {}).message(), HasSubstr("no gateway is attached"));
  EXPECT_THAT(message, HasSubstr("(2 earlier)"));
  EXPECT_THAT(message, HasSubstr("connections=9"));
  EXPECT_THAT(message, testing::Not(HasSubstr("connections=1 ")));
}

TEST(ContentDigestTest, DependsOnRunAndPayloadAlone) {
  v1::Event event;
  event.set_event_id("e");
  event.set_run_id("r");
  event.mutable_step_started()->set_step_name("s");
  v1::Event same = event;
  same.set_event_id("other");
  same.set_agent_name("other");
  same.mutable_occurred_at()->set_seconds(5);
  same.mutable_trace_context()->set_traceparent("x");
  EXPECT_EQ(ContentDigest(event), ContentDigest(same));
  v1::Event run = event;
  run.set_run_id("r2");
  EXPECT_FALSE(ContentDigest(event) == ContentDigest(run));
  v1::Event type = event;
  type.mutable_step_completed()->set_step_name("s");
  EXPECT_FALSE(ContentDigest(event) == ContentDigest(type));
}

}  // namespace
}  // namespace clarion::runs
