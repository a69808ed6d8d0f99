// From a backend to a browser through the programs as shipped, in one process and in two.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/support/browser.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"

namespace clarion::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class DeliveryTest : public ::testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    deployment_.Start();
    stub_ = deployment_.Stub();
  }

  size_t OpenBrowser(const std::string& user, std::vector<std::string> threads,
                     const std::string& from = "unfinished") {
    BrowserOptions options;
    options.port = deployment_.stream_port();
    options.token = [this, user] { return deployment_.Token(user); };
    options.threads = std::move(threads);
    options.from = from;
    return browsers_.Open(std::move(options));
  }

  v1::PublishResponse Publish(const v1::Event& event) {
    v1::PublishRequest request;
    *request.mutable_event() = event;
    grpc::ClientContext context;
    v1::PublishResponse response;
    const grpc::Status status = stub_->Publish(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  v1::StartRunResponse StartRun(const std::string& user, const std::string& thread,
                                const std::string& request_id, v1::Readiness readiness) {
    v1::StartRunRequest request;
    request.set_request_id(request_id);
    request.set_user_id(user);
    request.set_thread_id(thread);
    request.set_agent_name("e2e");
    request.set_min_readiness(readiness);
    request.set_if_not_ready(v1::IF_NOT_READY_FAIL);
    request.mutable_ready_timeout()->set_seconds(20);
    grpc::ClientContext context;
    v1::StartRunResponse response;
    const grpc::Status status = stub_->StartRun(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  std::vector<std::string> IdsSeen(size_t browser, const std::string& thread) {
    std::vector<std::string> ids;
    for (const auto& seen : browsers_.View(browser, thread).events) ids.push_back(seen.event_id);
    return ids;
  }

  Deployment deployment_{GetParam()};
  std::unique_ptr<v1::EventService::Stub> stub_;
  Browsers browsers_;
};

TEST_P(DeliveryTest, BrowserThatFollowsSeesEventsLiveInOrder) {
  const size_t browser = OpenBrowser("ada", {"t"});
  const auto started = StartRun("ada", "t", "r1", v1::READINESS_SUBSCRIBED);
  EXPECT_EQ(started.started().disposition(), v1::DISPOSITION_DELIVERING);
  EXPECT_EQ(started.started().offset(), 1u);
  for (int i = 2; i <= 50; ++i) Publish(Thinking("ada", "t", "e" + std::to_string(i)));

  ASSERT_TRUE(browsers_.WaitForOffset(browser, "t", 50));
  const ThreadView view = browsers_.View(browser, "t");
  EXPECT_EQ(view.fault, "");
  EXPECT_EQ(view.events.size(), 50u);
  EXPECT_EQ(view.events.front().type, "agent_started");
  EXPECT_EQ(MetricValue(deployment_.gateway_admin_port(), "clarion_replay_pages_total"), 0);
}

TEST_P(DeliveryTest, BrowserThatWasAwaySeesWhatItMissed) {
  const size_t browser = OpenBrowser("ada", {"t"});
  StartRun("ada", "t", "r1", v1::READINESS_SUBSCRIBED);
  ASSERT_TRUE(browsers_.WaitForOffset(browser, "t", 1));
  for (int round = 0; round < 5; ++round) {
    browsers_.Drop(browser);
    uint64_t last = 0;
    for (int i = 0; i < 300; ++i) {
      last =
          Publish(Thinking("ada", "t", std::to_string(round) + "-" + std::to_string(i))).offset();
    }
    ASSERT_TRUE(browsers_.WaitForOffset(browser, "t", last));
  }
  EXPECT_EQ(browsers_.View(browser, "t").fault, "");
  EXPECT_EQ(browsers_.View(browser, "t").events.size(), 1501u);
}

TEST_P(DeliveryTest, EventsPublishedBeforeAnybodyConnectsArriveByReplay) {
  std::vector<std::string> published;
  for (int i = 0; i < 2000; ++i) {
    published.push_back("e" + std::to_string(i));
    EXPECT_EQ(Publish(Thinking("ada", "t", published.back())).disposition(),
              v1::DISPOSITION_QUEUED);
  }
  const size_t browser = OpenBrowser("ada", {"t"});
  ASSERT_TRUE(browsers_.WaitForOffset(browser, "t", 2000));
  EXPECT_EQ(IdsSeen(browser, "t"), published);
  ASSERT_TRUE(browsers_.WaitFor(std::chrono::seconds(10),
                                [&] { return browsers_.View(browser, "t").caught_up == 1; }));
  EXPECT_EQ(browsers_.View(browser, "t").caught_up_offset, 2000u);
  EXPECT_EQ(browsers_.View(browser, "t").fault, "");
}

TEST_P(DeliveryTest, AllFollowsEveryThreadOfTheUserAlsoLaterOnes) {
  Publish(Thinking("ada", "first", "a"));
  BrowserOptions options;
  options.port = deployment_.stream_port();
  options.token = [this] { return deployment_.Token("ada"); };
  options.all = true;
  const size_t browser = browsers_.Open(std::move(options));
  ASSERT_TRUE(browsers_.WaitForOffset(browser, "first", 1));
  StartRun("ada", "later", "r", v1::READINESS_SUBSCRIBED);
  Publish(Thinking("bob", "foreign", "c"));
  Publish(Thinking("ada", "later", "b"));
  ASSERT_TRUE(browsers_.WaitForOffset(browser, "later", 2));
  EXPECT_THAT(IdsSeen(browser, "foreign"), IsEmpty());
  EXPECT_EQ(browsers_.View(browser, "later").fault, "");
}

TEST_P(DeliveryTest, OutsiderLearnsNothingAndAClaimGoesLiveWhenTheThreadBecomesTheUsers) {
  Publish(Thinking("ada", "hers", "a"));
  const size_t outsider = OpenBrowser("eve", {"hers", "nobodys"});
  const auto claims = [&](const std::string& thread) {
    return browsers_.View(outsider, thread).control;
  };
  ASSERT_TRUE(browsers_.WaitFor(std::chrono::seconds(10), [&] {
    return !claims("hers").empty() && !claims("nobodys").empty();
  }));
  boost::json::object of_hers = claims("hers")[0], of_nobodys = claims("nobodys")[0];
  of_hers.erase("thread_id");
  of_nobodys.erase("thread_id");
  EXPECT_EQ(of_hers, of_nobodys);
  Publish(Thinking("ada", "hers", "b"));
  Publish(Thinking("eve", "nobodys", "c"));
  ASSERT_TRUE(browsers_.WaitForOffset(outsider, "nobodys", 1));
  EXPECT_THAT(IdsSeen(outsider, "nobodys"), ElementsAre("c"));
  EXPECT_THAT(IdsSeen(outsider, "hers"), IsEmpty());
}

TEST_P(DeliveryTest, AcknowledgedEventsOfFinishedRunsAreNotSentAgainToANewPage) {
  const size_t first = OpenBrowser("ada", {"t"});
  StartRun("ada", "t", "r1", v1::READINESS_SUBSCRIBED);
  v1::Event end = Completed("ada", "t", "end");
  end.set_run_id(StartRun("ada", "t", "r1", v1::READINESS_NONE).run_id());
  Publish(end);
  ASSERT_TRUE(browsers_.WaitForOffset(first, "t", 2));
  const std::string epoch = browsers_.View(first, "t").epoch;
  browsers_.Send(
      first, {{"type", "ack"}, {"id", "k"}, {"thread_id", "t"}, {"epoch", epoch}, {"offset", 2}});
  ASSERT_TRUE(browsers_.WaitFor(std::chrono::seconds(10), [&] {
    for (const auto& frame : browsers_.View(first, "t").control) {
      if (frame.at("type") == "acked") return frame.at("offset").to_number<uint64_t>() == 2;
    }
    return false;
  }));
  Publish(Thinking("ada", "t", "newer"));
  const size_t second = OpenBrowser("ada", {"t"});
  ASSERT_TRUE(browsers_.WaitForOffset(second, "t", 3));
  EXPECT_THAT(IdsSeen(second, "t"), ElementsAre("newer"));
}

TEST_P(DeliveryTest, SameEventIdIsOneEvent) {
  const auto first = Publish(Thinking("ada", "t", "same"));
  const auto again = Publish(Thinking("ada", "t", "same"));
  EXPECT_FALSE(first.duplicate());
  EXPECT_TRUE(again.duplicate());
  EXPECT_EQ(again.offset(), first.offset());
  EXPECT_EQ(again.epoch(), first.epoch());
}

INSTANTIATE_TEST_SUITE_P(Forms, DeliveryTest,
                         ::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace clarion::testing
