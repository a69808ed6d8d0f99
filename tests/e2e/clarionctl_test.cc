// clarionctl as shipped, with services that go away, come back, or stand still.
#include <signal.h>

#include <fstream>
#include <sstream>

#include "boost/json.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"

namespace clarion::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kUnreachable = 3;  // exit code

class ClarionctlTest : public ::testing::TestWithParam<Form> {
 protected:
  void SetUp() override { deployment_.Start(); }

  std::unique_ptr<Program> Ctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(),
                     {"--service", "127.0.0.1:" + std::to_string(deployment_.grpc_port())});
    auto program = std::make_unique<Program>(
        std::filesystem::path(CLARION_BIN_DIR) / "service" / "ctl" / "clarionctl",
        std::move(arguments),
        deployment_.dir() / ("clarionctl-" + std::to_string(++started_) + ".log"));
    program->Start();
    return program;
  }
  std::unique_ptr<Program> Tail(const std::string& timeout) {
    return Ctl({"tail", "t", "--token", deployment_.Token("ada"), "--url",
                "ws://127.0.0.1:" + std::to_string(deployment_.stream_port()), "--from", "start",
                "--timeout", timeout, "--until-complete", "--events-only"});
  }

  void Publish(const v1::Event& event) {
    v1::PublishRequest request;
    *request.mutable_event() = event;
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    v1::PublishResponse response;
    const grpc::Status status = deployment_.Stub()->Publish(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  void PublishSome(int count) {
    for (int i = 0; i < count; ++i) {
      Publish(Thinking("ada", "t", "e" + std::to_string(++published_)));
    }
  }

  static std::vector<int64_t> OffsetsIn(const std::string& log) {
    std::vector<int64_t> offsets;
    std::istringstream lines(log);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with('{')) {
        offsets.push_back(boost::json::parse(line).as_object().at("offset").as_int64());
      }
    }
    return offsets;
  }
  // From 1 to `last`, each once, in order.
  static void ExpectOffsets(const std::string& log, int64_t last) {
    std::vector<int64_t> expected;
    for (int64_t offset = 1; offset <= last; ++offset) expected.push_back(offset);
    EXPECT_EQ(OffsetsIn(log), expected) << log;
  }

  Deployment deployment_{GetParam()};
  int started_ = 0;
  int published_ = 0;
};

TEST_P(ClarionctlTest, TailGoesOnOverAKilledServiceWithoutGapOrRepeat) {
  PublishSome(10);
  const auto tail = Tail("60");
  ASSERT_NO_FATAL_FAILURE(WaitUntilLogged(*tail, R"("event_id":"e10")"));
  for (int restart = 0; restart < 2; ++restart) {
    deployment_.service().Stop(SIGKILL);
    deployment_.StartService();
    PublishSome(10);
    const std::string last = "\"event_id\":\"e" + std::to_string(published_) + "\"";
    ASSERT_NO_FATAL_FAILURE(WaitUntilLogged(*tail, last));
  }
  Publish(Completed("ada", "t", "end"));
  EXPECT_EQ(tail->Wait(), 0) << tail->log();
  ExpectOffsets(tail->log(), 31);
}

TEST_P(ClarionctlTest, TailFollowsOnceAServiceThatWasAwayIsThere) {
  PublishSome(3);
  deployment_.service().Stop(SIGKILL);
  const auto tail = Tail("120");
  ASSERT_NO_FATAL_FAILURE(WaitUntilLogged(*tail, "again in"));
  deployment_.StartService();
  PublishSome(3);
  Publish(Completed("ada", "t", "end"));
  EXPECT_EQ(tail->Wait(), 0) << tail->log();
  ExpectOffsets(tail->log(), 7);
}

TEST_P(ClarionctlTest, OutputThatCannotBeWrittenIsAFailure) {
  PublishSome(1);
  const auto bin = std::filesystem::path(CLARION_BIN_DIR) / "service" / "ctl" / "clarionctl";
  const std::string service = "--service 127.0.0.1:" + std::to_string(deployment_.grpc_port());
  for (const char* command :
       {"threads --user ada", "events t --json", "where e1 --thread t", "check",
        "token --user ada --secret 0123456789abcdef0123456789abcdef"}) {
    const bool local = std::string_view(command).starts_with("token");
    Program shell("/bin/sh",
                  {"-c", "exec " + bin.string() + " " + command + " " + (local ? "" : service) +
                             " > /dev/full"},
                  deployment_.dir() / ("full-" + std::to_string(++started_) + ".log"));
    shell.Start();
    EXPECT_EQ(shell.Wait(), 1) << command << "\n" << shell.log();
    EXPECT_THAT(shell.log(), ::testing::HasSubstr("could not be written")) << command;
  }
}

TEST_P(ClarionctlTest, EachLineHasItsOwnResult) {
  const std::filesystem::path file = deployment_.dir() / "lines";
  const auto line = [](const std::string& id, size_t bytes) {
    return R"({"type":"agent_thinking","event_id":")" + id +
           R"(","message_id":"m","is_final":false,"delta":")" + std::string(bytes, 'x') + "\"}\n";
  };
  std::ofstream(file) << line("e1", 10) << line("over-a-message", 6 * 1024 * 1024) << line("e3", 10)
                      << line("over-an-event", 300 * 1024) << "{]\n"
                      << line("e6", 10);
  const auto publish =
      Ctl({"publish", file, "--user", "ada", "--thread", "t", "--run", "r", "--agent", "a"});
  EXPECT_EQ(publish->Wait(), 1);
  EXPECT_THAT(publish->log(),
              AllOf(HasSubstr("line 2: event over-a-message: "),
                    HasSubstr("line 4: event over-an-event: "), HasSubstr("line 5: "),
                    HasSubstr("BUFFER_OVERFLOW"), HasSubstr("3 accepted, 0 of them before; 3")));
  EXPECT_THAT(publish->log(), AllOf(HasSubstr("e1  "), HasSubstr("e3  "), HasSubstr("e6  ")));
}

// Whoever keeps to its --timeout ends while one with a longer one still waits.
TEST_P(ClarionctlTest, EveryCommandKeepsToItsTimeoutWithAServiceThatStandsStill) {
  const std::filesystem::path file = deployment_.dir() / "lines";
  std::ofstream(file) << R"({"type":"step_started","step_name":"s"})" << "\n";
  ASSERT_EQ(::kill(deployment_.service().pid(), SIGSTOP), 0);
  const auto longer = Ctl({"threads", "--timeout", "15"});
  std::vector<std::vector<std::string>> commands = {
      {"publish", file, "--user", "u", "--thread", "t", "--run", "r", "--agent", "a"},
      {"publish", "--user", "u", "--thread", "t", "--run", "r", "--agent", "a", "--type",
       "step_started", "--field", "step_name=s"},
      {"threads"},
      {"connections", "--user", "u"},
      {"connections", "--user", "u", "--watch"},
      {"events", "t"},
      {"where", "e"},
      {"where", "e", "--thread", "t"},
      {"check", "--canary-timeout", "0.1"},
      {"tail", "t", "--token", deployment_.Token("ada"), "--url",
       "ws://127.0.0.1:" + std::to_string(deployment_.stream_port())},
  };
  std::vector<std::unique_ptr<Program>> programs;
  for (std::vector<std::string> command : commands) {
    command.insert(command.end(), {"--timeout", "0.5"});
    programs.push_back(Ctl(command));
  }
  for (const auto& program : programs) {
    EXPECT_EQ(program->Wait(), kUnreachable) << program->log();
    EXPECT_THAT(program->log(), HasSubstr("what to do"));
  }
  EXPECT_TRUE(longer->running());
  EXPECT_THAT(programs[0]->log(), HasSubstr("line 1: the first of 1 that may or may not"));
  ::kill(deployment_.service().pid(), SIGCONT);
}

INSTANTIATE_TEST_SUITE_P(Forms, ClarionctlTest,
                         ::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace clarion::testing
