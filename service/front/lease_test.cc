// A run's lease, over real calls: who falls silent is ended, who is heard of is not.
#include "service/front/front_testing.h"

namespace clarion::front {
namespace {

using testing::ElementsAre;

class LeaseTest : public FrontTest {
 protected:
  void SetUp() override {
    options_.run_protocol = "strict";
    options_.run_lease_seconds = 1;
    Start();
  }
  v1::GetRunRequest Named() const {
    v1::GetRunRequest request;
    request.set_user_id(kUser);
    request.set_thread_id(kThread);
    request.set_run_id("run");
    return request;
  }
  v1::Run MustGetRun() {
    v1::GetRunResponse response;
    const grpc::Status status = Call(&Stub::GetRun, Named(), &response);
    EXPECT_THAT(status, IsOk());
    return response.run();
  }
  v1::RenewRunRequest Renewal(const std::string& token) const {
    v1::RenewRunRequest request;
    request.set_user_id(kUser);
    request.set_thread_id(kThread);
    request.set_run_id("run");
    request.set_producer_token(token);
    return request;
  }
  // Asks until the run is `state`.
  v1::Run WaitFor(v1::RunState state) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    v1::Run run = MustGetRun();
    while (run.state() != state && std::chrono::steady_clock::now() < end) run = MustGetRun();
    EXPECT_EQ(run.state(), state);
    return run;
  }
};

TEST_F(LeaseTest, ARunWhoseProducerIsGoneIsEndedAndItsProducerFenced) {
  const std::string token = MustStartRun(RunRequest("q")).producer_token();
  v1::PublishRequest text = Delta("1");
  text.mutable_event()->set_run_id("run");
  text.set_producer_token(token);
  MustPublish(text);
  EXPECT_EQ(MustGetRun().state(), v1::RUN_STATE_OPEN);
  const v1::Run lost = WaitFor(v1::RUN_STATE_FAILED);
  EXPECT_EQ(lost.last().offset(), 4u);
  v1::PublishRequest late = text;
  late.mutable_event()->set_event_id("2");
  EXPECT_THAT(Publish(late), RefusedAs(Reason::kRunFenced));
  EXPECT_THAT(Call(&Stub::RenewRun, Renewal(token)), RefusedAs(Reason::kRunFenced));
  EXPECT_TRUE(MustPublish(text).duplicate());
}

TEST_F(LeaseTest, RenewalsKeepItAndSayHowLongItMayBeSilent) {
  v1::StartRunRequest start = RunRequest("q");
  start.mutable_lease()->set_seconds(2);
  const std::string token = MustStartRun(start).producer_token();
  const auto began = std::chrono::steady_clock::now();
  v1::RenewRunResponse renewed;
  while (std::chrono::steady_clock::now() - began < std::chrono::seconds(3)) {
    ASSERT_THAT(Call(&Stub::RenewRun, Renewal(token), &renewed), IsOk());
  }
  EXPECT_EQ(renewed.lease().seconds(), 2);
  EXPECT_EQ(MustGetRun().state(), v1::RUN_STATE_OPEN);
  EXPECT_THAT(Call(&Stub::RenewRun, Renewal("another's")), RefusedAs(Reason::kRunFenced));
  WaitFor(v1::RUN_STATE_FAILED);
}

TEST_F(LeaseTest, IsCheckedFieldByField) {
  v1::StartRunRequest start = RunRequest("q");
  start.mutable_lease()->set_nanos(1);
  EXPECT_THAT(StartRun(start), NamesField("lease"));
  start.mutable_lease()->set_seconds(24 * 3600 + 1);
  EXPECT_THAT(StartRun(start), NamesField("lease"));
  EXPECT_THAT(Call(&Stub::GetRun, v1::GetRunRequest()), NamesField("run_id"));
  EXPECT_THAT(Call(&Stub::GetRun, Named()), RefusedAs(Reason::kNotFound));
  MustStartRun(RunRequest("q"));
  v1::GetRunRequest others = Named();
  others.set_user_id("eve");
  EXPECT_THAT(Call(&Stub::GetRun, others), RefusedAs(Reason::kThreadOwnership));
}

TEST_F(LeaseTest, ARunIsSaidAsItStands) {
  MustStartRun(RunRequest("q"));
  v1::PublishRequest tool = Delta("1");
  tool.mutable_event()->set_run_id("run");
  tool.mutable_event()->mutable_tool_executing()->set_tool_call_id("c");
  tool.mutable_event()->mutable_tool_executing()->set_tool_name("search");
  tool.mutable_event()->mutable_tool_executing()->set_arguments("{}");
  MustPublish(tool);
  v1::Run run = MustGetRun();
  EXPECT_EQ(run.agent_name(), "agent");
  EXPECT_THAT(run.open_tool_calls(), ElementsAre("c"));
  EXPECT_EQ(run.start().offset(), 1u);
  EXPECT_EQ(run.last().offset(), 2u);
  EXPECT_TRUE(run.has_last_event_at());
  v1::PublishRequest interrupted = tool;
  interrupted.mutable_event()->set_event_id("2");
  v1::AgentCompleted& completed = *interrupted.mutable_event()->mutable_agent_completed();
  completed.set_outcome(v1::RUN_OUTCOME_INTERRUPTED);
  v1::Interrupt& question = *completed.add_interrupts();
  question.set_id("i");
  question.set_reason("approval");
  MustPublish(interrupted);
  run = MustGetRun();
  EXPECT_EQ(run.state(), v1::RUN_STATE_SUSPENDED);
  EXPECT_FALSE(run.has_suspended_until());
  v1::RenewRunResponse renewed;
  EXPECT_THAT(Call(&Stub::RenewRun, Renewal(""), &renewed), IsOk());
  EXPECT_FALSE(renewed.has_lease());
}

}  // namespace
}  // namespace clarion::front
