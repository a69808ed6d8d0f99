#include "service/front/ready.h"

#include <chrono>
#include <utility>

#include "service/front/async_call.h"
#include "service/front/request.h"
#include "service/runs/start_run.h"

namespace clarion::front {
namespace {

constexpr std::chrono::seconds kMaxBind{30}, kDefaultBind{5};

absl::Status Check(const v1::AwaitReadyRequest& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request)
      .User("user_id", request.user_id())
      .Id("thread_id", request.thread_id())
      .Duration("timeout", request.timeout(), kMaxReady);
  if (request.min_readiness() != v1::READINESS_SUBSCRIBED &&
      request.min_readiness() != v1::READINESS_VERIFIED) {
    fields.Fault("min_readiness", "required: SUBSCRIBED or VERIFIED");
  }
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

absl::Status Check(const v1::BindThreadRequest& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request)
      .User("user_id", request.user_id())
      .Id("thread_id", request.thread_id())
      .Duration("timeout", request.timeout(), kMaxBind);
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

void Wait(Core& core, const std::shared_ptr<AsyncCall>& call, const UserId& user,
          const ThreadId& thread, v1::Readiness wanted, std::chrono::nanoseconds timeout,
          v1::AwaitReadyResponse* response) {
  call->Hold(core.delivery->AwaitReady(
      user, thread, wanted, timeout,
      [&core, call, wanted, response](absl::StatusOr<delivery::ReadyState> state) {
        if (!call->Claim()) return;
        if (!state.ok()) return call->FailClaimed(state.status());
        if (state->readiness < wanted) {
          return call->FailClaimed(
              runs::NotReady(*state, !core.delivery->Gateways().empty(), call->context()));
        }
        response->set_readiness(state->readiness);
        response->set_subscriptions(state->subscriptions);
        for (v1::ReadinessStep& step : state->steps) *response->add_steps() = std::move(step);
        call->Succeed();
      }));
}

void Bind(Core& core, const std::shared_ptr<AsyncCall>& call, const UserId& user,
          const ThreadId& thread, std::chrono::nanoseconds timeout,
          v1::BindThreadResponse* response) {
  core.delivery->BindThread(user, thread, timeout,
                            [call, response](std::vector<v1::BoundConnection> connections) {
                              if (!call->Claim()) return;
                              for (v1::BoundConnection& connection : connections) {
                                *response->add_connections() = std::move(connection);
                              }
                              call->Succeed();
                            });
}

}  // namespace

grpc::ServerUnaryReactor* AwaitReady(Core& core, grpc::CallbackServerContext* context,
                                     const v1::AwaitReadyRequest* request,
                                     v1::AwaitReadyResponse* response) {
  auto call = AsyncCall::Start(
      core, CallFacts(*context, "AwaitReady").Context(request->user_id(), request->thread_id()),
      *request, Check);
  if (!call->open()) return call->reactor();
  const auto timeout = request->has_timeout() ? ToNanoseconds(request->timeout()) : kDefaultReady;
  UserId user(request->user_id());
  ThreadId thread(request->thread_id());
  core.log->GetState(thread, [&core, call, user, thread, wanted = request->min_readiness(), timeout,
                              response](absl::StatusOr<log::ThreadState> state) {
    if (!call->open()) return;
    if (!state.ok()) return call->Fail(state.status());
    if (state->deleted) {
      return call->Fail(runs::RefusalOf(log::AppendOutcome::kDeleted, call->context()));
    }
    // A thread that is nobody's may become the user's while the call waits.
    if (!state->owner.empty() && state->owner != user) {
      return call->Fail(runs::RefusalOf(log::AppendOutcome::kNotOwner, call->context()));
    }
    Wait(core, call, user, thread, wanted, timeout, response);
  });
  return call->reactor();
}

grpc::ServerUnaryReactor* BindThread(Core& core, grpc::CallbackServerContext* context,
                                     const v1::BindThreadRequest* request,
                                     v1::BindThreadResponse* response) {
  auto call = AsyncCall::Start(
      core, CallFacts(*context, "BindThread").Context(request->user_id(), request->thread_id()),
      *request, Check);
  if (!call->open()) return call->reactor();
  const auto timeout = request->has_timeout() ? ToNanoseconds(request->timeout()) : kDefaultBind;
  UserId user(request->user_id());
  ThreadId thread(request->thread_id());
  core.log->Assign(thread, user,
                   [&core, call, user, thread, timeout, response](absl::StatusOr<bool> assigned) {
                     if (!call->open()) return;
                     if (!assigned.ok()) return call->Fail(assigned.status());
                     Bind(core, call, user, thread, timeout, response);
                   });
  return call->reactor();
}

}  // namespace clarion::front
