// From the command line to requests, exit codes and words; without a service.
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "boost/json/parse.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "jwt/jwt.hpp"
#include "proto/contract/error.h"
#include "service/ctl/ctl_testing.h"
#include "service/ctl/output.h"
#include "service/ctl/position_text.h"
#include "service/ctl/program.h"
#include "service/ctl/publish_lines.h"
#include "service/ctl/requests.h"
#include "service/ctl/tail_socket.h"
#include "service/ctl/token.h"

namespace clarion::ctl {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kSecret[] = "0123456789abcdef0123456789abcdef";

// ---- The command line ----

TEST(CommandLine, HelpOfEveryCommandHasExamples) {
  EXPECT_EQ(Ctl({"--help"}).exit_code, kOk);
  EXPECT_THAT(Ctl({"--help"}).out, AllOf(HasSubstr("Exit codes"), HasSubstr("CLARION_SERVICE")));
  for (const char* command :
       {"token", "publish", "tail", "threads", "connections", "events", "where", "check",
        "undelivered", "audit", "delete-thread", "delete-user"}) {
    const Ran ran = Ctl({command, "--help"});
    EXPECT_EQ(ran.exit_code, kOk) << command;
    EXPECT_THAT(ran.out, HasSubstr(std::string("  clarionctl ") + command)) << command;
  }
}

TEST(CommandLine, MistakesAreUsageErrorsThatNameTheFlag) {
  EXPECT_EQ(Ctl({}).exit_code, kUsage);
  EXPECT_EQ(Ctl({"fly"}).exit_code, kUsage);
  EXPECT_EQ(Ctl({"events"}).exit_code, kUsage);
  EXPECT_EQ(Ctl({"where"}).exit_code, kUsage);
  const auto mistake = [](std::vector<std::string> arguments) {
    const Ran ran = Ctl(std::move(arguments));
    EXPECT_EQ(ran.exit_code, kUsage);
    EXPECT_THAT(ran.out, IsEmpty());
    return ran.err;
  };
  EXPECT_THAT(mistake({"connections"}), HasSubstr("--user or --thread"));
  EXPECT_THAT(mistake({"events", "t1", "--after", "7"}), HasSubstr("--after must be EPOCH:OFFSET"));
  EXPECT_THAT(mistake({"events", "t1", "--after", "e:7", "--before", "e:9"}),
              HasSubstr("--before"));
  EXPECT_THAT(mistake({"tail", "t1"}), HasSubstr("needs --token"));
  EXPECT_THAT(mistake({"tail", "t1", "--token", "x", "--from", "middle"}), HasSubstr("--from"));
  EXPECT_THAT(mistake({"tail", "t1", "--token", "x", "--after", "7"}), HasSubstr("--after"));
  EXPECT_THAT(mistake({"tail", "t1", "--token", "x", "--url", "http://h"}), HasSubstr("--url"));
  EXPECT_THAT(mistake({"publish", "--field", "a=b"}), HasSubstr("--type"));
  EXPECT_THAT(mistake({"delete-thread", "t1", "--user", "ada"}), HasSubstr("--yes"));
  EXPECT_THAT(mistake({"delete-thread", "t1", "--yes"}), HasSubstr("--user"));
  EXPECT_THAT(mistake({"delete-user", "ada"}), HasSubstr("--yes"));
  EXPECT_THAT(mistake({"undelivered", "--state", "lost"}), HasSubstr("--state"));
  EXPECT_THAT(mistake({"publish", "--type", "custom", "--field", "nonsense"}),
              HasSubstr("--field"));
  EXPECT_THAT(mistake({"publish", "/nonexistent/lines"}), HasSubstr("/nonexistent/lines"));
  EXPECT_THAT(mistake({"threads", "--tls-ca", "/nonexistent/ca"}), HasSubstr("--tls-ca"));
  EXPECT_THAT(mistake({"token", "--secret", "short", "--user", "ada"}), HasSubstr("32 bytes"));
  EXPECT_THAT(mistake({"token", "--secret", kSecret, "--user", "_clarion"}), HasSubstr("reserved"));
  EXPECT_THAT(mistake({"token", "--secret", kSecret, "--user", "a b"}), HasSubstr("--user"));
}

TEST(CommandLine, NobodyThereIsSaidWithTheAddressAndWhatToDo) {
  const std::string service = "127.0.0.1:" + std::to_string(ClosedPort());
  const std::vector<std::vector<std::string>> commands = {
      {"threads"},
      {"connections", "--user", "ada"},
      {"connections", "--user", "ada", "--watch"},
      {"events", "t1"},
      {"where", "e1", "--thread", "t1"},
      {"where", "e1"},
      {"check"},
      {"undelivered"},
      {"delete-thread", "t1", "--user", "ada", "--yes"},
      {"delete-user", "ada", "--yes"},
      {"publish", "--user", "u", "--thread", "t", "--run", "r", "--agent", "a", "--type",
       "step_started", "--field", "step_name=s"}};
  for (std::vector<std::string> command : commands) {
    // Before the command and behind it.
    command.insert(command.begin(), {"--service", service});
    command.insert(command.end(), {"--timeout", "0.3"});
    const Ran ran = Ctl(command);
    EXPECT_EQ(ran.exit_code, kUnreachable) << command[2];
    EXPECT_THAT(ran.err, AllOf(HasSubstr(service), HasSubstr("what to do"))) << command[2];
  }
}

TEST(CommandLine, TailGivesUpOnAGatewayThatIsNotThere) {
  const std::string url = "ws://127.0.0.1:" + std::to_string(ClosedPort());
  const Ran ran = Ctl({"tail", "t1", "--token", "x", "--url", url, "--timeout", "0.3"});
  EXPECT_EQ(ran.exit_code, kUnreachable);
  EXPECT_THAT(ran.err, AllOf(HasSubstr(url), HasSubstr("what to do")));
}

TEST(CommandLine, UnreadableLinesAreSaidByNumberWithoutAService) {
  const std::string path = testing::TempDir() + "/ctl_lines_" + std::to_string(::getpid());
  std::ofstream(path) << "\n{\"type\":\"fly\"}\n{]\n";
  const Ran ran = Ctl({"publish", path, "--service", "127.0.0.1:" + std::to_string(ClosedPort())});
  EXPECT_EQ(ran.exit_code, kFailed);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("line 2: "), HasSubstr("line 3: "), HasSubstr("2 refused"),
                             HasSubstr("CONTEXT_INVALID")));
  std::remove(path.c_str());
}

// ---- Tokens ----

TEST(Token, IsSignedAndSaysWhoAndUntilWhen) {
  const auto now = std::chrono::system_clock::now();
  const auto token = MakeToken({.secret = kSecret,
                                .user = "ada",
                                .ttl = std::chrono::seconds(60),
                                .issuer = "dev",
                                .audience = "clarion"},
                               now);
  ASSERT_TRUE(token.ok()) << token.status();
  std::error_code error;
  const auto decoded = jwt::decode(*token, jwt::params::algorithms({"HS256"}), error,
                                   jwt::params::secret(kSecret), jwt::params::verify(true));
  ASSERT_FALSE(error) << error.message();
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  EXPECT_EQ(decoded.payload().get_claim_value<std::string>("sub"), "ada");
  EXPECT_EQ(decoded.payload().get_claim_value<int64_t>("iat"), seconds);
  EXPECT_EQ(decoded.payload().get_claim_value<int64_t>("exp"), seconds + 60);
  EXPECT_EQ(decoded.payload().get_claim_value<std::string>("iss"), "dev");
  EXPECT_EQ(decoded.payload().get_claim_value<std::string>("aud"), "clarion");
}

TEST(Token, IsPrintedAloneAndTakesTheSecretFromFileOrEnvironment) {
  const std::string path = testing::TempDir() + "/ctl_secret_" + std::to_string(::getpid());
  std::ofstream(path) << kSecret << "\n";
  const Ran from_file = Ctl({"token", "--secret-file", path, "--user", "ada"});
  EXPECT_EQ(from_file.exit_code, kOk);
  EXPECT_EQ(std::count(from_file.out.begin(), from_file.out.end(), '.'), 2);
  EXPECT_EQ(std::count(from_file.out.begin(), from_file.out.end(), '\n'), 1);
  ::setenv("CLARION_TOKEN_SECRET", kSecret, 1);
  EXPECT_EQ(Ctl({"token", "--user", "ada"}).exit_code, kOk);
  ::unsetenv("CLARION_TOKEN_SECRET");
  EXPECT_EQ(Ctl({"token", "--user", "ada"}).exit_code, kUsage);
  std::remove(path.c_str());
}

// ---- Requests ----

TEST(Requests, EventsTakesPositionsApart) {
  const auto request = EventsRequest({.thread = "t1", .user = "ada", .after = "a:b:12"});
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->thread_id(), "t1");
  EXPECT_EQ(request->user_id(), "ada");
  EXPECT_EQ(request->after().epoch(), "a:b");
  EXPECT_EQ(request->after().offset(), 12u);
  EXPECT_FALSE(request->has_before());
  const auto before = EventsRequest({.thread = "t1", .before = "e:3"});
  EXPECT_EQ(before->before().offset(), 3u);
  EXPECT_FALSE(before->has_after());
}

TEST(Requests, PositionsAreEpochAndOffset) {
  for (const char* bad : {"", ":", ":7", "e:", "e:x", "e:7x", "e", "e:-1"}) {
    EXPECT_EQ(ParsePosition(bad), std::nullopt) << bad;
  }
  EXPECT_EQ(ParsePosition("e:0"), (Position{Epoch("e"), Offset(0)}));
}

TEST(Requests, PagesAreAsLargeAsWhatIsStillWanted) {
  EXPECT_EQ(PageSize(0, 0), 1000u);
  EXPECT_EQ(PageSize(100, 100), 100u);
  EXPECT_EQ(PageSize(2500, 2500), 1000u);
  EXPECT_EQ(PageSize(2500, 500), 500u);
}

TEST(Requests, CheckSaysGatewaysAndTime) {
  const auto request = CheckRequest({.gateways = {"g1", "g2"}, .canary_seconds = 2.5});
  EXPECT_EQ(request.gateway_ids_size(), 2);
  EXPECT_EQ(request.timeout().seconds(), 2);
  EXPECT_EQ(request.timeout().nanos(), 500'000'000);
}

TEST(Requests, ConnectionsSaysWhose) {
  const auto request = ConnectionsRequest({.user = "ada", .thread = "t1", .gone = true});
  EXPECT_EQ(request.user_id(), "ada");
  EXPECT_EQ(request.thread_id(), "t1");
  EXPECT_TRUE(request.include_gone());
}

// ---- Lines to publish ----

TEST(PublishLines, DefaultsFillWhatTheLineDoesNotSay) {
  const EventDefaults defaults = {"ada", "t1", "r1", "finder"};
  const auto event = EventFromLine(
      R"({"type":"step_started","step_name":"s","run_id":"r9","event_id":"e1"})", defaults);
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ(event->user_id(), "ada");
  EXPECT_EQ(event->thread_id(), "t1");
  EXPECT_EQ(event->run_id(), "r9");
  EXPECT_EQ(event->agent_name(), "finder");
  EXPECT_EQ(event->event_id(), "e1");
}

TEST(PublishLines, AnEventWithoutIdGetsOneOfItsOwn) {
  const auto first = EventFromLine(R"({"type":"step_started"})", {});
  const auto second = EventFromLine(R"({"type":"step_started"})", {});
  EXPECT_TRUE(ValidId(first->event_id()));
  EXPECT_FALSE(IsReservedEventId(first->event_id()));
  EXPECT_NE(first->event_id(), second->event_id());
}

TEST(PublishLines, FieldsBecomeALine) {
  const auto line = LineFromFields(
      "tool_executing", {"tool_call_id=c 1", "arguments:={\"q\":\"a=b\"}", "tool_name=x:y=z"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(*line, R"({"type":"tool_executing","tool_call_id":"c 1","arguments":{"q":"a=b"},)"
                   R"("tool_name":"x:y=z"})");
  EXPECT_FALSE(LineFromFields("custom", {"value:={"}).ok());
  EXPECT_FALSE(LineFromFields("custom", {"=x"}).ok());
}

// ---- Output ----

TEST(Output, TablesAlignAndKeepTerminalsSafe) {
  Table table({"A", "LONGER"});
  table.Add({"wide cell", ""});
  table.Add({"ü", "x\x1b[2J"});
  std::ostringstream out;
  table.Print(out);
  EXPECT_EQ(out.str(),
            "A          LONGER\n"
            "wide cell  -\n"
            "ü          x?[2J\n");
}

TEST(Output, MessagesAreJsonAsTheContractWritesIt) {
  v1::Connection connection;
  connection.set_connection_id("c\"1");
  connection.set_state(v1::CONNECTION_STATE_CONNECTED);
  connection.set_transport(v1::TRANSPORT_WEBSOCKET);
  connection.mutable_connected_at()->set_seconds(1'795'184'569);
  connection.add_thread_ids("t1");
  EXPECT_EQ(ToJson(connection),
            R"({"connection_id":"c\"1","user_id":"","gateway_id":"","transport":"websocket",)"
            R"("state":"connected","reason":"","connected_at":"2026-11-20T14:22:49.000Z",)"
            R"("thread_ids":["t1"],"client":""})");

  v1::PublishResult result;
  result.mutable_refused()->set_code(3);
  (*result.mutable_refused()->mutable_metadata())["user_id"] = "ada";
  const auto json = boost::json::parse(ToJson(result)).as_object();
  EXPECT_EQ(json.at("refused").at("metadata").at("user_id"), "ada");
  EXPECT_FALSE(json.contains("accepted"));
}

TEST(Output, ErrorsSayReasonSubjectFieldsAndWhatToDo) {
  const auto status =
      WithRetryAfter(MakeBadRequest({{"event.run_id", "is required"}},
                                    {.user_id = "ada", .thread_id = "t1", .operation = "Publish"}),
                     std::chrono::milliseconds(1500));
  const std::string text = DescribeError(status, {});
  for (const char* part : {"CONTEXT_INVALID", "ada", "t1", "Publish", "event.run_id: is required",
                           "after 1.5 s", "what to do"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(Output, EveryReasonHasAdviceAndIsNoUnreachableService) {
  for (const ReasonRow& row : kReasons) {
    const auto status = MakeError(row.reason, "text");
    EXPECT_THAT(DescribeError(status, {}), AllOf(HasSubstr("what to do"), HasSubstr(row.name)));
    EXPECT_EQ(ExitCodeOf(status), kFailed) << row.name;
  }
  EXPECT_EQ(ExitCodeOf(absl::UnavailableError("refused")), kUnreachable);
  EXPECT_EQ(ExitCodeOf(absl::DeadlineExceededError("late")), kUnreachable);
  EXPECT_EQ(ExitCodeOf(absl::UnimplementedError("no")), kFailed);
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), kOk);
}

// ---- URLs ----

TEST(StreamUrl, HasDefaultsForPortAndPath) {
  const auto text = [](std::string_view from) {
    const auto url = ParseStreamUrl(from);
    if (!url.ok()) return std::string("no");
    return std::string(url->tls ? "tls " : "plain ") + url->host + " " + url->port + " " +
           url->target;
  };
  EXPECT_EQ(text("ws://127.0.0.1:7710/v1/stream"), "plain 127.0.0.1 7710 /v1/stream");
  EXPECT_EQ(text("ws://[::1]:7710"), "plain ::1 7710 /v1/stream");
  EXPECT_EQ(text("wss://example.com/chat/v1/stream?x=1"),
            "tls example.com 443 /chat/v1/stream?x=1");
  EXPECT_EQ(text("ws://host/"), "plain host 80 /v1/stream");
  for (const char* bad : {"", "host:1", "http://host", "ws://", "ws:///v1"}) {
    EXPECT_EQ(text(bad), "no") << bad;
  }
}

}  // namespace
}  // namespace clarion::ctl
