#include "service/runs/run_protocol.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "proto/base/text.h"
#include "service/runs/service_events.h"
#include "telemetry/metrics.h"

namespace clarion::runs {
namespace {

// The rule's name, for machines; and what it means here.
struct RuleWords {
  std::string_view name;
  std::string_view words;
};

RuleWords WordsFor(log::RunRule rule) {
  switch (rule) {
    case log::RunRule::kNotStarted:
      return {"not_started", "the thread has no run of this id: agent_started comes first"};
    case log::RunRule::kEnded:
      return {"ended", "the run has ended: only resource_cleanup and system_recovered may follow"};
    case log::RunRule::kOpenAlready:
      return {"open_already", "the tool call or step is open already"};
    case log::RunRule::kNotOpen:
      return {"not_open", "the tool call or step is not open"};
    case log::RunRule::kStillOpen:
      return {"still_open", "the run cannot be a success while these are open:"};
    case log::RunRule::kStarted:
    case log::RunRule::kTooManyOpen:
    case log::RunRule::kNone:
      break;
  }
  return {"", "the event does not fit its run"};
}

std::string NamesOf(const std::vector<log::OpenPart>& open) {
  constexpr size_t kNamed = 8;
  std::string names;
  for (size_t i = 0; i < std::min(open.size(), kNamed); ++i) {
    const bool tool = open[i].kind == log::OpenPart::Kind::kTool;
    names += Concat(i == 0 ? " " : ", ", tool ? "tool call " : "step ", open[i].name);
  }
  if (open.size() > kNamed) names += Concat(" and ", open.size() - kNamed, " more");
  return names;
}

Counter& MendsOf(log::RunRule rule) {
  static constexpr char kHelp[] =
      "Events that --run-protocol lenient added for producers, by what they had left out";
  static Counter& started = GetCounter("clarion_run_mends_total", kHelp, {{"rule", "not_started"}});
  static Counter& open = GetCounter("clarion_run_mends_total", kHelp, {{"rule", "still_open"}});
  return rule == log::RunRule::kNotStarted ? started : open;
}

// What closes one tool call or step.
void FillClosing(const log::OpenPart& part, v1::Event& event) {
  if (part.kind == log::OpenPart::Kind::kStep) {
    event.mutable_step_completed()->set_step_name(part.name);
    return;
  }
  v1::ToolCompleted& completed = *event.mutable_tool_completed();
  completed.set_tool_call_id(part.name);
  completed.set_tool_name(part.tool_name);
  completed.set_status(v1::TOOL_STATUS_ABANDONED);
  completed.set_message("The run was completed while this tool call was open.");
}

// An event of the same run; `n` tells apart those for one event.
v1::Event EventBeside(const v1::Event& shown, size_t n) {
  v1::Event event = ServiceEvent(RunOf(shown), {"mend", shown.event_id(), Concat(n)});
  *event.mutable_trace_context() = shown.trace_context();
  return event;
}

std::vector<log::AppendItem> MendRun(const Intake& intake, const log::AppendItem& item,
                                     log::RunRule rule, const std::optional<log::RunRecord>& run) {
  std::vector<v1::Event> events;
  const v1::Event shown = EventOf(*item.event);
  if (rule == log::RunRule::kNotStarted && item.run_step != log::RunStep::kAftermath) {
    events.push_back(EventBeside(shown, 0));
    events.back().mutable_agent_started();
  } else if (rule == log::RunRule::kStillOpen && run) {
    for (const log::OpenPart& part : run->open) {
      events.push_back(EventBeside(shown, events.size()));
      FillClosing(part, events.back());
    }
  }
  std::vector<log::AppendItem> front;
  for (v1::Event& event : events) {
    auto made = intake.MakeItem(&event, {});
    if (!made.ok()) return {};
    front.push_back(*std::move(made));
  }
  MendsOf(rule).Add(front.size());
  return front;
}

}  // namespace

std::optional<log::RunRules> RunRulesOf(std::string_view name) {
  if (name == "strict") return log::RunRules::kStrict;
  if (name == "lenient") return log::RunRules::kLenient;
  if (name == "off") return log::RunRules::kNone;
  return std::nullopt;
}

void PutUnderRules(log::RunRules rules, const Intake& intake, log::AppendRequest& request) {
  request.run_rules = rules;
  if (rules != log::RunRules::kLenient) return;
  request.mend = [&intake](const log::AppendItem& item, log::RunRule rule,
                           const std::optional<log::RunRecord>& run) {
    return MendRun(intake, item, rule, run);
  };
}

absl::Status RefusalOf(const log::AppendedItem& item, const ErrorContext& context) {
  if (item.outcome != log::AppendOutcome::kRunProtocol) return RefusalOf(item.outcome, context);
  if (item.rule == log::RunRule::kTooManyOpen) {
    return MakeError(
        Reason::kBufferOverflow,
        Concat("the run has ", log::kMaxOpenParts, " tool calls and steps open, as many as it may"),
        context);
  }
  ErrorContext about = context;
  const RuleWords rule = WordsFor(item.rule);
  about.cause = std::string(rule.name);
  const bool names = item.rule == log::RunRule::kStillOpen && item.run;
  return MakeError(Reason::kRunProtocol, Concat(rule.words, names ? NamesOf(item.run->open) : ""),
                   about);
}

}  // namespace clarion::runs
