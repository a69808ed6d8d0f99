#include <iostream>
#include <memory>
#include <utility>

#include "proto/base/text.h"
#include "proto/contract/event_type.h"
#include "service/ctl/client.h"
#include "service/ctl/output.h"
#include "service/ctl/requests.h"

namespace clarion::ctl {
namespace {

constexpr char kWhereExamples[] =
    "Examples:\n"
    "  clarionctl where e-123 --thread t1\n"
    "  clarionctl where e-123               in every thread, up to --max-threads of them\n"
    "An event_id is unique in its thread only, so a search may find several.";

struct WhereOptions {
  std::string event;
  std::string thread;
  uint64_t max_threads = 10'000;
};

void Print(const Globals& globals, const v1::GetEventResponse& found) {
  if (globals.json) {
    std::cout << ToJson(found) << "\n";
    return;
  }
  const v1::Event& event = found.event();
  const EventTypeRow* type = TypeOf(event.payload_case());
  Table table({"EVENT", event.event_id()});
  table.Add({"type", type == nullptr ? "unknown" : std::string(type->name)});
  table.Add({"thread", event.thread_id()});
  table.Add({"user", event.user_id()});
  table.Add({"run", event.run_id()});
  table.Add({"position", PositionText(found.epoch(), event.offset())});
  table.Add({"occurred", TimeText(event.has_occurred_at(), event.occurred_at())});
  table.Add({"accepted", TimeText(event.has_accepted_at(), event.accepted_at())});
  table.Add({"committed", TimeText(found.has_committed_at(), found.committed_at())});
  if (found.has_first_sent_at()) {
    table.Add({"first sent", TimeText(true, found.first_sent_at())});
  }
  table.Add({"acknowledged", found.has_acknowledged_at() ? TimeText(true, found.acknowledged_at())
                             : found.acknowledged()      ? "yes"
                                                         : "not yet"});
  table.Add({"kept until", TimeText(found.has_expires_at(), found.expires_at())});
  table.Print(std::cout);
}

v1::GetEventRequest RequestFor(const std::string& thread, const std::string& event) {
  v1::GetEventRequest request;
  request.set_thread_id(thread);
  request.set_event_id(event);
  return request;
}

int Search(const Globals& globals, const WhereOptions& options, Client& client) {
  uint64_t searched = 0, found = 0;
  bool bounded = false;
  v1::ListThreadsRequest list;
  do {
    list.set_page_size(PageSize(options.max_threads, options.max_threads - searched));
    auto page = client.Call(&Client::Stub::ListThreads, list);
    if (!page.ok()) return ReportError(page.status(), globals);
    for (const v1::ThreadSummary& thread : page->threads()) {
      ++searched;
      auto event =
          client.Call(&Client::Stub::GetEvent, RequestFor(thread.thread_id(), options.event));
      if (event.ok()) {
        ++found;
        Print(globals, *event);
      } else if (event.status().code() != absl::StatusCode::kNotFound) {
        return ReportError(event.status(), globals);
      }
    }
    list.set_page_token(page->next_page_token());
    bounded = searched >= options.max_threads && !list.page_token().empty();
  } while (!list.page_token().empty() && !bounded);

  std::cerr << "searched " << searched << " threads"
            << (bounded ? ", not all there are (--max-threads, or name one with --thread)" : "")
            << ": " << found << " found\n";
  return found > 0 ? kOk : kFailed;
}

int Where(const Globals& globals, const WhereOptions& options) {
  auto client = Client::Make(globals);
  if (!client.ok()) return ReportError(client.status(), globals);
  if (options.thread.empty()) return Search(globals, options, *client);
  auto found = client->Call(&Client::Stub::GetEvent, RequestFor(options.thread, options.event));
  if (!found.ok()) return ReportError(found.status(), globals);
  Print(globals, *found);
  return kOk;
}

}  // namespace

void AddWhereCommand(Program& program) {
  auto options = std::make_shared<WhereOptions>();
  CLI::App& app = program.Add({"where", "Say what became of one event.", kWhereExamples},
                              [&program, options] { return Where(program.globals(), *options); });
  app.add_option("EVENT_ID", options->event, "The event")->required();
  app.add_option("--thread", options->thread, "Its thread");
  app.add_option("--max-threads", options->max_threads, "How many threads to search at most")
      ->check(CLI::Range(1, 1'000'000).description(""))
      ->capture_default_str();
}

}  // namespace clarion::ctl
