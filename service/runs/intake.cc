#include "service/runs/intake.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "proto/base/text.h"
#include "proto/contract/event_type.h"
#include "proto/contract/timestamp.h"

namespace clarion::runs {
namespace {

ErrorContext ContextOfEvent(const v1::Event& event) {
  return {.user_id = event.user_id(), .thread_id = event.thread_id(), .run_id = event.run_id()};
}

void Complete(v1::Event* event, const v1::TraceContext& call_trace, log::WallTime now) {
  *event->mutable_accepted_at() = ToTimestamp(now);
  if (!event->has_occurred_at()) *event->mutable_occurred_at() = event->accepted_at();
  if (event->trace_context().traceparent().empty() && !call_trace.traceparent().empty()) {
    *event->mutable_trace_context() = call_trace;
  }
}

// Memory that a thread keeps for the next event. A rare giant gives its back.
constexpr size_t kKeptScratchBytes = 1024 * 1024;

std::string& Emptied(std::string& scratch) {
  if (scratch.capacity() > kKeptScratchBytes) scratch = std::string();
  scratch.clear();
  return scratch;
}

// When the last of them expires; 1970: one never does, or there are none.
log::WallTime ExpiryOf(const v1::AgentCompleted& completed) {
  log::WallTime last;
  for (const v1::Interrupt& interrupt : completed.interrupts()) {
    if (!interrupt.has_expires_at()) return {};
    last = std::max(last, ToSysTime(interrupt.expires_at()));
  }
  return last;
}

void TakeCompleted(const v1::AgentCompleted& completed, log::AppendItem& item) {
  item.run_outcome = static_cast<uint8_t>(completed.outcome());
  switch (completed.outcome()) {
    case v1::RUN_OUTCOME_SUCCESS:
      item.run_step = log::RunStep::kComplete;
      break;
    case v1::RUN_OUTCOME_INTERRUPTED:
      item.run_step = log::RunStep::kSuspend;
      item.suspended_until = ExpiryOf(completed);
      break;
    default:
      item.run_step = log::RunStep::kStop;
  }
}

// What the event is to its run.
void TakeStep(const v1::Event& event, log::AppendItem& item) {
  const auto set = [&item](log::RunStep step, const std::string& key) {
    item.run_step = step;
    item.run_key = key;
  };
  switch (event.payload_case()) {
    case v1::Event::kAgentStarted:
      item.run_step = log::RunStep::kStart;
      item.agent_name = event.agent_name();
      item.parent = RunId(event.agent_started().parent_run_id());
      break;
    case v1::Event::kToolExecuting:
      item.tool_name = event.tool_executing().tool_name();
      return set(log::RunStep::kOpenTool, event.tool_executing().tool_call_id());
    case v1::Event::kToolProgress:
      return set(log::RunStep::kUseTool, event.tool_progress().tool_call_id());
    case v1::Event::kToolCompleted:
      return set(log::RunStep::kCloseTool, event.tool_completed().tool_call_id());
    case v1::Event::kStepStarted:
      return set(log::RunStep::kOpenStep, event.step_started().step_name());
    case v1::Event::kStepCompleted:
      return set(log::RunStep::kCloseStep, event.step_completed().step_name());
    case v1::Event::kAgentCompleted:
      return TakeCompleted(event.agent_completed(), item);
    case v1::Event::kAgentError:
      item.run_step = log::RunStep::kStop;
      item.run_outcome = kOutcomeError;
      break;
    case v1::Event::kResourceCleanup:
    case v1::Event::kSystemRecovered:
      item.run_step = log::RunStep::kAftermath;
      break;
    default:
      item.run_step = log::RunStep::kInside;
  }
}

}  // namespace

log::Digest ContentDigest(const v1::Event& event) {
  // run_id, a zero byte (no id holds one), the payload's number, the payload.
  thread_local std::string scratch;
  std::string& bytes = Emptied(scratch);
  bytes.append(event.run_id());
  bytes.push_back('\0');
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    coded.WriteVarint32(static_cast<uint32_t>(event.payload_case()));
    const auto* field = v1::Event::descriptor()->FindFieldByNumber(event.payload_case());
    if (field != nullptr) {
      event.GetReflection()->GetMessage(event, field).SerializeToCodedStream(&coded);
    }
  }
  return log::Digest::Of(bytes);
}

absl::StatusOr<log::AppendItem> Intake::MakeItem(v1::Event* event,
                                                 const v1::TraceContext& call_trace) const {
  const EventTypeRow* type = TypeOf(event->payload_case());
  const auto now = std::chrono::floor<std::chrono::milliseconds>(scheduler_->wall_now());
  Complete(event, call_trace, now);

  // Encoded in memory that is used again, so that what the log keeps is allocated once, at its
  // size.
  thread_local std::string scratch;
  std::string& json = Emptied(scratch);
  if (type == nullptr || !options_.encoder(*event, &json)) {
    const std::string name(type == nullptr ? "unknown" : type->name);
    return MakeBadRequest(
        {{Concat("event.", name), "this service cannot encode events of this type"}},
        ContextOfEvent(*event));
  }
  if (json.size() > options_.max_event_bytes) {
    return MakeError(Reason::kBufferOverflow,
                     Concat("the event is ", json.size(), " bytes encoded; --max-event-bytes is ",
                            options_.max_event_bytes),
                     ContextOfEvent(*event));
  }
  std::string bytes;
  bytes.reserve(json.size() + event->ByteSizeLong());
  bytes.append(json);
  event->AppendToString(&bytes);

  log::AppendItem item;
  item.event_id = EventId(event->event_id());
  item.content = ContentDigest(*event);
  item.event = std::make_shared<const EncodedEvent>(std::move(bytes), json.size());
  item.run_id = RunId(event->run_id());
  TakeStep(*event, item);
  item.critical = type->critical;
  return item;
}

v1::PublishResponse Intake::Accepted(const log::AppendedItem& item, const log::AppendResult& result,
                                     bool critical, uint32_t subscriptions) const {
  v1::PublishResponse response;
  response.set_offset(item.offset.value());
  response.set_epoch(item.epoch.str());
  response.set_duplicate(item.outcome == log::AppendOutcome::kDuplicate);
  if (subscriptions > 0) {
    response.set_disposition(v1::DISPOSITION_DELIVERING);
    response.set_subscriptions(subscriptions);
    return response;
  }
  response.set_disposition(v1::DISPOSITION_QUEUED);
  *response.mutable_queued_until() =
      ToTimestamp(critical ? result.committed_at + options_.retention_critical : result.expires_at);
  return response;
}

bool IsAccepted(log::AppendOutcome outcome) {
  return outcome == log::AppendOutcome::kAppended || outcome == log::AppendOutcome::kDuplicate;
}

absl::Status RefusalOf(log::AppendOutcome outcome, const ErrorContext& context) {
  switch (outcome) {
    case log::AppendOutcome::kNotOwner:
      return MakeError(Reason::kThreadOwnership, "the thread belongs to another user", context);
    case log::AppendOutcome::kIdConflict:
      return MakeBadRequest(
          {{"event.event_id", "the thread has another event (run or payload) under this id"}},
          context);
    case log::AppendOutcome::kRunExists: {
      ErrorContext about = context;
      about.cause = "started";
      return MakeError(Reason::kRunProtocol, "the thread has a run of this id already", about);
    }
    case log::AppendOutcome::kTooManyRuns:
      return WithRetryAfter(
          MakeError(Reason::kBufferOverflow,
                    "the thread has as many open runs as --max-open-runs allows", context),
          std::chrono::seconds(1));
    case log::AppendOutcome::kFenced:
      return MakeError(Reason::kRunFenced,
                       "the producer_token is not that of the producer of this run", context);
    case log::AppendOutcome::kDeleted:
      return MakeError(Reason::kEventDropped, "the thread was deleted", context);
    case log::AppendOutcome::kRunProtocol:
    case log::AppendOutcome::kRunMoved:
    case log::AppendOutcome::kAppended:
    case log::AppendOutcome::kDuplicate:
    case log::AppendOutcome::kSkipped:
      break;
  }
  return MakeError(Reason::kLogUnavailable, "the event was not judged; send it again", context);
}

}  // namespace clarion::runs
