#include <algorithm>
#include <iostream>
#include <memory>
#include <thread>
#include <utility>

#include "proto/base/text.h"
#include "proto/contract/close_code.h"
#include "proto/contract/error.h"
#include "proto/contract/json_text.h"
#include "service/ctl/output.h"
#include "service/ctl/position_text.h"
#include "service/ctl/tail_socket.h"
#include "service/ctl/tail_state.h"
#include "service/ctl/token.h"

namespace clarion::ctl {
namespace {

constexpr char kTailExamples[] =
    "Examples:\n"
    "  clarionctl tail t1 --secret-file token.secret --user ada\n"
    "  clarionctl tail t1 --token \"$TOKEN\" --from start --until-complete\n"
    "  clarionctl tail t1 --token \"$TOKEN\" --after 7f3a:120 --events-only | jq .type\n"
    "Follows as a browser does, over the gateway's WebSocket, and prints one JSON frame a line.\n"
    "When the connection breaks, or `subscribe` is refused for now, it comes back where it was.\n"
    "It gives up when it has not followed the thread for --timeout (exit code 3; 1 if something\n"
    "was said that does not mean somebody is away), and at once (1) when the gateway says not to\n"
    "come back. Acknowledges nothing. Remarks go to standard error.";

constexpr auto kFirstTailPause = std::chrono::milliseconds(100);
constexpr auto kLongestTailPause = std::chrono::milliseconds(1000);

struct TailOptions {
  TailStart start;
  std::string url = "ws://127.0.0.1:7710/v1/stream";
  std::string after;
  std::string token;
  TokenRequest sign;
  bool events_only = false;
};

class Tail {
 public:
  Tail(const Globals& globals, TailOptions options, StreamUrl url)
      : globals_(globals),
        options_(std::move(options)),
        url_(std::move(url)),
        state_(options_.start) {}

  int Run() {
    auto give_up_at = Clock::now() + globals_.timeout();
    auto pause = kFirstTailPause;
    for (;;) {
      const auto token = Token();
      if (!token.ok()) return ReportError(token.status(), globals_);
      stop_ = Stop::kNone;
      const SocketEnd end = RunSocket(url_, globals_, CallsWith(*token), give_up_at);
      if (state_.followed()) {
        give_up_at = Clock::now() + globals_.timeout();
        pause = kFirstTailPause;
      }
      const bool was_connected = state_.connected();
      const TailState::Ending said = state_.TakeEnding();
      if (const auto exit_code = Final(end, said, was_connected)) return *exit_code;

      const std::string what = WhatHappened(end, said, was_connected);
      const auto wait = std::max({pause, said.after, TableDelay(end)});
      if (Clock::now() + wait >= give_up_at) return GiveUp(what, said, was_connected);
      std::cerr << "clarionctl: " << what << "; again in " << wait.count() << " ms\n";
      std::this_thread::sleep_for(wait);
      pause = std::min(pause * 2, kLongestTailPause);
    }
  }

 private:
  using Clock = std::chrono::steady_clock;
  // Why we ended a connection.
  enum class Stop { kNone, kDone, kUseless, kRefused };

  // A token made here is made anew for each connection; a given one cannot be.
  absl::StatusOr<std::string> Token() const {
    if (!options_.token.empty()) return options_.token;
    return MakeToken(options_.sign, std::chrono::system_clock::now());
  }

  SocketCalls CallsWith(const std::string& token) {
    return {.on_open = [this, token] { return state_.ConnectFrame(token); },
            .on_message = [this](std::string_view text) { return OnMessage(text); },
            .settled = [this] { return state_.followed(); }};
  }

  std::optional<std::string> OnMessage(std::string_view text) {
    bool understood = false;
    const TailState::Step step = state_.OnFrame(text, &understood);
    if (!understood) return End(Stop::kUseless);
    const bool wanted =
        step.print && (!options_.events_only || text.find("\"event_id\"") != text.npos);
    if (wanted) std::cout << OnOneLine(std::string(text)) << std::endl;
    if (!step.note.empty()) std::cerr << "clarionctl: " << CleanUtf8(step.note) << "\n";
    if (step.done || !std::cout) return End(Stop::kDone);
    if (step.refused) return End(Stop::kRefused);
    return step.reply;
  }

  std::optional<std::string> End(Stop why) {
    stop_ = why;
    return std::nullopt;
  }

  // Something: coming back would not help.
  std::optional<int> Final(const SocketEnd& end, const TailState::Ending& said,
                           bool was_connected) const {
    if (stop_ == Stop::kDone) return kOk;
    if (stop_ == Stop::kUseless) return Useless();
    if (stop_ == Stop::kRefused) {
      // A thread that is followed alone: without it, the connection is left and made again.
      if (said.after.count() > 0) return std::nullopt;
      return ReportError(StatusOf(said), globals_);
    }
    if (end.kind == SocketEnd::Kind::kRefused && end.code < 500 && end.code != 429) {
      return Refuse(end.text, end.code == 403 || end.code == 404
                                  ? "see --url and the gateway's allowed origins"
                                  : "see what the gateway says");
    }
    if (end.kind != SocketEnd::Kind::kClosed) return std::nullopt;
    const CloseRow& row = RowOf(static_cast<CloseCode>(end.code));
    const std::string what = Concat("closed with ", end.code, " ", row.name,
                                    said.message.empty() ? "" : ": ", said.message);
    if (row.reconnect == Reconnect::kAfterNewToken) {
      // An old token ended; if the next one is made here, it counts again.
      if (was_connected && options_.token.empty()) return std::nullopt;
      return Refuse(what, "get a token that the gateway takes: clarionctl token --help");
    }
    const bool comes_back = said.reconnect.value_or(row.reconnect != Reconnect::kNo);
    if (comes_back) return std::nullopt;
    return Refuse(what, "the gateway says not to come back");
  }

  static std::chrono::milliseconds TableDelay(const SocketEnd& end) {
    if (end.kind != SocketEnd::Kind::kClosed) return {};
    return std::chrono::milliseconds(RowOf(static_cast<CloseCode>(end.code)).retry_after_ms);
  }

  static int Refuse(const std::string& what, std::string_view advice) {
    std::cerr << "clarionctl: " << CleanUtf8(what) << "\n  what to do: " << advice << "\n";
    return kFailed;
  }

  int Useless() const {
    return Refuse("what answers at " + options_.url + " does not speak this protocol",
                  "see that --url names a gateway of this version");
  }

  // What the gateway said, as a failed call's status.
  absl::Status StatusOf(const TailState::Ending& said) const {
    const auto reason = ReasonFromName(said.code);
    if (!reason) return absl::UnknownError(Concat(said.code, ": ", said.message));
    return MakeError(*reason, said.message,
                     {.thread_id = options_.start.thread, .operation = "subscribe"});
  }

  std::string WhatHappened(const SocketEnd& end, const TailState::Ending& said,
                           bool was_connected) const {
    if (stop_ == Stop::kRefused) {
      return CleanUtf8(Concat("`subscribe` was refused: ", said.code, ": ", said.message));
    }
    if (end.kind != SocketEnd::Kind::kTimedOut) return CleanUtf8(end.text);
    return Concat(end.text, was_connected ? " to `subscribe`" : "", " within --timeout");
  }

  // --timeout is over. An answer that is not about somebody absent is a refusal.
  int GiveUp(const std::string& what, const TailState::Ending& said, bool was_connected) const {
    const auto reason = ReasonFromName(said.code);
    if (reason && *reason != Reason::kGatewayUnavailable) {
      return ReportError(StatusOf(said), globals_);
    }
    std::cerr << "clarionctl: cannot follow by the gateway at " << options_.url << ": " << what
              << "\n  what to do: "
              << (was_connected ? "see that clarion-service runs and the gateway reaches it"
                                : "start clarion-gateway there, or name another with --url")
              << "\n";
    return kUnreachable;
  }

  const Globals& globals_;
  const TailOptions options_;
  const StreamUrl url_;
  TailState state_;
  Stop stop_ = Stop::kNone;
};

int Run(const Globals& globals, TailOptions& options) {
  if (!options.after.empty()) {
    options.start.after = ParsePosition(options.after);
    if (!options.start.after) return UsageError("tail", "--after must be EPOCH:OFFSET");
  }
  if (!options.start.run.empty()) options.start.until_complete = true;
  if (options.token.empty() && (options.sign.secret.empty() || options.sign.user.empty())) {
    return UsageError("tail", "needs --token, or --secret (or --secret-file) and --user");
  }
  auto url = ParseStreamUrl(options.url);
  if (!url.ok()) return UsageError("tail", std::string(url.status().message()));
  return Tail(globals, options, *std::move(url)).Run();
}

}  // namespace

void AddTailCommand(Program& program) {
  auto options = std::make_shared<TailOptions>();
  CLI::App& app = program.Add({"tail", "Follow a thread as a browser does.", kTailExamples},
                              [&program, options] { return Run(program.globals(), *options); });
  app.add_option("THREAD", options->start.thread, "The thread")->required();
  app.add_option("--url", options->url, "The gateway's stream")
      ->envname("CLARION_URL")
      ->capture_default_str();
  program.flags().AddSecret(app, "--token", options->token, "The user's token", "CLARION_TOKEN");
  program.flags().AddSecret(app, "--secret", options->sign.secret,
                            "Make a token with this key of HS256", "CLARION_TOKEN_SECRET");
  app.add_option("--user", options->sign.user, "... for this user");
  app.add_option("--issuer", options->sign.issuer, "... with this `iss`");
  app.add_option("--audience", options->sign.audience, "... with this `aud`");
  auto* from = app.add_option("--from", options->start.from, "Where to begin")
                   ->check(CLI::IsMember({"start", "unfinished", "live"}))
                   ->capture_default_str();
  app.add_option("--after", options->after, "Begin after this position")
      ->type_name("EPOCH:OFFSET")
      ->excludes(from);
  app.add_flag("--until-complete", options->start.until_complete,
               "End when a run has ended and none is open");
  app.add_option("--run", options->start.run, "End when this run has ended");
  app.add_flag("--events-only", options->events_only, "Print events, no other frames");
}

}  // namespace clarion::ctl
