// threads, connections, events: what the service knows, as tables.
#include <iostream>
#include <memory>

#include "proto/base/text.h"
#include "proto/contract/event_json.h"
#include "proto/contract/event_type.h"
#include "service/ctl/client.h"
#include "service/ctl/output.h"
#include "service/ctl/position_text.h"
#include "service/ctl/requests.h"
#include "telemetry/runtime/thread_scheduler.h"

namespace clarion::ctl {
namespace {

constexpr char kThreadsExamples[] =
    "Examples:\n"
    "  clarionctl threads --user ada\n"
    "  clarionctl threads --limit 0        everybody's, all of them";
constexpr char kConnectionsExamples[] =
    "Examples:\n"
    "  clarionctl connections --user ada\n"
    "  clarionctl connections --thread t1 --gone\n"
    "  clarionctl connections --user ada --watch    every change, until interrupted";
constexpr char kEventsExamples[] =
    "Examples:\n"
    "  clarionctl events t1\n"
    "  clarionctl events t1 --after 7f3a:120 --limit 0\n"
    "  clarionctl events t1 --before 7f3a:120 --limit 20\n"
    "  clarionctl events t1 --json | jq .type";

// ---- threads ----

void AddRow(const v1::ThreadSummary& thread, Table* table) {
  std::string runs;
  for (const v1::ActiveRun& run : thread.active_runs()) {
    runs += Concat(runs.empty() ? "" : " ", run.run_id());
  }
  table->Add({thread.thread_id(), thread.user_id(),
              PositionText(thread.last().epoch(), thread.last().offset()),
              std::to_string(thread.floor()), std::to_string(thread.acknowledged()),
              TimeText(thread.has_last_event_at(), thread.last_event_at()), runs});
}

int ListThreads(const Globals& globals, const ThreadsOptions& options) {
  auto client = Client::Make(globals);
  if (!client.ok()) return ReportError(client.status(), globals);
  Table table({"THREAD", "USER", "LAST", "FLOOR", "ACKED", "LAST EVENT", "OPEN RUNS"});
  v1::ListThreadsRequest request = ThreadsRequest(options);
  for (uint64_t left = options.limit;;) {
    request.set_page_size(PageSize(options.limit, left));
    auto page = client->Call(&Client::Stub::ListThreads, request);
    if (!page.ok()) return ReportError(page.status(), globals);
    for (const v1::ThreadSummary& thread : page->threads()) {
      if (globals.json) {
        std::cout << ToJson(thread) << "\n";
      } else {
        AddRow(thread, &table);
      }
    }
    left -= std::min<uint64_t>(left, static_cast<uint64_t>(page->threads_size()));
    if (page->next_page_token().empty() || (options.limit > 0 && left == 0)) break;
    request.set_page_token(page->next_page_token());
  }
  if (!globals.json) table.Print(std::cout);
  return kOk;
}

// ---- connections ----

std::vector<std::string> RowOf(const v1::Connection& connection) {
  std::string threads;
  for (const std::string& thread : connection.thread_ids()) {
    threads += Concat(threads.empty() ? "" : " ", thread);
  }
  return {connection.connection_id(),
          connection.user_id(),
          EnumText(*v1::ConnectionState_descriptor(), connection.state()),
          connection.reason(),
          EnumText(*v1::Transport_descriptor(), connection.transport()),
          connection.gateway_id(),
          TimeText(connection.has_connected_at(), connection.connected_at()),
          connection.client(),
          threads};
}

const std::vector<std::string> kConnectionColumns = {
    "CONNECTION", "USER", "STATE", "REASON", "BY", "GATEWAY", "SINCE", "CLIENT", "THREADS"};

int GetConnections(const Globals& globals, const ConnectionsOptions& options) {
  auto client = Client::Make(globals);
  if (!client.ok()) return ReportError(client.status(), globals);
  auto response = client->Call(&Client::Stub::GetConnections, ConnectionsRequest(options));
  if (!response.ok()) return ReportError(response.status(), globals);
  Table table(kConnectionColumns);
  for (const v1::Connection& connection : response->connections()) {
    if (globals.json) {
      std::cout << ToJson(connection) << "\n";
    } else {
      table.Add(RowOf(connection));
    }
  }
  if (!globals.json) table.Print(std::cout);
  return kOk;
}

// Until interrupted, or until the service ends it; --timeout is of the answer that it watches.
int WatchConnections(const Globals& globals, const ConnectionsOptions& options) {
  auto client = Client::Make(globals);
  if (!client.ok()) return ReportError(client.status(), globals);
  grpc::ClientContext context;
  const auto scheduler = MakeThreadScheduler();
  const auto timer = scheduler->After(globals.timeout(), [&context] { context.TryCancel(); });
  const auto stream = client->stub().WatchConnections(&context, WatchRequest(options));
  stream->WaitForInitialMetadata();
  if (!scheduler->Cancel(timer)) {
    (void)stream->Finish();  // cancelled
    return ReportError(absl::DeadlineExceededError("no answer in time"), globals);
  }
  for (v1::WatchConnectionsResponse change; stream->Read(&change);) {
    if (!std::cout) {  // nobody reads it
      context.TryCancel();
      break;
    }
    if (globals.json) {
      std::cout << ToJson(change) << std::endl;
      continue;
    }
    std::cout << change.sequence() << (change.snapshot() ? " is " : " now");
    for (const std::string& cell : RowOf(change.connection())) {
      std::cout << "  " << (cell.empty() ? "-" : cell);
    }
    std::cout << std::endl;
  }
  const absl::Status status = FromGrpc(stream->Finish());
  return status.ok() || !std::cout ? static_cast<int>(kOk) : ReportError(status, globals);
}

int Connections(const Globals& globals, const ConnectionsOptions& options) {
  if (options.user.empty() && options.thread.empty()) {
    return UsageError("connections", "needs --user or --thread");
  }
  return options.watch ? WatchConnections(globals, options) : GetConnections(globals, options);
}

// ---- events ----

std::string TypeText(const v1::Event& event) {
  const EventTypeRow* type = TypeOf(event.payload_case());
  return type == nullptr ? "unknown" : std::string(type->name);
}

void PrintMissed(const Globals& globals, const v1::Missed& missed) {
  if (globals.json) {
    std::cout << R"({"type":"missed",)" << ToJson(missed).substr(1) << "\n";
    return;
  }
  std::cerr << "missing: offsets " << missed.from_offset() << " to " << missed.to_offset() << ", "
            << EnumText(*v1::MissedReason_descriptor(), missed.reason()) << "\n";
}

int ListEvents(const Globals& globals, const EventsOptions& options) {
  auto request = EventsRequest(options);
  if (!request.ok()) return UsageError("events", std::string(request.status().message()));
  auto client = Client::Make(globals);
  if (!client.ok()) return ReportError(client.status(), globals);
  Table table({"OFFSET", "ACCEPTED", "TYPE", "RUN", "AGENT", "EVENT"});
  for (uint64_t left = options.limit;;) {
    request->set_page_size(PageSize(options.limit, left));
    auto page = client->Call(&Client::Stub::ListEvents, *request);
    if (!page.ok()) return ReportError(page.status(), globals);
    for (const v1::Missed& missed : page->missed()) PrintMissed(globals, missed);
    for (const v1::Event& event : page->events()) {
      if (globals.json) {
        std::cout << EventToJson(event) << "\n";
      } else {
        table.Add({std::to_string(event.offset()),
                   TimeText(event.has_accepted_at(), event.accepted_at()), TypeText(event),
                   event.run_id(), event.agent_name(), event.event_id()});
      }
    }
    left -= std::min<uint64_t>(left, static_cast<uint64_t>(page->events_size()));
    // One page is all there is before a position.
    const bool enough = options.limit > 0 && left == 0;
    if (page->complete() || page->events().empty() || enough || request->has_before()) break;
    request->mutable_after()->set_epoch(page->last().epoch());
    request->mutable_after()->set_offset(page->events(page->events_size() - 1).offset());
  }
  if (!globals.json) table.Print(std::cout);
  return kOk;
}

}  // namespace

void AddThreadsCommand(Program& program) {
  auto options = std::make_shared<ThreadsOptions>();
  CLI::App& app =
      program.Add({"threads", "List threads, most recently active first.", kThreadsExamples},
                  [&program, options] { return ListThreads(program.globals(), *options); });
  app.add_option("--user", options->user, "Of this user; otherwise everybody's");
  app.add_option("--limit", options->limit, "At most so many; 0: all")->capture_default_str();
}

void AddConnectionsCommand(Program& program) {
  auto options = std::make_shared<ConnectionsOptions>();
  CLI::App& app = program.Add(
      {"connections", "List the connections of a user or thread.", kConnectionsExamples},
      [&program, options] { return Connections(program.globals(), *options); });
  app.add_option("--user", options->user, "Of this user");
  app.add_option("--thread", options->thread, "That follow this thread");
  app.add_flag("--gone", options->gone, "Also those that went within the last minutes");
  app.add_flag("--watch", options->watch, "Go on with every change")->excludes("--gone");
}

void AddEventsCommand(Program& program) {
  auto options = std::make_shared<EventsOptions>();
  CLI::App& app =
      program.Add({"events", "List the events of a thread that are kept.", kEventsExamples},
                  [&program, options] { return ListEvents(program.globals(), *options); });
  app.add_option("THREAD", options->thread, "The thread")->required();
  app.add_option("--user", options->user, "Refuse unless the thread is this user's");
  auto* after =
      app.add_option("--after", options->after, "Newer than this")->type_name("EPOCH:OFFSET");
  app.add_option("--before", options->before, "The newest that are older than this")
      ->type_name("EPOCH:OFFSET")
      ->excludes(after);
  app.add_option("--limit", options->limit, "At most so many; 0: all")->capture_default_str();
}

}  // namespace clarion::ctl
