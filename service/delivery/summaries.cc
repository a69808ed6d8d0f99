#include "service/delivery/summaries.h"

#include "proto/contract/ids.h"
#include "proto/contract/timestamp.h"

namespace clarion::delivery {
namespace {

constexpr int kMaxActiveRuns = 100;
constexpr uint32_t kDefaultThreadPage = 100;

}  // namespace

void AddActiveRuns(const log::ThreadState& state,
                   google::protobuf::RepeatedPtrField<v1::ActiveRun>* active_runs) {
  for (const log::RunRecord& run : state.runs) {
    if (run.end != Offset(0)) continue;
    if (active_runs->size() == kMaxActiveRuns) return;
    v1::ActiveRun& active = *active_runs->Add();
    active.set_run_id(run.run_id.str());
    active.set_agent_name(run.agent_name);
    active.set_offset(run.start.value());
  }
}

v1::ThreadSummary SummaryOf(const log::ThreadState& state) {
  v1::ThreadSummary summary;
  summary.set_thread_id(state.thread.str());
  summary.set_user_id(state.owner.str());
  summary.mutable_last()->set_epoch(state.end().epoch.str());
  summary.mutable_last()->set_offset(state.last.value());
  summary.set_floor(state.floor.value());
  summary.set_acknowledged(state.acknowledged.value());
  if (state.last > Offset(0)) *summary.mutable_last_event_at() = ToTimestamp(state.last_append);
  summary.set_acknowledged_events(state.acknowledged_count);
  summary.set_pending_events(state.pending());
  summary.set_expired_events(state.expired_count);
  AddActiveRuns(state, summary.mutable_active_runs());
  return summary;
}

bool Visible(const log::ThreadState& state) {
  return !state.owner.empty() && state.owner.str() != kCanaryUser;
}

uint32_t ThreadPageSize(uint32_t asked) {
  return asked == 0 ? kDefaultThreadPage : asked;
}

}  // namespace clarion::delivery
