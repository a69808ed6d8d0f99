#include "service/front/publish.h"

#include <chrono>
#include <memory>
#include <utility>

#include "proto/base/text.h"
#include "proto/contract/event_json.h"
#include "service/front/async_call.h"
#include "service/front/request.h"
#include "service/runs/run_protocol.h"

namespace clarion::front {
namespace {

constexpr size_t kMaxTokenBytes = 128;
constexpr std::chrono::seconds kMaxWait{60}, kDefaultWait{10};

void CheckWait(const v1::PublishRequest& request, Waiting waiting, Fields& fields) {
  const bool waits = request.wait_for() != v1::WAIT_FOR_UNSPECIFIED;
  if (!v1::WaitFor_IsValid(request.wait_for())) fields.Fault("wait_for", "no such value");
  if (waits && waiting == Waiting::kRefused) {
    fields.Fault("wait_for", "only with Publish: results of a stream keep their order");
  }
  fields.Duration("timeout", request.timeout(), kMaxWait);
  if (!waits && request.has_timeout()) fields.Fault("timeout", "only with wait_for");
  if (!waits && request.fail_unless_reached()) {
    fields.Fault("fail_unless_reached", "only with wait_for");
  }
}

absl::Status Check(const v1::PublishRequest& request, Waiting waiting, const CallFacts& facts) {
  Fields fields;
  CheckWait(request, waiting, fields);
  fields.KnownAlone(request).MaxBytes("producer_token", request.producer_token(), kMaxTokenBytes);
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

log::AppendRequest AppendOf(const Core& core, const v1::PublishRequest& request,
                            log::AppendItem item) {
  log::AppendRequest append;
  append.thread = ThreadId(request.event().thread_id());
  append.owner = UserId(request.event().user_id());
  append.items.push_back(std::move(item));
  runs::PutUnderRules(core.options.run_rules, core.intake, append);
  return append;
}

// A Publish that waits for what becomes of its event. Shared by the callbacks of log and delivery.
class WaitingPublish : public std::enable_shared_from_this<WaitingPublish> {
 public:
  WaitingPublish(Core& core, std::shared_ptr<AsyncCall> call, const v1::PublishRequest& request,
                 v1::PublishResponse* response)
      : core_(core),
        call_(std::move(call)),
        response_(response),
        thread_(request.event().thread_id()),
        wanted_(request.wait_for()),
        timeout_(request.has_timeout() ? ToNanoseconds(request.timeout()) : kDefaultWait),
        must_be_reached_(request.fail_unless_reached()) {}

  void Append(const v1::PublishRequest& request, log::AppendItem item) {
    if (!call_->BeginWriting()) return;
    const bool critical = item.critical;
    core_.log->Append(AppendOf(core_, request, std::move(item)),
                      [self = shared_from_this(), critical](auto result) {
                        if (!result.ok()) return self->call_->Fail(result.status());
                        self->OnAppended(*result, critical);
                      });
  }

 private:
  void OnAppended(const log::AppendResult& result, bool critical) {
    const log::AppendedItem& appended = result.items.front();
    if (!runs::IsAccepted(appended.outcome)) {
      return call_->Fail(runs::RefusalOf(appended, call_->context()));
    }
    accepted_ =
        core_.intake.Accepted(appended, result, critical, core_.intake.Subscriptions(thread_));
    const bool serving = call_->EndWriting(
        [self = shared_from_this()] { self->AnswerClaimed(v1::WAIT_OUTCOME_TIMED_OUT); });
    if (!serving) return Answer(v1::WAIT_OUTCOME_TIMED_OUT);
    call_->Hold(core_.delivery->AwaitReceipt(
        thread_, {appended.epoch, appended.offset}, wanted_, timeout_,
        [self = shared_from_this()](v1::WaitOutcome outcome) { self->Answer(outcome); }));
  }

  void Answer(v1::WaitOutcome outcome) {
    if (call_->Claim()) AnswerClaimed(outcome);
  }

  void AnswerClaimed(v1::WaitOutcome outcome) {
    accepted_.set_wait_outcome(outcome);
    if (must_be_reached_ && outcome != v1::WAIT_OUTCOME_REACHED) {
      const absl::Status failed =
          MakeError(Reason::kSendFailed,
                    Concat("the event is accepted, but did not come as far as wait_for in time: ",
                           v1::WaitOutcome_Name(outcome)),
                    call_->context());
      return call_->FailClaimed(WithDetail(failed, accepted_));
    }
    *response_ = std::move(accepted_);
    call_->Succeed();
  }

  Core& core_;
  const std::shared_ptr<AsyncCall> call_;
  v1::PublishResponse* const response_;  // gRPC's: only for whoever has claimed the call
  const ThreadId thread_;
  const v1::WaitFor wanted_;
  const std::chrono::nanoseconds timeout_;
  const bool must_be_reached_;
  v1::PublishResponse accepted_;  // of whoever has claimed the call, once it waits
};

grpc::ServerUnaryReactor* PublishAndWait(Core& core, grpc::CallbackServerContext* context,
                                         const v1::PublishRequest* request,
                                         v1::PublishResponse* response) {
  const CallFacts facts(*context, "Publish");
  auto call = AsyncCall::Start(core, ContextOf(*request, facts));
  if (!call->open()) return call->reactor();
  auto item = Prepare(core, Own(request), Waiting::kServed, facts);
  if (!item.ok()) {
    call->Fail(item.status());
    return call->reactor();
  }
  std::make_shared<WaitingPublish>(core, call, *request, response)
      ->Append(*request, *std::move(item));
  return call->reactor();
}

}  // namespace

ErrorContext ContextOf(const v1::PublishRequest& request, const CallFacts& facts) {
  const v1::Event& event = request.event();
  return facts.Context(event.user_id(), event.thread_id(), event.run_id());
}

absl::StatusOr<log::AppendItem> Prepare(const Core& core, v1::PublishRequest* request,
                                        Waiting waiting, const CallFacts& facts) {
  if (absl::Status status = Check(*request, waiting, facts); !status.ok()) return status;
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
  if (request->wait_for() != v1::WAIT_FOR_UNSPECIFIED) {
    return PublishAndWait(core, context, request, response);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  CallFacts facts(*context, "Publish");
  const auto fail = [&](const absl::Status& status) {
    reactor->Finish(core.Fail(status, ContextOf(*request, facts)));
    return reactor;
  };
  clarion::Gate::Pass unanswered(core.unanswered);
  if (absl::Status status = core.Serving(); !status.ok()) return fail(status);
  auto item = Prepare(core, Own(request), Waiting::kServed, facts);
  if (!item.ok()) return fail(item.status());

  const bool critical = item->critical;
  core.log->Append(AppendOf(core, *request, *std::move(item)),
                   [&core, reactor, request, response, critical, facts = std::move(facts),
                    unanswered = std::move(unanswered)](absl::StatusOr<log::AppendResult> result) {
                     const auto refuse = [&](const absl::Status& status) {
                       reactor->Finish(core.Fail(status, ContextOf(*request, facts)));
                     };
                     if (!result.ok()) return refuse(result.status());
                     const log::AppendedItem& appended = result->items.front();
                     if (!runs::IsAccepted(appended.outcome)) {
                       return refuse(runs::RefusalOf(appended, {}));
                     }
                     *response = core.intake.Accepted(
                         appended, *result, critical,
                         core.intake.Subscriptions(ThreadId(request->event().thread_id())));
                     reactor->Finish(grpc::Status::OK);
                   });
  return reactor;
}

}  // namespace clarion::front
