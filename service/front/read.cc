#include "service/front/read.h"

#include <utility>

#include "proto/contract/timestamp.h"
#include "service/delivery/summaries.h"
#include "service/front/async_call.h"
#include "service/front/page.h"
#include "service/front/request.h"

namespace clarion::front {
namespace {

uint32_t PageSize(uint32_t asked) {
  return asked == 0 ? kDefaultPage : asked;
}

absl::Status Check(const v1::ListThreadsRequest& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request)
      .OptionalUser("user_id", request.user_id())
      .AtMost("page_size", request.page_size(), delivery::kMaxThreadPage)
      .MaxBytes("page_token", request.page_token(), delivery::kMaxThreadPageToken);
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

void CheckPosition(Fields& fields, const std::string& path, const v1::Position& position) {
  if (position.epoch().empty() && position.offset() > 0) {
    fields.Fault(path + ".epoch", "required with an offset");
  }
  fields.OptionalId(path + ".epoch", position.epoch());
}

absl::Status Check(const v1::ListEventsRequest& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request)
      .Id("thread_id", request.thread_id())
      .OptionalUser("user_id", request.user_id())
      .AtMost("page_size", request.page_size(), kMaxPage);
  if (request.has_after()) CheckPosition(fields, "after", request.after());
  if (request.has_before()) {
    CheckPosition(fields, "before", request.before());
    if (request.before().offset() == 0) fields.Fault("before.offset", "at least 1");
  }
  if (request.has_after() && request.has_before()) {
    fields.Fault("before", "only one of after and before");
  }
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

absl::Status Check(const v1::GetEventRequest& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request).Id("thread_id", request.thread_id()).Id("event_id", request.event_id());
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

absl::Status NoThread(const ErrorContext& context) {
  return MakeError(Reason::kNotFound, "there is no such thread", context);
}

void FillEvent(const Core& core, const log::FoundEvent& found, const log::ThreadState& state,
               v1::GetEventResponse* response) {
  response->mutable_event()->ParseFromString(std::string(found.event->proto()));
  response->mutable_event()->set_offset(found.offset.value());
  response->set_epoch(found.epoch.str());
  response->set_acknowledged(found.offset <= state.acknowledged);
  const delivery::Milestones when =
      core.delivery->MilestonesOf(state.thread, {found.epoch, found.offset});
  if (when.first_sent) *response->mutable_first_sent_at() = ToTimestamp(*when.first_sent);
  if (when.acknowledged) *response->mutable_acknowledged_at() = ToTimestamp(*when.acknowledged);
  const auto kept =
      found.critical ? core.options.intake.retention_critical : core.options.retention;
  if (found.committed_at) *response->mutable_committed_at() = ToTimestamp(*found.committed_at);
  *response->mutable_expires_at() = ToTimestamp(found.accepted_at + kept);
}

}  // namespace

grpc::ServerUnaryReactor* ListThreads(Core& core, grpc::CallbackServerContext* context,
                                      const v1::ListThreadsRequest* request,
                                      v1::ListThreadsResponse* response) {
  auto call = AsyncCall::Start(core, CallFacts(*context, "ListThreads").Context(request->user_id()),
                               *request, Check);
  if (!call->open()) return call->reactor();
  core.log->ListThreads(UserId(request->user_id()), request->page_token(),
                        delivery::ThreadPageSize(request->page_size()),
                        [call, response](absl::StatusOr<log::ThreadPage> page) {
                          if (!call->Claim()) return;
                          if (!page.ok()) return call->FailClaimed(page.status());
                          for (const log::ThreadState& state : page->threads) {
                            if (delivery::Visible(state))
                              *response->add_threads() = delivery::SummaryOf(state);
                          }
                          response->set_next_page_token(page->next_page_token);
                          call->Succeed();
                        });
  return call->reactor();
}

grpc::ServerUnaryReactor* ListEvents(Core& core, grpc::CallbackServerContext* context,
                                     const v1::ListEventsRequest* request,
                                     v1::ListEventsResponse* response) {
  auto call = AsyncCall::Start(
      core, CallFacts(*context, "ListEvents").Context(request->user_id(), request->thread_id()),
      *request, Check);
  if (!call->open()) return call->reactor();
  PageQuery query{.thread = ThreadId(request->thread_id()),
                  .events = PageSize(request->page_size())};
  const auto position = [](const v1::Position& from) {
    return Position{Epoch(from.epoch()), Offset(from.offset())};
  };
  if (request->has_after()) query.after = position(request->after());
  if (request->has_before()) query.before = position(request->before());
  core.log->GetState(query.thread, [&core, call, query, user = UserId(request->user_id()),
                                    response](absl::StatusOr<log::ThreadState> state) {
    if (!call->open()) return;
    if (!state.ok()) return call->Fail(state.status());
    if (!delivery::Visible(*state)) return call->Fail(NoThread(call->context()));
    if (!user.empty() && user != state->owner) {
      return call->Fail(runs::RefusalOf(log::AppendOutcome::kNotOwner, call->context()));
    }
    ReadEvents(core.log, query, *state, call->context(),
               [call, response](absl::StatusOr<v1::ListEventsResponse> page) {
                 if (!call->Claim()) return;
                 if (!page.ok()) return call->FailClaimed(page.status());
                 *response = *std::move(page);
                 call->Succeed();
               });
  });
  return call->reactor();
}

grpc::ServerUnaryReactor* GetEvent(Core& core, grpc::CallbackServerContext* context,
                                   const v1::GetEventRequest* request,
                                   v1::GetEventResponse* response) {
  auto call = AsyncCall::Start(
      core, CallFacts(*context, "GetEvent").Context({}, request->thread_id()), *request, Check);
  if (!call->open()) return call->reactor();
  ThreadId thread(request->thread_id());
  core.log->Find(thread, EventId(request->event_id()),
                 [&core, call, thread, response](absl::StatusOr<log::FoundEvent> found) {
                   if (!call->open()) return;
                   if (!found.ok()) return call->Fail(found.status());
                   core.log->GetState(thread, [&core, call, response, found = *std::move(found)](
                                                  absl::StatusOr<log::ThreadState> state) {
                     if (!call->Claim()) return;
                     if (!state.ok()) return call->FailClaimed(state.status());
                     if (!delivery::Visible(*state))
                       return call->FailClaimed(NoThread(call->context()));
                     FillEvent(core, found, *state, response);
                     call->Succeed();
                   });
                 });
  return call->reactor();
}

}  // namespace clarion::front
