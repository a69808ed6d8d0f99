// The life of runs over real programs: a producer that is killed, and the service with it.
#include <signal.h>

#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/contract/error.h"
#include "tests/e2e/support/browser.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"

namespace clarion::testing {
namespace {

using ::testing::ElementsAre;

class LifeTest : public ::testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    deployment_.emplace(GetParam(), std::vector<std::string>{"--run-protocol", "strict",
                                                             "--run-lease-seconds", "1"});
    deployment_->Start();
    stub_ = deployment_->Stub();
  }
  void Watch(const std::string& thread) {
    BrowserOptions options;
    options.port = deployment_->stream_port();
    options.token = [this] { return deployment_->Token("ada"); };
    options.threads = {thread};
    browsers_.Open(std::move(options));
  }
  std::vector<std::string> Types(const std::string& thread) const {
    std::vector<std::string> types;
    for (const auto& event : browsers_.View(0, thread).events) types.push_back(event.type);
    return types;
  }
  void KillService() {
    deployment_->service().Stop(SIGKILL);
    deployment_->StartService();
    stub_ = deployment_->Stub();
  }
  std::string StartRun(const std::string& thread, const std::string& run = "run") {
    v1::StartRunRequest request;
    request.set_request_id("start-" + thread + run);
    request.set_user_id("ada");
    request.set_thread_id(thread);
    request.set_run_id(run);
    request.set_agent_name("agent");
    v1::StartRunResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->StartRun(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.producer_token();
  }
  grpc::Status Say(const std::string& thread, const std::string& id, const std::string& token) {
    v1::PublishRequest request;
    *request.mutable_event() = Thinking("ada", thread, id);
    v1::AgentMessageDelta& delta = *request.mutable_event()->mutable_agent_message_delta();
    delta.set_message_id("m");
    delta.set_role("assistant");
    delta.set_delta("what there is ");
    request.set_producer_token(token);
    v1::PublishResponse response;
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    return stub_->Publish(&context, request, &response);
  }

  std::optional<Deployment> deployment_;
  std::unique_ptr<v1::EventService::Stub> stub_;
  Browsers browsers_;
};

TEST_P(LifeTest, ABrowserSeesWhatThereWasTheErrorAndTheCleanupInThisOrder) {
  const std::string token = StartRun("t");
  ASSERT_TRUE(Say("t", "1", token).ok());
  Watch("t");
  ASSERT_TRUE(browsers_.WaitForOffset(0, "t", 5));
  EXPECT_THAT(Types("t"),
              ElementsAre("agent_started", "agent_message_delta", "partial_result_preserved",
                          "agent_error", "resource_cleanup"));
  EXPECT_EQ(ReasonOf(FromGrpc(Say("t", "2", token))), Reason::kRunFenced);
}

// Only later, and only once.
TEST_P(LifeTest, AlsoIfTheServiceIsKilledMeanwhile) {
  const std::string token = StartRun("t");
  ASSERT_TRUE(Say("t", "1", token).ok());
  Watch("t");
  KillService();
  ASSERT_TRUE(browsers_.WaitForOffset(0, "t", 5));
  KillService();
  EXPECT_EQ(ReasonOf(FromGrpc(Say("t", "2", token))), Reason::kRunFenced);
  // Behind whatever the service would have appended once more.
  StartRun("t", "next");
  ASSERT_TRUE(browsers_.WaitForOffset(0, "t", 6));
  EXPECT_EQ(Types("t").back(), "agent_started");
  EXPECT_EQ(browsers_.View(0, "t").fault, "");
}

INSTANTIATE_TEST_SUITE_P(Forms, LifeTest, ::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace clarion::testing
