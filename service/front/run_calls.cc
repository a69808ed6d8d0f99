#include "service/front/run_calls.h"

#include <string>
#include <utility>
#include <vector>

#include "proto/contract/event_json.h"
#include "service/front/async_call.h"
#include "service/front/request.h"
#include "service/runs/start_run.h"

namespace clarion::front {
namespace {

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
      .NotServed("lease", request.has_lease())
      .NotServed("if_exists", request.if_exists() == v1::IF_EXISTS_TAKE_OVER);
  if (!v1::Readiness_IsValid(request.min_readiness()))
    fields.Fault("min_readiness", "no such value");
  if (!v1::IfNotReady_IsValid(request.if_not_ready()))
    fields.Fault("if_not_ready", "no such value");
  if (!v1::IfExists_IsValid(request.if_exists())) fields.Fault("if_exists", "no such value");
  CheckStarted(request, fields.faults());
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
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

}  // namespace clarion::front
