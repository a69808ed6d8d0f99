#include "service/front/run_calls.h"

#include <string>
#include <utility>
#include <vector>

#include "proto/contract/event_json.h"
#include "proto/contract/timestamp.h"
#include "service/delivery/resume.h"
#include "service/front/async_call.h"
#include "service/front/request.h"
#include "service/runs/start_run.h"

namespace clarion::front {
namespace {

constexpr std::chrono::hours kMaxLease{24};
constexpr size_t kMaxTokenBytes = 128;

// What the request says of `agent_started` is judged as any event's fields are. The paths are those
// of the request: `event.agent_started.input` is `input` here.
void CheckStarted(const v1::StartRunRequest& request, std::vector<FieldViolation>* faults) {
  v1::Event event;
  event.set_event_id("start");
  event.set_user_id("user");
  event.set_thread_id("thread");
  event.set_run_id("run");
  runs::FillStarted(request, &event);
  std::vector<FieldViolation> found;
  ValidateEvent(event, "", &found);
  for (FieldViolation& fault : found) {
    constexpr std::string_view kPayload = "agent_started.";
    if (fault.field.starts_with(kPayload)) fault.field.erase(0, kPayload.size());
    faults->push_back(std::move(fault));
  }
}

absl::Status Check(const v1::StartRunRequest& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request)
      .Id("request_id", request.request_id())
      .User("user_id", request.user_id())
      .Id("thread_id", request.thread_id())
      .OptionalId("run_id", request.run_id())
      .Duration("ready_timeout", request.ready_timeout(), kMaxReady)
      .Duration("lease", request.lease(), kMaxLease);
  if (!v1::Readiness_IsValid(request.min_readiness()))
    fields.Fault("min_readiness", "no such value");
  if (!v1::IfNotReady_IsValid(request.if_not_ready()))
    fields.Fault("if_not_ready", "no such value");
  if (!v1::IfExists_IsValid(request.if_exists())) fields.Fault("if_exists", "no such value");
  if (request.has_lease() && request.lease().seconds() == 0) fields.Fault("lease", "at least 1 s");
  CheckStarted(request, fields.faults());
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

template <class Request>
Fields NamesRun(const Request& request) {
  Fields fields;
  fields.Known(request)
      .User("user_id", request.user_id())
      .Id("thread_id", request.thread_id())
      .Id("run_id", request.run_id());
  return fields;
}

absl::Status Check(const v1::GetRunRequest& request, const ErrorContext& context) {
  const Fields fields = NamesRun(request);
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

absl::Status Check(const v1::RenewRunRequest& request, const ErrorContext& context) {
  Fields fields = NamesRun(request);
  fields.MaxBytes("producer_token", request.producer_token(), kMaxTokenBytes);
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

// The run of `state`, if it is there and the caller's.
absl::Status CheckFound(const log::ThreadState& state, const UserId& user,
                        const ErrorContext& context) {
  if (!state.owner.empty() && state.owner != user) {
    return MakeError(Reason::kThreadOwnership, "the thread belongs to another user", context);
  }
  if (state.runs.empty())
    return MakeError(Reason::kNotFound, "the thread keeps no such run", context);
  return absl::OkStatus();
}

v1::RunState StateOf(const log::RunRecord& run) {
  if (run.end != Offset{})
    return run.outcome == runs::kOutcomeError ? v1::RUN_STATE_FAILED : v1::RUN_STATE_COMPLETED;
  return run.suspended ? v1::RUN_STATE_SUSPENDED : v1::RUN_STATE_OPEN;
}

void FillRun(const log::ThreadState& state, const log::RunRecord& record, v1::Run* run) {
  const auto position = [&state](Offset offset, v1::Position* at) {
    at->set_epoch(delivery::EpochAt(state, offset).str());
    at->set_offset(offset.value());
  };
  run->set_run_id(record.run_id.str());
  run->set_thread_id(state.thread.str());
  run->set_user_id(state.owner.str());
  run->set_agent_name(record.agent_name);
  run->set_parent_run_id(record.parent.str());
  run->set_state(StateOf(record));
  if (run->state() == v1::RUN_STATE_COMPLETED)
    run->set_outcome(static_cast<v1::RunOutcome>(record.outcome));
  position(record.start, run->mutable_start());
  position(record.last, run->mutable_last());
  *run->mutable_last_event_at() = ToTimestamp(record.last_at);
  if (record.suspended && record.suspended_until != log::WallTime{}) {
    *run->mutable_suspended_until() = ToTimestamp(record.suspended_until);
  }
  for (const log::OpenPart& part : record.open) {
    const bool tool = part.kind == log::OpenPart::Kind::kTool;
    *(tool ? run->add_open_tool_calls() : run->add_open_steps()) = part.name;
  }
}

// Says what the request leaves to its defaults.
v1::StartRunRequest Complete(v1::StartRunRequest request) {
  if (request.min_readiness() == v1::READINESS_UNSPECIFIED) {
    request.set_min_readiness(v1::READINESS_NONE);
  }
  if (!request.has_ready_timeout()) *request.mutable_ready_timeout() = ToDuration(kDefaultReady);
  if (request.if_not_ready() == v1::IF_NOT_READY_UNSPECIFIED) {
    request.set_if_not_ready(v1::IF_NOT_READY_START);
  }
  if (request.if_exists() == v1::IF_EXISTS_UNSPECIFIED) request.set_if_exists(v1::IF_EXISTS_FAIL);
  return request;
}

}  // namespace

grpc::ServerUnaryReactor* StartRun(Core& core, grpc::CallbackServerContext* context,
                                   const v1::StartRunRequest* request,
                                   v1::StartRunResponse* response) {
  CallFacts facts(*context, "StartRun");
  auto call = AsyncCall::Start(
      core, facts.Context(request->user_id(), request->thread_id(), request->run_id()), *request,
      Check);
  if (!call->open()) return call->reactor();
  runs::StartRunCall start{.request = Complete(*request),
                           .trace = std::move(facts.trace),
                           .context = call->context(),
                           .may_start = [call] { return call->BeginWriting(); }};
  call->Hold(runs::StartRun(
      {.log = core.log, .delivery = core.delivery, .intake = &core.intake, .gate = &core.gate},
      std::move(start), [call, response](absl::StatusOr<v1::StartRunResponse> started) {
        if (!call->Claim()) return;
        if (!started.ok()) return call->FailClaimed(started.status());
        *response = *std::move(started);
        call->Succeed();
      }));
  return call->reactor();
}

grpc::ServerUnaryReactor* GetRun(Core& core, grpc::CallbackServerContext* context,
                                 const v1::GetRunRequest* request, v1::GetRunResponse* response) {
  const CallFacts facts(*context, "GetRun");
  auto call = AsyncCall::Start(
      core, facts.Context(request->user_id(), request->thread_id(), request->run_id()), *request,
      Check);
  if (!call->open()) return call->reactor();
  core.log->FindRun(
      ThreadId(request->thread_id()), RunId(request->run_id()),
      [call, response, user = UserId(request->user_id())](absl::StatusOr<log::ThreadState> state) {
        if (!call->Claim()) return;
        if (!state.ok()) return call->FailClaimed(state.status());
        if (absl::Status found = CheckFound(*state, user, call->context()); !found.ok()) {
          return call->FailClaimed(found);
        }
        FillRun(*state, state->runs.front(), response->mutable_run());
        call->Succeed();
      });
  return call->reactor();
}

grpc::ServerUnaryReactor* RenewRun(Core& core, grpc::CallbackServerContext* context,
                                   const v1::RenewRunRequest* request,
                                   v1::RenewRunResponse* response) {
  const CallFacts facts(*context, "RenewRun");
  auto call = AsyncCall::Start(
      core, facts.Context(request->user_id(), request->thread_id(), request->run_id()), *request,
      Check);
  if (!call->open()) return call->reactor();
  const log::Digest fence = request->producer_token().empty()
                                ? log::Digest{}
                                : log::Digest::Of(request->producer_token());
  core.log->FindRun(ThreadId(request->thread_id()), RunId(request->run_id()),
                    [&core, call, response, user = UserId(request->user_id()),
                     fence](absl::StatusOr<log::ThreadState> state) {
                      if (!call->Claim()) return;
                      if (!state.ok()) return call->FailClaimed(state.status());
                      if (absl::Status found = CheckFound(*state, user, call->context());
                          !found.ok()) {
                        return call->FailClaimed(found);
                      }
                      const log::RunRecord& run = state->runs.front();
                      const auto fenced = [&](std::string_view why) {
                        call->FailClaimed(MakeError(Reason::kRunFenced, why, call->context()));
                      };
                      if (run.end != Offset{}) return fenced("the run has ended");
                      if (!(fence == log::Digest{}) && !(run.fence == fence)) {
                        return fenced("the producer_token is not that of the producer of this run");
                      }
                      const auto lease = core.supervisor->Renew(state->thread, run);
                      if (!lease) return fenced("the run's lease is over: it is being ended");
                      if (lease->count() > 0) *response->mutable_lease() = ToDuration(*lease);
                      call->Succeed();
                    });
  return call->reactor();
}

}  // namespace clarion::front
