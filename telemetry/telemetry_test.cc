// Logs, metrics and flags.
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "boost/json/parse.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/contract/error.h"
#include "telemetry/failure_limiter.h"
#include "telemetry/log.h"
#include "telemetry/log_line.h"
#include "telemetry/metrics.h"
#include "telemetry/runtime/flags.h"

namespace clarion {
namespace {

using testing::HasSubstr;
using testing::Not;

// ---- Lines ----

const std::chrono::sys_time<std::chrono::milliseconds> kTime{
    std::chrono::milliseconds(1'795'184'569'123)};

TEST(LogLine, IsOneJsonObjectWhateverIsInIt) {
  const std::vector<LogField> fields = {{"user_id", "a\"b\n\x01"}, {"bad", "x\xffy"}};
  const std::string line =
      FormatJson({kTime, Severity::kWarning, "clarion-service", "two\nlines", fields});
  EXPECT_THAT(line, Not(HasSubstr("\n")));
  const auto parsed = boost::json::parse(line).as_object();
  EXPECT_EQ(parsed.at("time"), "2026-11-20T14:22:49.123Z");
  EXPECT_EQ(parsed.at("severity"), "WARNING");
  EXPECT_EQ(parsed.at("program"), "clarion-service");
  EXPECT_EQ(parsed.at("message"), "two\nlines");
  EXPECT_EQ(parsed.at("user_id"), "a\"b\n\x01");
  EXPECT_EQ(parsed.at("bad"), "x?y");
}

TEST(LogLine, IsReadableAsTextAndStaysOnOneLine) {
  const std::vector<LogField> fields = {
      {"offset", "7"}, {"text", "two words"}, {"evil", "\x1b[2J"}, {"empty", ""}};
  EXPECT_EQ(FormatText({kTime, Severity::kInfo, "p", "a\nb\x1b", fields}),
            "2026-11-20T14:22:49.123Z INFO a b  offset=7 text=\"two words\" evil=\"\\u001b[2J\" "
            "empty=\"\"");
}

std::vector<boost::json::object> LinesOf(const std::string& output) {
  std::vector<boost::json::object> lines;
  std::istringstream in(output);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(boost::json::parse(line).as_object());
  }
  return lines;
}

class LogTest : public testing::Test {
 protected:
  void SetUp() override { testing::internal::CaptureStderr(); }
  void Init(Severity least) { InitLog({"test", LogFormat::kJson, least}); }
  std::vector<boost::json::object> Lines() {
    return LinesOf(testing::internal::GetCapturedStderr());
  }
};

TEST_F(LogTest, WritesWhatIsNotBelowTheLeastSeverity) {
  Init(Severity::kWarning);
  Log(Severity::kInfo, "no");
  Log(Severity::kWarning, "gateway detached", {{"gateway_id", "g1"}});
  const auto lines = Lines();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].at("message"), "gateway detached");
  EXPECT_EQ(lines[0].at("gateway_id"), "g1");
}

TEST_F(LogTest, SaysWhatAFailureIsAboutAndCountsIt) {
  Init(Severity::kInfo);
  Counter& counter = GetCounter("clarion_failures_total", "", {{"reason", "THREAD_OWNERSHIP"}});
  const uint64_t before = counter.value();
  LogFailure(MakeError(Reason::kThreadOwnership, "not yours",
                       {.user_id = "ada", .thread_id = "t1", .operation = "Publish"}));
  LogFailure(absl::OkStatus());
  EXPECT_EQ(counter.value(), before + 1);
  const auto lines = Lines();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].at("severity"), "WARNING");
  EXPECT_EQ(lines[0].at("reason"), "THREAD_OWNERSHIP");
  EXPECT_EQ(lines[0].at("user_id"), "ada");
  EXPECT_EQ(lines[0].at("thread_id"), "t1");
  EXPECT_EQ(lines[0].at("operation"), "Publish");
  EXPECT_FALSE(lines[0].contains("run_id"));
}

TEST_F(LogTest, OurFaultsAreErrorsAndAnOpenBreakerIsNot) {
  Init(Severity::kInfo);
  LogFailure(MakeError(Reason::kLogUnavailable, "disk"));
  LogFailure(MakeError(Reason::kCircuitOpen, "open"));
  LogFailure(MakeBadRequest({{"event.run_id", "is required"}}));
  LogFailure(absl::InternalError("no reason"));
  const auto lines = Lines();
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0].at("severity"), "ERROR");
  EXPECT_EQ(lines[1].at("severity"), "WARNING");
  EXPECT_EQ(lines[2].at("severity"), "WARNING");
  EXPECT_EQ(lines[2].at("field"), "event.run_id: is required");
  EXPECT_EQ(lines[3].at("severity"), "ERROR");
  EXPECT_EQ(lines[3].at("reason"), "NONE");
}

TEST(FailureLimiter, WritesTwentyASecondAndSaysHowManyWereLeftOut) {
  FailureLimiter limiter;
  const FailureLimiter::Time start{std::chrono::hours(1)};
  for (uint32_t i = 0; i < FailureLimiter::kLinesPerSecond; ++i) {
    EXPECT_EQ(limiter.Admit(start), 0u);
  }
  EXPECT_EQ(limiter.Admit(start), std::nullopt);
  EXPECT_EQ(limiter.Admit(start + std::chrono::milliseconds(999)), std::nullopt);
  EXPECT_EQ(limiter.Admit(start + std::chrono::seconds(1)), 2u);
  EXPECT_EQ(limiter.Admit(start + std::chrono::seconds(1)), 0u);
}

// ---- Metrics ----

TEST(Metrics, TheSameNameAndLabelsAreTheSameObject) {
  Counter& counter = GetCounter("test_same_total", "help", {{"a", "1"}});
  EXPECT_EQ(&GetCounter("test_same_total", "other help", {{"a", "1"}}), &counter);
  EXPECT_NE(&GetCounter("test_same_total", "", {{"a", "2"}}), &counter);
}

TEST(Metrics, TextHasTypeHelpLabelsAndValues) {
  GetCounter("test_events_total", "Events.", {{"type", "a\"b"}}).Add(3);
  GetGauge("test_open", "Open.").Set(-2);
  const std::string text = MetricsText();
  EXPECT_THAT(text, HasSubstr("# HELP test_events_total Events.\n"
                              "# TYPE test_events_total counter\n"
                              "test_events_total{type=\"a\\\"b\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE test_open gauge\ntest_open -2\n"));
}

TEST(Metrics, CountsFromManyThreads) {
  Counter& counter = GetCounter("test_threads_total", "");
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([] {
      for (int n = 0; n < 1000; ++n) GetCounter("test_threads_total", "").Add();
      (void)MetricsText();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.value(), 4000u);
}

TEST(MetricsDeathTest, OneNameCannotBeTwoTypes) {
  GetCounter("test_type", "");
  EXPECT_DEATH(GetGauge("test_type", ""), "test_type is both");
}

// ---- Flags ----

class FlagsTest : public testing::Test {
 public:
  ~FlagsTest() override {
    for (const std::string& name : set_) ::unsetenv(name.c_str());
  }

 protected:
  void Env(const std::string& name, const std::string& value) {
    ::setenv(name.c_str(), value.c_str(), 1);
    set_.push_back(name);
  }
  std::string File(const std::string& content) {
    const std::string path = testing::TempDir() + "/flags_test_" + std::to_string(::getpid()) +
                             "_" + std::to_string(++files_);
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  // Adds what every test uses, parses, keeps what was said.
  std::optional<int> Parse(std::vector<std::string> arguments) {
    Flags flags("clarion-test", "For tests.");
    flags.Add("--max-things", max_things_, "Things");
    flags.AddSwitch("--insecure", insecure_, "Switch");
    flags.AddSecret("--token-secret", secret_, "Key");
    arguments.insert(arguments.begin(), "clarion-test");
    std::vector<char*> argv;
    argv.reserve(arguments.size());
    for (std::string& argument : arguments) argv.push_back(argument.data());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const auto exit_code = flags.Parse(static_cast<int>(argv.size()), argv.data());
    said_ = testing::internal::GetCapturedStdout() + testing::internal::GetCapturedStderr();
    return exit_code;
  }

  uint64_t max_things_ = 5;
  bool insecure_ = false;
  std::string secret_;
  std::string said_;

 private:
  std::vector<std::string> set_;
  int files_ = 0;
};

TEST_F(FlagsTest, TheCommandLineWinsOverTheEnvironment) {
  Env("CLARION_MAX_THINGS", "7");
  EXPECT_EQ(Parse({}), std::nullopt);
  EXPECT_EQ(max_things_, 7u);
  EXPECT_EQ(Parse({"--max-things", "9"}), std::nullopt);
  EXPECT_EQ(max_things_, 9u);
}

TEST_F(FlagsTest, DefaultsStayWhenNothingIsSaid) {
  EXPECT_EQ(Parse({}), std::nullopt);
  EXPECT_EQ(max_things_, 5u);
  EXPECT_FALSE(insecure_);
  EXPECT_EQ(secret_, "");
}

TEST_F(FlagsTest, SwitchesReadTheEnvironmentToo) {
  Env("CLARION_INSECURE", "true");
  EXPECT_EQ(Parse({}), std::nullopt);
  EXPECT_TRUE(insecure_);
}

TEST_F(FlagsTest, MistakesAreOneSentenceThatNamesTheFlag) {
  EXPECT_EQ(Parse({"--max-things", "many"}), 2);
  EXPECT_THAT(said_, HasSubstr("--max-things"));
  EXPECT_EQ(std::count(said_.begin(), said_.end(), '\n'), 1);
  EXPECT_EQ(Parse({"--max-things", "-1"}), 2);
  EXPECT_EQ(Parse({"--no-such-flag"}), 2);
  EXPECT_THAT(said_, HasSubstr("--no-such-flag"));
}

TEST_F(FlagsTest, HelpAndVersionEndWell) {
  EXPECT_EQ(Parse({"--help"}), 0);
  EXPECT_THAT(said_, HasSubstr("CLARION_TOKEN_SECRET"));
  EXPECT_THAT(said_, HasSubstr("CLARION_MAX_THINGS"));
  EXPECT_EQ(Parse({"--version"}), 0);
  EXPECT_THAT(said_, testing::StartsWith("clarion-test "));
}

TEST_F(FlagsTest, ASecretComesFromFlagFileOrEnvironment) {
  EXPECT_EQ(Parse({"--token-secret", "s1"}), std::nullopt);
  EXPECT_EQ(secret_, "s1");
  EXPECT_EQ(Parse({"--token-secret-file", File("s2\n")}), std::nullopt);
  EXPECT_EQ(secret_, "s2");
  Env("CLARION_TOKEN_SECRET_FILE", File("s3\r\n"));
  EXPECT_EQ(Parse({}), std::nullopt);
  EXPECT_EQ(secret_, "s3");
}

TEST_F(FlagsTest, ASecretOfTheCommandLineWinsInEitherForm) {
  Env("CLARION_TOKEN_SECRET", "environment");
  EXPECT_EQ(Parse({"--token-secret-file", File("file")}), std::nullopt);
  EXPECT_EQ(secret_, "file");
  EXPECT_EQ(Parse({}), std::nullopt);
  EXPECT_EQ(secret_, "environment");
}

TEST_F(FlagsTest, ASecretSaidTwiceOrUnreadableIsAMistake) {
  EXPECT_EQ(Parse({"--token-secret", "a", "--token-secret-file", File("b")}), 2);
  EXPECT_THAT(said_, HasSubstr("--token-secret"));
  EXPECT_EQ(Parse({"--token-secret-file", "/nonexistent/secret"}), 2);
  EXPECT_THAT(said_, HasSubstr("--token-secret-file: cannot read"));
  EXPECT_EQ(Parse({"--token-secret-file", "/"}), 2);
  EXPECT_THAT(said_, HasSubstr("--token-secret-file: cannot read"));
  EXPECT_EQ(Parse({"--token-secret-file", File("\n")}), 2);
  EXPECT_THAT(said_, HasSubstr("is empty"));
  Env("CLARION_TOKEN_SECRET", "a");
  Env("CLARION_TOKEN_SECRET_FILE", File("b"));
  EXPECT_EQ(Parse({}), 2);
  EXPECT_THAT(said_, HasSubstr("exclude each other"));
}

TEST(HostPort, ReadsTheFormsAndNothingElse) {
  const auto text = [](std::string_view from) {
    const auto parsed = ParseHostPort(from);
    return parsed ? parsed->host + " " + std::to_string(parsed->port) : "no";
  };
  EXPECT_EQ(text("127.0.0.1:7700"), "127.0.0.1 7700");
  EXPECT_EQ(text("[::1]:7700"), "::1 7700");
  EXPECT_EQ(text(":0"), "127.0.0.1 0");
  EXPECT_EQ(text("service.example:65535"), "service.example 65535");
  for (const char* bad : {"", "host", "host:", "host:65536", "host:-1", "host:7x", "::1:7700",
                          "[]:1", "[::1:7700", "host:+1", "host: 1"}) {
    EXPECT_EQ(text(bad), "no") << bad;
  }
}

TEST(HostPort, KnowsLoopback) {
  for (const char* host : {"localhost", "127.0.0.1", "127.1.2.3", "::1"}) {
    EXPECT_TRUE(IsLoopback(host)) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "127.evil.example", "", "localhost.evil"}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

TEST(ListenFlags, AreAddressesInTheirOrder) {
  const auto parsed = ParseListenFlags({{"--a", "[::1]:7700"}, {"--b", "localhost:7701"}});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->at(0).host, "::1");
  EXPECT_EQ(parsed->at(1).port, 7701);
}

TEST(ListenFlags, MistakesNameTheFlag) {
  const auto said = [](const std::string& value) {
    return std::string(ParseListenFlags({{"--a", value}}).status().message());
  };
  EXPECT_EQ(said("7700"), "--a: '7700' is not HOST:PORT");
  for (const char* bad : {"host:1", "127.1:1", "[::g]:1"}) {
    EXPECT_THAT(said(bad), HasSubstr("is neither an IP address nor localhost")) << bad;
  }
}

TEST(ListenFlags, NoTwoAreTheSame) {
  const auto collide = [](const std::string& a, const std::string& b) {
    const std::string said(ParseListenFlags({{"--a", a}, {"--b", b}}).status().message());
    EXPECT_TRUE(said.empty() || said == "--b: " + b + " is taken by --a") << said;
    return !said.empty();
  };
  EXPECT_TRUE(collide("127.0.0.1:1", "127.0.0.1:1"));
  EXPECT_TRUE(collide("0.0.0.0:1", "127.0.0.1:1"));
  EXPECT_TRUE(collide("10.0.0.1:1", "0.0.0.0:1"));
  EXPECT_TRUE(collide("[::]:1", "0.0.0.0:1"));
  EXPECT_FALSE(collide("127.0.0.1:0", "127.0.0.1:0"));
  EXPECT_FALSE(collide("127.0.0.1:1", "127.0.0.2:1"));
  EXPECT_FALSE(collide("127.0.0.1:1", "127.0.0.1:2"));
  EXPECT_FALSE(collide("0.0.0.0:1", "[::1]:1"));
}

}  // namespace
}  // namespace clarion
