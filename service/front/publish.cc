#include "service/front/publish.h"

#include <utility>

#include "proto/contract/event_json.h"
#include "service/front/request.h"

namespace clarion::front {
namespace {

constexpr size_t kMaxTokenBytes = 128;

absl::Status Check(const v1::PublishRequest& request, const CallFacts& facts) {
  Fields fields;
  fields.KnownAlone(request)
      .NotServed("wait_for", request.wait_for() != v1::WAIT_FOR_UNSPECIFIED)
      .NotServed("timeout", request.has_timeout())
      .NotServed("fail_unless_reached", request.fail_unless_reached())
      .MaxBytes("producer_token", request.producer_token(), kMaxTokenBytes);
  if (request.event().has_agent_started() && !request.producer_token().empty()) {
    fields.Fault("producer_token", "a run that is started by publishing has none");
  }
  if (request.has_event()) {
    ValidateEvent(request.event(), "event.", fields.faults());
  } else {
    fields.Fault("event", "required");
  }
  return fields.ok() ? absl::OkStatus() : fields.Refusal(ContextOf(request, facts));
}

// gRPC made the request for this call alone and reads it no more; completing the event where it is
// saves a copy of it.
v1::PublishRequest* Own(const v1::PublishRequest* request) {
  return const_cast<v1::PublishRequest*>(request);
}

}  // namespace

ErrorContext ContextOf(const v1::PublishRequest& request, const CallFacts& facts) {
  const v1::Event& event = request.event();
  return facts.Context(event.user_id(), event.thread_id(), event.run_id());
}

absl::StatusOr<log::AppendItem> Prepare(const Core& core, v1::PublishRequest* request,
                                        const CallFacts& facts) {
  if (absl::Status status = Check(*request, facts); !status.ok()) return status;
  auto item = core.intake.MakeItem(request->mutable_event(), facts.trace);
  if (item.ok() && !request->producer_token().empty()) {
    item->fence = log::Digest::Of(request->producer_token());
  }
  return item;
}

grpc::ServerUnaryReactor* Publish(Core& core, grpc::CallbackServerContext* context,
                                  const v1::PublishRequest* request,
                                  v1::PublishResponse* response) {
  // Request, response and reactor live until Finish, which is called once, here or by the append; a
  // client that cancels meanwhile changes nothing: its event is on its way.
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  CallFacts facts(*context, "Publish");
  const auto fail = [&](const absl::Status& status) {
    reactor->Finish(core.Fail(status, ContextOf(*request, facts)));
    return reactor;
  };
  clarion::Gate::Pass unanswered(core.unanswered);
  if (absl::Status status = core.Serving(); !status.ok()) return fail(status);
  auto item = Prepare(core, Own(request), facts);
  if (!item.ok()) return fail(item.status());

  log::AppendRequest append;
  append.thread = ThreadId(request->event().thread_id());
  append.owner = UserId(request->event().user_id());
  const bool critical = item->critical;
  append.items.push_back(*std::move(item));
  core.log->Append(std::move(append),
                   [&core, reactor, request, response, critical, facts = std::move(facts),
                    unanswered = std::move(unanswered)](absl::StatusOr<log::AppendResult> result) {
                     const auto refuse = [&](const absl::Status& status) {
                       reactor->Finish(core.Fail(status, ContextOf(*request, facts)));
                     };
                     if (!result.ok()) return refuse(result.status());
                     const log::AppendedItem& appended = result->items.front();
                     if (!runs::IsAccepted(appended.outcome)) {
                       return refuse(runs::RefusalOf(appended.outcome, {}));
                     }
                     *response = core.intake.Accepted(
                         appended, *result, critical,
                         core.intake.Subscriptions(ThreadId(request->event().thread_id())));
                     reactor->Finish(grpc::Status::OK);
                   });
  return reactor;
}

}  // namespace clarion::front
