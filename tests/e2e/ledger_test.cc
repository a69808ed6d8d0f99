// What becomes of every event, through the programs as shipped: what expires is said, what is
// deleted is gone, and at any moment everything adds up.
#include <signal.h>

#include <fstream>
#include <iterator>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/support/browser.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"

namespace clarion::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::chrono::seconds kPatience{60};

class LedgerTest : public ::testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    deployment_.Start();
    stub_ = deployment_.Stub();
  }

  size_t OpenBrowser(const std::string& user, std::vector<std::string> threads) {
    BrowserOptions options;
    options.port = deployment_.stream_port();
    options.token = [this, user] { return deployment_.Token(user); };
    options.threads = std::move(threads);
    return browsers_.Open(std::move(options));
  }
  uint64_t Publish(const v1::Event& event) {
    v1::PublishRequest request;
    *request.mutable_event() = event;
    grpc::ClientContext context;
    v1::PublishResponse response;
    const grpc::Status status = stub_->Publish(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.offset();
  }
  void PublishMany(const std::string& thread, int count, const std::string& text = "hm") {
    for (int n = 0; n < count; ++n) {
      Publish(Thinking("ada", thread, "e" + std::to_string(++published_), text));
    }
  }
  grpc::Status Delete(const std::string& thread) {
    v1::DeleteThreadRequest request;
    request.set_user_id("ada");
    request.set_thread_id(thread);
    grpc::ClientContext context;
    v1::DeleteThreadResponse response;
    return stub_->DeleteThread(&context, request, &response);
  }
  // The first frame of `type` that `browser` got in `thread`; empty: none.
  boost::json::object FrameOf(size_t browser, const std::string& thread, const std::string& type) {
    for (const auto& frame : browsers_.View(browser, thread).control) {
      if (frame.at("type").as_string() == type) return frame;
    }
    return {};
  }
  double Events(const std::string& state) {
    return MetricValue(deployment_.service_admin_port(), "clarion_events{state=\"" + state + "\"}");
  }
  std::string Audit() {
    Program audit(std::filesystem::path(CLARION_BIN_DIR) / "service" / "ctl" / "clarionctl",
                  {"audit", "--service", "127.0.0.1:" + std::to_string(deployment_.grpc_port())},
                  deployment_.dir() / ("audit-" + std::to_string(++audits_) + ".log"));
    audit.Start();
    EXPECT_EQ(audit.Wait(), 0) << audit.log();
    return audit.log();
  }
  // Files of the service that hold `text`.
  std::vector<std::string> FilesWith(const std::string& text) {
    std::vector<std::string> files;
    std::error_code gone;
    for (std::filesystem::recursive_directory_iterator at(deployment_.dir(), gone), end; at != end;
         at.increment(gone)) {
      if (!at->is_regular_file(gone)) continue;
      std::ifstream file(at->path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(file), {}};
      if (bytes.find(text) != std::string::npos) files.push_back(at->path().filename());
    }
    return files;
  }

  Deployment deployment_{GetParam(), {"--thread-max-events", "20", "--purge-minutes", "0"}};
  std::unique_ptr<v1::EventService::Stub> stub_;
  Browsers browsers_;
  int published_ = 0;
  int audits_ = 0;
};

TEST_P(LedgerTest, BrowserThatComesBackIsToldWhatExpiredBeforeAnythingNewer) {
  const size_t before = OpenBrowser("ada", {"t"});
  PublishMany("t", 5);
  ASSERT_TRUE(browsers_.WaitForOffset(before, "t", 5));
  const std::string epoch = browsers_.View(before, "t").epoch;
  browsers_.Leave(before);
  PublishMany("t", 60);
  const size_t after = OpenBrowser("ada", {});
  ASSERT_TRUE(browsers_.WaitFor(kPatience, [&] { return browsers_.connections(after) == 1; }));
  browsers_.Send(after, {{"type", "subscribe"},
                         {"thread_id", "t"},
                         {"history", "full"},
                         {"after", boost::json::object{{"epoch", epoch}, {"offset", 5}}}});
  ASSERT_TRUE(browsers_.WaitForOffset(after, "t", 65));
  const ThreadView view = browsers_.View(after, "t");
  EXPECT_EQ(view.fault, "");
  ASSERT_GE(view.control.size(), 2u);
  EXPECT_TRUE(view.control[0].at("missed").as_bool());
  const boost::json::object& missed = view.control[1];
  EXPECT_EQ(missed.at("type"), "missed");
  EXPECT_EQ(missed.at("reason"), "expired");
  EXPECT_EQ(missed.at("from_offset").to_number<uint64_t>(), 6u);
  const uint64_t to = missed.at("to_offset").to_number<uint64_t>();
  EXPECT_GE(to, 45u);
  EXPECT_EQ(view.events.at(0).offset, to + 1);
  EXPECT_EQ(view.events.size(), 65 - to);
  EXPECT_THAT(deployment_.service().log(),
              HasSubstr("events are gone that nobody had acknowledged"));
}

TEST_P(LedgerTest, TotalsAreExactAfterAKill) {
  PublishMany("t", 30);
  PublishMany("s", 3);
  ASSERT_TRUE(Delete("s").ok());
  const double expired = Events("expired");
  EXPECT_GE(expired, 10.0 + 3.0);
  EXPECT_EQ(expired + Events("pending"), 33.0);
  for (int life = 0; life < 2; ++life) {
    deployment_.service().Stop(SIGKILL);
    deployment_.StartService();
    EXPECT_EQ(Events("expired"), expired);
    EXPECT_EQ(Events("pending"), 33.0 - expired);
    EXPECT_EQ(Events("acknowledged"), 0.0);
    EXPECT_THAT(Audit(), HasSubstr("totals: agree"));
  }
}

TEST_P(LedgerTest, AuditIsCleanWhileTrafficDeletionsAndAcksGoOn) {
  AnswerRecord record;
  BrowserOptions options;
  options.port = deployment_.stream_port();
  options.token = [this] { return deployment_.Token("ada"); };
  options.all = true;
  options.ack_every = 3;
  browsers_.Open(std::move(options));
  {
    Producer one(deployment_, &record, Style::kOneByOne, "one", "ada", {"a", "b"});
    Producer many(deployment_, &record, Style::kPipelined, "many", "ada", {"b", "c", "d"});
    for (int round = 0; round < 4; ++round) {
      const std::string thread = "gone" + std::to_string(round);
      PublishMany(thread, 3);
      ASSERT_TRUE(record.WaitForCount(static_cast<size_t>(500 * (round + 1)), kPatience));
      EXPECT_THAT(Audit(), HasSubstr("differences: 0"));
      ASSERT_TRUE(Delete(thread).ok());
    }
  }
  EXPECT_EQ(record.fault(), "");
  // The last acks may be on their way: as often as totals move they are added up anew.
  EXPECT_THAT(Audit(), HasSubstr("differences: 0"));
}

TEST_P(LedgerTest, DeletedThreadIsToldToBrowsersAndLeavesTheDisk) {
  const std::string marker = "MARKER-of-what-is-to-go";
  PublishMany("t", 10, marker);
  PublishMany("kept", 3, "what stays");
  const size_t follower = OpenBrowser("ada", {"t", "kept"});
  const size_t outsider = OpenBrowser("eve", {"t"});
  ASSERT_TRUE(browsers_.WaitForOffset(follower, "t", 10));
  ASSERT_TRUE(browsers_.WaitForOffset(follower, "kept", 3));
  ASSERT_TRUE(
      browsers_.WaitFor(kPatience, [&] { return !browsers_.View(outsider, "t").control.empty(); }));
  ASSERT_FALSE(FilesWith(marker).empty()) << "the test would show nothing";
  ASSERT_TRUE(Delete("t").ok());

  ASSERT_TRUE(
      browsers_.WaitFor(kPatience, [&] { return !FrameOf(follower, "t", "error").empty(); }));
  const boost::json::object missed = FrameOf(follower, "t", "missed");
  ASSERT_FALSE(missed.empty());
  EXPECT_EQ(missed.at("reason"), "deleted");
  EXPECT_EQ(missed.at("from_offset").to_number<uint64_t>(), 1u);
  EXPECT_EQ(missed.at("to_offset").to_number<uint64_t>(), 10u);
  EXPECT_EQ(FrameOf(follower, "t", "error").at("code"), "NOT_FOUND");
  Publish(Thinking("ada", "kept", "later"));
  ASSERT_TRUE(browsers_.WaitForOffset(follower, "kept", 4)) << "the connection goes on";
  EXPECT_EQ(browsers_.View(outsider, "t").control.size(), 1u) << "it knew of nothing";
  const size_t late = OpenBrowser("ada", {"t"});
  ASSERT_TRUE(
      browsers_.WaitFor(kPatience, [&] { return !browsers_.View(late, "t").control.empty(); }));
  EXPECT_TRUE(browsers_.View(late, "t").control[0].contains("claim"));

  WaitUntil([&] { return FilesWith(marker).empty(); }, kPatience);
  EXPECT_THAT(FilesWith(marker), IsEmpty());
  deployment_.service().Stop(SIGTERM);
  EXPECT_THAT(FilesWith(marker), IsEmpty());
  EXPECT_FALSE(FilesWith("what stays").empty());
}

INSTANTIATE_TEST_SUITE_P(Forms, LedgerTest,
                         ::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace clarion::testing
