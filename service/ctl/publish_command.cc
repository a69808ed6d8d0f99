#include <fstream>
#include <iostream>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "service/ctl/client.h"
#include "service/ctl/output.h"
#include "service/ctl/publish_input.h"
#include "service/ctl/publish_lines.h"
#include "service/ctl/publish_result.h"
#include "service/ctl/publish_stream.h"

namespace clarion::ctl {
namespace {

constexpr char kPublishExamples[] =
    "Examples:\n"
    "  clarionctl publish run.jsonl\n"
    "  my-agent | clarionctl publish --user ada --thread t1 --run r1 --agent finder -\n"
    "  clarionctl publish --user ada --thread t1 --run r1 --agent finder \\\n"
    "      --type agent_message_delta --field message_id=m1 --field role=assistant \\\n"
    "      --field delta='Hello' --field is_final:=true\n"
    "A line is an event as browsers get it: {\"type\":\"step_started\",\"step_name\":\"s\",…}.\n"
    "Lines go out as they come; empty ones are passed over. Each line has its own result: one\n"
    "that cannot be published is said on standard error, with its number and event_id, the\n"
    "others go on, and the exit code is 1. Interrupted streams are taken up again without\n"
    "repeating an event; when nothing was answered for --timeout, publishing ends (exit code 3).\n"
    "Give each event its event_id, and the whole command may be repeated, too.";

struct PublishOptions {
  std::string file = "-";
  EventDefaults defaults;
  std::string type;
  std::vector<std::string> fields;
  bool quiet = false;
};

class Publisher {
 public:
  Publisher(const Globals& globals, const PublishOptions& options, Client client)
      : globals_(globals),
        options_(options),
        client_(std::move(client)),
        session_(client_.stub(), globals.timeout()) {}

  // Of several lines, in order. An error: some have no result.
  absl::Status Publish(const std::vector<Line>& lines) {
    std::vector<v1::Event> events;
    std::vector<uint64_t> numbers;
    for (const Line& line : lines) {
      auto event = Read(line);
      if (event.ok()) {
        events.push_back(*std::move(event));
        numbers.push_back(line.number);
      } else {
        Report(line.number, RefusedResult(EventIdIn(line.text), "", event.status()));
      }
    }
    std::set<uint64_t> open(numbers.begin(), numbers.end());
    const auto status =
        session_.Publish(events, [&](size_t index, const v1::PublishResult& result) {
          open.erase(numbers[index]);
          Report(numbers[index], result);
        });
    if (!open.empty() && *open.begin() > 0) {
      std::cout.flush();
      std::cerr << "line " << *open.begin() << ": the first of " << open.size()
                << " that may or may not have been accepted; nothing behind line "
                << lines.back().number << " was sent\n";
    }
    return status;
  }

  int ExitCode() const { return failed_ > 0 ? kFailed : kOk; }

  void PrintSummary() const {
    std::cout.flush();
    if (!options_.quiet || failed_ > 0) {
      std::cerr << accepted_ << " accepted, " << duplicates_ << " of them before; " << failed_
                << " refused\n";
    }
  }

 private:
  absl::StatusOr<v1::Event> Read(const Line& line) const {
    if (line.text.size() > kMaxLineBytes) {
      return MakeError(Reason::kBufferOverflow,
                       Concat("the line has more than ", kMaxLineBytes, " bytes"));
    }
    auto event = EventFromLine(line.text, options_.defaults);
    if (!event.ok()) return event;
    if (auto status = CheckFits(*event); !status.ok()) return status;
    return event;
  }

  void Report(uint64_t number, const v1::PublishResult& result) {
    const bool refused = result.has_refused();
    ++(refused ? failed_ : accepted_);
    if (!refused && result.accepted().duplicate()) ++duplicates_;
    if (globals_.json && (refused || !options_.quiet)) {
      std::string json = ToJson(result);
      if (number > 0) json.insert(1, Concat(R"("line":)", number, ","));
      std::cout << json << std::endl;
    }
    if (refused) return SayRefused(number, result);
    if (options_.quiet || globals_.json) return;
    const v1::PublishResponse& accepted = result.accepted();
    std::cout << result.event_id() << "  " << PositionText(accepted.epoch(), accepted.offset())
              << "  " << (accepted.duplicate() ? "duplicate" : DispositionText(accepted))
              << std::endl;
  }

  void SayRefused(uint64_t number, const v1::PublishResult& result) const {
    std::cout.flush();
    if (number > 0) std::cerr << "line " << number << ": ";
    if (!result.event_id().empty()) std::cerr << "event " << Printable(result.event_id()) << ": ";
    std::cerr << DescribeError(StatusOf(result), globals_);
  }

  static std::string DispositionText(const v1::PublishResponse& accepted) {
    if (accepted.disposition() == v1::DISPOSITION_DELIVERING) {
      return Concat("delivering to ", accepted.subscriptions());
    }
    return accepted.has_queued_until()
               ? Concat("queued until ", TimeText(true, accepted.queued_until()))
               : std::string("queued");
  }

  const Globals& globals_;
  const PublishOptions& options_;
  Client client_;
  PublishSession session_;
  uint64_t accepted_ = 0, duplicates_ = 0, failed_ = 0;
};

int PublishLines(Publisher& publisher, const Globals& globals, std::istream& in) {
  // Shared: a reader that waits for a terminal is left behind when the service is gone.
  auto queue = std::make_shared<LineQueue>();
  std::thread reader([queue, &in] { ReadLines(in, *queue); });
  absl::Status status;
  for (;;) {
    const std::vector<Line> lines = queue->Pop();
    if (lines.empty()) break;
    status = publisher.Publish(lines);
    if (!status.ok()) break;
  }
  queue->Close();
  if (status.ok()) {
    reader.join();
    publisher.PrintSummary();
    if (!in.bad()) return publisher.ExitCode();
    std::cerr << "clarionctl publish: cannot read on\n";
    return kFailed;
  }
  reader.detach();
  publisher.PrintSummary();
  const int exit_code = ReportError(status, globals);
  std::cout.flush();
  std::_Exit(exit_code);  // the reader may be inside a read that never ends
}

int Publish(const Globals& globals, const PublishOptions& options) {
  auto client = Client::Make(globals);
  if (!client.ok()) return ReportError(client.status(), globals);
  if (options.type.empty() && !options.fields.empty()) {
    return UsageError("publish", "--field needs --type");
  }
  Publisher publisher(globals, options, *std::move(client));
  if (!options.type.empty()) {
    const auto line = LineFromFields(options.type, options.fields);
    if (!line.ok()) return UsageError("publish", std::string(line.status().message()));
    const auto status = publisher.Publish({Line{0, *line}});
    if (!status.ok()) return ReportError(status, globals);
    return publisher.ExitCode();
  }
  if (options.file == "-") return PublishLines(publisher, globals, std::cin);
  std::ifstream file(options.file, std::ios::binary);
  if (!file) return UsageError("publish", "cannot read " + options.file);
  return PublishLines(publisher, globals, file);
}

}  // namespace

void AddPublishCommand(Program& program) {
  auto options = std::make_shared<PublishOptions>();
  CLI::App& app = program.Add(
      {"publish", "Publish events: lines of JSON, or one from flags.", kPublishExamples},
      [&program, options] { return Publish(program.globals(), *options); });
  auto* file = app.add_option("FILE", options->file, "Lines of JSON; -: standard input")
                   ->capture_default_str();
  app.add_option("--user", options->defaults.user, "user_id of events that name none");
  app.add_option("--thread", options->defaults.thread, "thread_id of events that name none");
  app.add_option("--run", options->defaults.run, "run_id of events that name none");
  app.add_option("--agent", options->defaults.agent, "agent_name of events that name none");
  app.add_option("--type", options->type, "One event of this type, instead of lines")
      ->excludes(file);
  app.add_option("--field", options->fields, "NAME=TEXT or NAME:=JSON of that event; repeatable")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  app.add_flag("--quiet", options->quiet, "Say nothing of accepted events");
}

}  // namespace clarion::ctl
