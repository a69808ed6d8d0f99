#include <condition_variable>
#include <deque>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "proto/base/text.h"
#include "service/ctl/client.h"
#include "service/ctl/output.h"
#include "service/ctl/publish_lines.h"
#include "service/ctl/publish_stream.h"

namespace clarion::ctl {
namespace {

constexpr char kExamples[] =
    "Examples:\n"
    "  clarionctl publish run.jsonl\n"
    "  my-agent | clarionctl publish --user ada --thread t1 --run r1 --agent finder -\n"
    "  clarionctl publish --user ada --thread t1 --run r1 --agent finder \\\n"
    "      --type agent_message_delta --field message_id=m1 --field role=assistant \\\n"
    "      --field delta='Hello' --field is_final:=true\n"
    "A line is an event as browsers get it: "
    "{\"type\":\"step_started\",\"step_name\":\"search\",…}. Lines go\n"
    "out as they come. Interrupted streams are taken up again without repeating an event; give "
    "each\n"
    "event its event_id, and the whole command may be repeated, too. Lines that cannot be "
    "published\n"
    "are said on standard error, the others go on; the exit code is 1 then.";

// Of a request: 1,024 events and 1 MiB, with room for what else is in it.
constexpr size_t kBatchEvents = 1024;
constexpr size_t kBatchBytes = 900 * 1024;
// Lines that may wait for the service.
constexpr size_t kMaxWaitingLines = 4096;

struct Options {
  std::string file = "-";
  EventDefaults defaults;
  std::string type;
  std::vector<std::string> fields;
  bool quiet = false;
};

struct Line {
  uint64_t number = 0;  // from 1; 0: made from flags
  std::string text;
};

// Lines from a reader that may be slow to a publisher that may be slow.
class LineQueue {
 public:
  void Push(Line line) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return lines_.size() < kMaxWaitingLines || closed_; });
    if (closed_) return;
    lines_.push_back(std::move(line));
    changed_.notify_all();
  }
  void Close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  // Waits for at least one; empty: there will be none.
  std::vector<Line> Pop(size_t most, size_t most_bytes) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !lines_.empty() || closed_; });
    std::vector<Line> taken;
    size_t bytes = 0;
    while (!lines_.empty() && taken.size() < most) {
      bytes += lines_.front().text.size();
      if (!taken.empty() && bytes > most_bytes) break;
      taken.push_back(std::move(lines_.front()));
      lines_.pop_front();
    }
    changed_.notify_all();
    return taken;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Line> lines_;
  bool closed_ = false;
};

void ReadLines(std::istream& in, LineQueue& queue) {
  Line line;
  while (std::getline(in, line.text)) {
    ++line.number;
    if (line.text.find_first_not_of(" \t\r") != std::string::npos) queue.Push(line);
  }
  queue.Close();
}

class Publisher {
 public:
  Publisher(const Globals& globals, const Options& options, Client client)
      : globals_(globals),
        options_(options),
        client_(std::move(client)),
        session_(client_.stub(), globals.timeout()) {}

  // Of several lines, in order.
  absl::Status Publish(const std::vector<Line>& lines) {
    std::vector<v1::Event> events;
    std::vector<uint64_t> numbers;
    for (const Line& line : lines) {
      auto event = EventFromLine(line.text, options_.defaults);
      if (!event.ok()) {
        Refused(line.number, event.status());
        continue;
      }
      events.push_back(*std::move(event));
      numbers.push_back(line.number);
    }
    if (events.empty()) return absl::OkStatus();
    return session_.Publish(events, [&](size_t index, const v1::PublishResult& result) {
      Report(numbers[index], result);
    });
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
  void Refused(uint64_t number, const absl::Status& status) {
    ++failed_;
    std::cout.flush();
    if (number > 0) std::cerr << "line " << number << ": ";
    std::cerr << DescribeError(status, globals_);
  }

  void Report(uint64_t number, const v1::PublishResult& result) {
    if (result.has_refused()) {
      if (globals_.json) std::cout << ToJson(result) << "\n";
      return Refused(number, StatusOf(result));
    }
    ++accepted_;
    if (result.accepted().duplicate()) ++duplicates_;
    if (options_.quiet) return;
    if (globals_.json) {
      std::cout << ToJson(result) << std::endl;
      return;
    }
    const v1::PublishResponse& accepted = result.accepted();
    std::cout << result.event_id() << "  " << PositionText(accepted.epoch(), accepted.offset())
              << "  " << (accepted.duplicate() ? "duplicate" : DispositionText(accepted))
              << std::endl;
  }

  static std::string DispositionText(const v1::PublishResponse& accepted) {
    if (accepted.disposition() == v1::DISPOSITION_DELIVERING) {
      return Concat("delivering to ", accepted.subscriptions());
    }
    return accepted.has_queued_until()
               ? Concat("queued until ", TimeText(true, accepted.queued_until()))
               : std::string("queued");
  }

  // The same facts as a failed call's status.
  static absl::Status StatusOf(const v1::PublishResult& result) {
    const v1::Refusal& refusal = result.refused();
    std::vector<FieldViolation> violations;
    for (const std::string& text : refusal.violations()) {
      const size_t colon = text.find(": ");
      if (colon == std::string::npos) {
        violations.push_back({"", text});
      } else {
        violations.push_back({text.substr(0, colon), text.substr(colon + 2)});
      }
    }
    const auto part = [&](const char* name) {
      const auto found = refusal.metadata().find(name);
      return found == refusal.metadata().end() ? std::string() : found->second;
    };
    const ErrorContext context = {part("user_id"),   part("thread_id"), part("run_id"),
                                  part("operation"), part("trace_id"),  part("cause")};
    const auto reason = ReasonFromName(refusal.reason());
    if (!reason) {
      return absl::Status(static_cast<absl::StatusCode>(refusal.code()), refusal.message());
    }
    return violations.empty() ? MakeError(*reason, refusal.message(), context)
                              : MakeBadRequest(violations, context);
  }

  const Globals& globals_;
  const Options& options_;
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
    const std::vector<Line> lines = queue->Pop(kBatchEvents, kBatchBytes);
    if (lines.empty()) break;
    status = publisher.Publish(lines);
    if (!status.ok()) break;
  }
  queue->Close();
  if (status.ok()) {
    reader.join();
    publisher.PrintSummary();
    return publisher.ExitCode();
  }
  reader.detach();
  publisher.PrintSummary();
  const int exit_code = ReportError(status, globals);
  std::cout.flush();
  std::_Exit(exit_code);  // the reader may be inside a read that never ends
}

int Publish(const Globals& globals, const Options& options) {
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
  auto options = std::make_shared<Options>();
  CLI::App& app =
      program.Add({"publish", "Publish events: lines of JSON, or one from flags.", kExamples},
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
