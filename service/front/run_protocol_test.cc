// --run-protocol, over real calls.
#include "service/front/front_testing.h"
#include "telemetry/metrics.h"

namespace clarion::front {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

v1::PublishRequest ToolExecuting(const std::string& event_id, const std::string& call) {
  v1::PublishRequest request = Delta(event_id);
  v1::ToolExecuting& tool = *request.mutable_event()->mutable_tool_executing();
  tool.set_tool_call_id(call);
  tool.set_tool_name("search");
  tool.set_arguments("{}");
  return request;
}

v1::PublishRequest StepStarted(const std::string& event_id, const std::string& step) {
  v1::PublishRequest request = Delta(event_id);
  request.mutable_event()->mutable_step_started()->set_step_name(step);
  return request;
}

class RunProtocolTest : public FrontTest {
 protected:
  void SetUp() override {}
  void Begin(const std::string& protocol) {
    options_.run_protocol = protocol;
    Start();
  }
  // The rule that `request` is refused by.
  std::string RefusedBy(const v1::PublishRequest& request) {
    const grpc::Status status = Publish(request);
    EXPECT_THAT(status, RefusedAs(Reason::kRunProtocol));
    return ContextOf(FromGrpc(status)).cause;
  }
  // Types of the thread's events, in order.
  std::vector<std::string> Types() {
    v1::ListEventsRequest request;
    request.set_user_id(kUser);
    request.set_thread_id(kThread);
    std::vector<std::string> types;
    const v1::ListEventsResponse listed = MustListEvents(request);
    for (const auto& event : listed.events()) {
      types.emplace_back(v1::Event::descriptor()->FindFieldByNumber(event.payload_case())->name());
    }
    return types;
  }
};

TEST_F(RunProtocolTest, StrictRefusesWhatDoesNotFitAndNamesTheRule) {
  Begin("strict");
  EXPECT_EQ(RefusedBy(Delta("early")), "not_started");
  MustPublish(Started("r"));
  EXPECT_EQ(RefusedBy([] {
              v1::PublishRequest again = Started("r");
              again.mutable_event()->set_event_id("another");
              return again;
            }()),
            "started");
  MustPublish(ToolExecuting("1", "a"));
  EXPECT_EQ(RefusedBy(ToolExecuting("2", "a")), "open_already");
  v1::PublishRequest progress = Delta("3");
  progress.mutable_event()->mutable_tool_progress()->set_tool_call_id("b");
  EXPECT_EQ(RefusedBy(progress), "not_open");
  const grpc::Status open = Publish(Completed("r"));
  EXPECT_THAT(open, RefusedAs(Reason::kRunProtocol));
  EXPECT_THAT(open.error_message(), HasSubstr("tool call a"));
  v1::PublishRequest done = Delta("4");
  v1::ToolCompleted& tool = *done.mutable_event()->mutable_tool_completed();
  tool.set_tool_call_id("a");
  tool.set_tool_name("search");
  tool.set_status(v1::TOOL_STATUS_SUCCEEDED);
  MustPublish(done);
  MustPublish(Completed("r"));
  EXPECT_EQ(RefusedBy(Delta("late")), "ended");
  EXPECT_TRUE(MustPublish(Completed("r")).duplicate()) << "a repetition is none of a rule's";
}

TEST_F(RunProtocolTest, AStreamRefusesTheEventAndGoesOnWithTheNext) {
  Begin("strict");
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  auto stream = stub_->PublishStream(&context);
  v1::PublishStreamRequest batch;
  for (const auto& request : {Delta("early"), Started("r"), Delta("in-time")}) {
    *batch.add_events() = request;
  }
  ASSERT_TRUE(stream->Write(batch));
  stream->WritesDone();
  std::vector<v1::PublishResult> results;
  v1::PublishStreamResponse response;
  while (stream->Read(&response)) {
    results.insert(results.end(), response.results().begin(), response.results().end());
  }
  ASSERT_THAT(stream->Finish(), IsOk());
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(results[0].refused().reason(), "RUN_PROTOCOL");
  EXPECT_EQ(results[0].refused().metadata().at("cause"), "not_started");
  EXPECT_FALSE(results[0].refused().retryable());
  EXPECT_EQ(results[1].accepted().offset(), 1u);
  EXPECT_EQ(results[2].accepted().offset(), 2u);
}

TEST_F(RunProtocolTest, LenientMendsTheRunAndCountsIt) {
  Begin("lenient");
  const auto mends = [](const std::string& rule) {
    return GetCounter("clarion_run_mends_total", "", {{"rule", rule}}).value();
  };
  const uint64_t starts = mends("not_started"), ends = mends("still_open");
  EXPECT_EQ(MustPublish(Delta("1")).offset(), 2u);
  MustPublish(ToolExecuting("2", "a"));
  MustPublish(StepStarted("3", "s"));
  MustPublish(Completed("r"));
  EXPECT_THAT(Types(),
              ElementsAre("agent_started", "agent_message_delta", "tool_executing", "step_started",
                          "tool_completed", "step_completed", "agent_completed"));
  EXPECT_EQ(mends("not_started") - starts, 1u);
  EXPECT_EQ(mends("still_open") - ends, 2u);
  v1::ListEventsRequest request;
  request.set_user_id(kUser);
  request.set_thread_id(kThread);
  const v1::ListEventsResponse listed = MustListEvents(request);
  EXPECT_THAT(listed.events(0).event_id(), StartsWith("_"));
  EXPECT_EQ(listed.events(0).agent_name(), listed.events(1).agent_name());
  EXPECT_EQ(listed.events(4).tool_completed().status(), v1::TOOL_STATUS_ABANDONED);
  EXPECT_EQ(listed.events(4).tool_completed().tool_name(), "search");
  EXPECT_TRUE(MustPublish(Delta("1")).duplicate());
  EXPECT_EQ(RefusedBy(Delta("late")), "ended") << "nothing mends that";
}

TEST_F(RunProtocolTest, OffTakesWhatComes) {
  Begin("off");
  MustPublish(Completed("r"));
  MustPublish(Delta("late"));
  EXPECT_THAT(Types(), ElementsAre("agent_completed", "agent_message_delta"));
}

}  // namespace
}  // namespace clarion::front
