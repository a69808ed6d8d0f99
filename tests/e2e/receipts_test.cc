// What producers learn of their user's browser, through the programs as shipped.
#include <string>
#include <tuple>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/contract/error.h"
#include "tests/e2e/support/browser.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"

namespace clarion::testing {
namespace {

class ReceiptsTest : public ::testing::TestWithParam<std::tuple<Form, Transport>> {
 protected:
  void SetUp() override {
    deployment_.Start();
    stub_ = deployment_.Stub();
  }

  size_t OpenBrowser(bool answer_probes = true) {
    BrowserOptions options;
    options.transport = std::get<Transport>(GetParam());
    options.port = deployment_.stream_port();
    options.token = [this] { return deployment_.Token("ada"); };
    options.threads = {"t"};
    options.answer_probes = answer_probes;
    return browsers_.Open(std::move(options));
  }

  absl::Status StartVerified(const std::string& request_id, v1::StartRunResponse* response,
                             int seconds = 20) {
    v1::StartRunRequest request;
    request.set_request_id(request_id);
    request.set_user_id("ada");
    request.set_thread_id("t");
    request.set_agent_name("e2e");
    request.set_min_readiness(v1::READINESS_VERIFIED);
    request.set_if_not_ready(v1::IF_NOT_READY_FAIL);
    request.mutable_ready_timeout()->set_seconds(seconds);
    grpc::ClientContext context;
    return FromGrpc(stub_->StartRun(&context, request, response));
  }

  v1::PublishResponse Publish(const v1::Event& event, v1::WaitFor wanted, int seconds = 20) {
    v1::PublishRequest request;
    *request.mutable_event() = event;
    request.set_wait_for(wanted);
    request.mutable_timeout()->set_seconds(seconds);
    grpc::ClientContext context;
    v1::PublishResponse response;
    const grpc::Status status = stub_->Publish(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  void Acknowledge(size_t browser, const v1::PublishResponse& published) {
    ASSERT_TRUE(browsers_.WaitForOffset(browser, "t", published.offset()));
    browsers_.Send(browser, {{"type", "ack"},
                             {"thread_id", "t"},
                             {"epoch", published.epoch()},
                             {"offset", published.offset()}});
  }

  v1::GetEventResponse Find(const std::string& event) {
    v1::GetEventRequest request;
    request.set_thread_id("t");
    request.set_event_id(event);
    grpc::ClientContext context;
    v1::GetEventResponse response;
    EXPECT_TRUE(stub_->GetEvent(&context, request, &response).ok());
    return response;
  }

  Deployment deployment_{std::get<Form>(GetParam())};
  std::unique_ptr<v1::EventService::Stub> stub_;
  Browsers browsers_;
};

TEST_P(ReceiptsTest, ARunStartsVerifiedOnceThePagesOwnCodeHasAnswered) {
  const size_t browser = OpenBrowser();
  v1::StartRunResponse response;
  const absl::Status status = StartVerified("q1", &response);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(response.readiness(), v1::READINESS_VERIFIED);
  ASSERT_TRUE(browsers_.WaitForOffset(browser, "t", 1));
}

TEST_P(ReceiptsTest, APageThatIsConnectedButDoesNotAnswerIsNotVerified) {
  const size_t browser = OpenBrowser(/*answer_probes=*/false);
  v1::StartRunResponse response;
  const absl::Status status = StartVerified("q1", &response, 1);
  EXPECT_EQ(ReasonOf(status), Reason::kNotReady) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("no page answered the probe"));
  EXPECT_TRUE(browsers_.View(browser, "t").events.empty());
}

TEST_P(ReceiptsTest, AProducerLearnsWhatItsUserHasGotAndSeen) {
  const size_t browser = OpenBrowser();
  ASSERT_TRUE(StartVerified("q1", std::make_unique<v1::StartRunResponse>().get()).ok());

  const auto sent = Publish(Thinking("ada", "t", "e1"), v1::WAIT_FOR_SENT);
  EXPECT_EQ(sent.wait_outcome(), v1::WAIT_OUTCOME_REACHED);
  const v1::GetEventResponse after_sent = Find("e1");
  EXPECT_TRUE(after_sent.has_first_sent_at());
  EXPECT_FALSE(after_sent.acknowledged());

  grpc::ClientContext context;
  v1::WatchReceiptsRequest watch;
  watch.set_thread_id("t");
  watch.set_user_id("ada");
  auto receipts = stub_->WatchReceipts(&context, watch);
  v1::WatchReceiptsResponse receipt;
  ASSERT_TRUE(receipts->Read(&receipt));
  EXPECT_TRUE(receipt.snapshot());
  EXPECT_EQ(receipt.acknowledged(), 0u);

  Acknowledge(browser, sent);
  ASSERT_TRUE(receipts->Read(&receipt));
  EXPECT_EQ(receipt.acknowledged(), sent.offset());
  EXPECT_TRUE(receipt.has_publish_to_ack());
  const v1::GetEventResponse after_ack = Find("e1");
  EXPECT_TRUE(after_ack.acknowledged());
  EXPECT_TRUE(after_ack.has_acknowledged_at());
  // The user has this one, which comes again.
  const auto again = Publish(Thinking("ada", "t", "e1"), v1::WAIT_FOR_ACKNOWLEDGED);
  EXPECT_TRUE(again.duplicate());
  EXPECT_EQ(again.wait_outcome(), v1::WAIT_OUTCOME_REACHED);
  context.TryCancel();
}

TEST_P(ReceiptsTest, AnEventForAUserWhoIsAwayIsSentWhenTheUserComesBack) {
  EXPECT_EQ(Publish(Thinking("ada", "t", "e1"), v1::WAIT_FOR_SENT, 0).wait_outcome(),
            v1::WAIT_OUTCOME_NO_CONNECTION);
  v1::PublishResponse second;
  std::thread producer(
      [&] { second = Publish(Thinking("ada", "t", "e2"), v1::WAIT_FOR_SENT, 30); });
  OpenBrowser();
  producer.join();
  EXPECT_EQ(second.wait_outcome(), v1::WAIT_OUTCOME_REACHED);
  EXPECT_TRUE(Find("e1").has_first_sent_at());
}

std::string NameOf(Transport transport) {
  switch (transport) {
    case Transport::kEventStream:
      return "EventStream";
    case Transport::kPolling:
      return "Polling";
    case Transport::kWebSocket:
      break;
  }
  return "WebSocket";
}

INSTANTIATE_TEST_SUITE_P(
    Forms, ReceiptsTest,
    ::testing::Combine(::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                       ::testing::Values(Transport::kWebSocket, Transport::kEventStream,
                                         Transport::kPolling)),
    [](const auto& info) {
      return clarion::testing::NameOf(std::get<0>(info.param)) + NameOf(std::get<1>(info.param));
    });

}  // namespace
}  // namespace clarion::testing
