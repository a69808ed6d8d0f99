#include "service/log/run_rules.h"

#include <algorithm>
#include <vector>

namespace clarion::log {
namespace {

using Parts = std::vector<OpenPart>;

OpenPart::Kind KindOf(RunStep step) {
  return step == RunStep::kOpenStep || step == RunStep::kCloseStep ? OpenPart::Kind::kStep
                                                                   : OpenPart::Kind::kTool;
}

Parts::const_iterator Find(const RunRecord& run, OpenPart::Kind kind, std::string_view name) {
  return std::find_if(run.open.begin(), run.open.end(),
                      [&](const OpenPart& part) { return part.kind == kind && part.name == name; });
}

bool IsOpen(const RunRecord& run, RunStep step, std::string_view name) {
  return Find(run, KindOf(step), name) != run.open.end();
}

void Close(RunRecord& run, RunStep step, std::string_view name) {
  const auto part = Find(run, KindOf(step), name);
  if (part != run.open.end()) run.open.erase(part);
}

}  // namespace

RunRule CheckStep(const RunRecord* run, RunStep step, std::string_view key) {
  if (run == nullptr) return step == RunStep::kStart ? RunRule::kNone : RunRule::kNotStarted;
  if (step == RunStep::kStart) return RunRule::kStarted;
  if (run->end != Offset{}) return step == RunStep::kAftermath ? RunRule::kNone : RunRule::kEnded;
  switch (step) {
    case RunStep::kOpenTool:
    case RunStep::kOpenStep:
      if (IsOpen(*run, step, key)) return RunRule::kOpenAlready;
      return run->open.size() >= kMaxOpenParts ? RunRule::kTooManyOpen : RunRule::kNone;
    case RunStep::kUseTool:
    case RunStep::kCloseTool:
    case RunStep::kCloseStep:
      return IsOpen(*run, step, key) ? RunRule::kNone : RunRule::kNotOpen;
    case RunStep::kComplete:
      return run->open.empty() ? RunRule::kNone : RunRule::kStillOpen;
    case RunStep::kStart:
    case RunStep::kInside:
    case RunStep::kSuspend:
    case RunStep::kStop:
    case RunStep::kAftermath:
      break;
  }
  return RunRule::kNone;
}

bool ChangesRun(const RunRecord& run, RunStep step) {
  if (run.end != Offset{}) return false;
  return run.suspended ||
         (step != RunStep::kInside && step != RunStep::kUseTool && step != RunStep::kAftermath);
}

void TakeStep(RunRecord& run, const AppendItem& item, Offset offset) {
  if (run.end != Offset{}) return;
  run.last = offset;
  run.suspended = item.run_step == RunStep::kSuspend;
  run.suspended_until = run.suspended ? item.suspended_until : WallTime{};
  switch (item.run_step) {
    case RunStep::kOpenTool:
    case RunStep::kOpenStep:
      if (!IsOpen(run, item.run_step, item.run_key) && run.open.size() < kMaxOpenParts) {
        run.open.push_back({KindOf(item.run_step), item.run_key, item.tool_name});
      }
      break;
    case RunStep::kCloseTool:
    case RunStep::kCloseStep:
      Close(run, item.run_step, item.run_key);
      break;
    case RunStep::kComplete:
    case RunStep::kStop:
      run.end = offset;
      run.outcome = item.run_outcome;
      run.open.clear();
      if (item.next_fence) run.fence = *item.next_fence;
      break;
    case RunStep::kStart:
    case RunStep::kInside:
    case RunStep::kUseTool:
    case RunStep::kSuspend:
    case RunStep::kAftermath:
      break;
  }
}

}  // namespace clarion::log
