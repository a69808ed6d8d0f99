// What compaction costs by itself: CPU for each event of the log, for what merges and what does
// not.
//
//   clarion_compactor_bench
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "proto/contract/event_json.h"
#include "service/delivery/compactor.h"

namespace clarion::delivery {
namespace {

constexpr int kEvents = 4'096;
constexpr int kRounds = 200;

EventPtr Encode(const v1::Event& event) {
  std::string json;
  AppendEventJson(event, &json);
  return std::make_shared<EncodedEvent>(json, event.SerializeAsString());
}

// Every `other`-th event is no delta.
log::EventRun Events(int other) {
  log::EventRun run{.epoch = Epoch("e"), .first = Offset(1)};
  for (int i = 1; i <= kEvents; ++i) {
    v1::Event event;
    event.set_event_id("event-" + std::to_string(i));
    event.set_user_id("somebody");
    event.set_thread_id("thread-0123456789");
    event.set_run_id("run-0123456789");
    event.set_agent_name("agent");
    event.mutable_accepted_at()->set_seconds(1'795'184'570);
    event.mutable_trace_context()->set_traceparent(
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    if (i % other == 0) {
      event.mutable_tool_progress()->set_tool_call_id("call");
      event.mutable_tool_progress()->set_message("still at work on it");
    } else {
      event.mutable_agent_message_delta()->set_message_id("message-0123456789");
      event.mutable_agent_message_delta()->set_role("assistant");
      event.mutable_agent_message_delta()->set_delta("some words of it ");
    }
    run.events.push_back(Encode(event));
  }
  return run;
}

void Measure(const char* what, const log::EventRun& run, const PageShape& shape) {
  size_t travelled = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kRounds; ++i) {
    Compactor compactor(ThreadId("t"), shape);
    compactor.Add(run);
    travelled = compactor.Take().front().events.size();
  }
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
  std::printf("%-40s %6.0f ns an event, %d become %zu\n", what, took.count() / kRounds / kEvents,
              kEvents, travelled);
}

void Run() {
  const PageShape all{.max_bytes = 64 * 1024 * 1024, .max_events = kEvents};
  PageShape json = all, proto = all, full = all;
  json.proto = false;
  proto.json = false;
  full.compact = false;
  const log::EventRun deltas = Events(50), half = Events(2), none = Events(1);
  Measure("deltas, JSON", deltas, json);
  Measure("deltas, Protocol Buffers", deltas, proto);
  Measure("deltas, both", deltas, all);
  Measure("every second is none, JSON", half, json);
  Measure("no deltas, JSON", none, json);
  Measure("no deltas, Protocol Buffers", none, proto);
  Measure("in full", deltas, full);
}

}  // namespace
}  // namespace clarion::delivery

int main() {
  clarion::delivery::Run();
}
