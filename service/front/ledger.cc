#include "service/front/ledger.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proto/contract/timestamp.h"
#include "service/front/async_call.h"
#include "service/front/request.h"

namespace clarion::front {
namespace {

constexpr size_t kMaxPageToken = 1024;

void Fill(const log::LedgerCounts& counts, v1::LedgerCounts* out) {
  out->set_accepted(counts.accepted);
  out->set_acknowledged(counts.acknowledged);
  out->set_pending(counts.pending());
  out->set_expired(counts.expired);
}

absl::Status Check(const v1::GetLedgerRequest& request, const ErrorContext& context) {
  Fields fields;
  return fields.Known(request).ok() ? absl::OkStatus() : fields.Refusal(context);
}

absl::Status Check(const v1::ListUndeliveredRequest& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request)
      .OptionalUser("user_id", request.user_id())
      .OptionalId("thread_id", request.thread_id())
      .AtMost("page_size", request.page_size(), kMaxPage)
      .MaxBytes("page_token", request.page_token(), kMaxPageToken);
  if (!v1::UndeliveredState_IsValid(request.state())) {
    fields.Fault("state", "this version knows no such state");
  }
  if (!request.thread_id().empty() && !request.page_token().empty()) {
    fields.Fault("page_token", "a thread is one page");
  }
  const bool by_user = !request.user_id().empty() && request.thread_id().empty();
  if (by_user) fields.OptionalId("page_token", request.page_token());
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

bool Visible(const log::ThreadState& state) {
  return !state.owner.empty() && !IsReservedUser(state.owner.str());
}

v1::UndeliveredRange* AddRange(const log::ThreadState& state, v1::UndeliveredState fate,
                               v1::ListUndeliveredResponse* response) {
  v1::UndeliveredRange* range = response->add_ranges();
  range->set_thread_id(state.thread.str());
  range->set_user_id(state.owner.str());
  range->set_state(fate);
  return range;
}

void AddExpired(const log::ThreadState& state, v1::ListUndeliveredResponse* response) {
  for (const log::ExpiredRange& expired : state.expired) {
    v1::UndeliveredRange* range = AddRange(state, v1::UNDELIVERED_STATE_EXPIRED, response);
    range->set_epoch(expired.epoch.str());
    range->set_from_offset(expired.from.value());
    range->set_to_offset(expired.to.value());
    range->set_count(expired.count);
    range->set_reason(expired.reason == log::FloorReason::kDeleted ? v1::MISSED_REASON_DELETED
                                                                   : v1::MISSED_REASON_EXPIRED);
    *range->mutable_expired_at() = ToTimestamp(expired.at);
  }
}

// The first of them, which the caller completes; null: nothing is pending.
v1::UndeliveredRange* AddPending(const log::ThreadState& state,
                                 v1::ListUndeliveredResponse* response) {
  const int before = response->ranges_size();
  Offset from(state.last.value() - state.pending() + 1);
  for (size_t i = 0; i < state.epochs.size() && from <= state.last; ++i) {
    const bool newest = i + 1 == state.epochs.size();
    const Offset to = newest ? state.last : state.epochs[i + 1].first.prev();
    if (to < from) continue;
    v1::UndeliveredRange* range = AddRange(state, v1::UNDELIVERED_STATE_PENDING, response);
    range->set_epoch(state.epochs[i].epoch.str());
    range->set_from_offset(from.value());
    range->set_to_offset(to.value());
    range->set_count(to.value() + 1 - from.value());
    from = to.next();
  }
  return response->ranges_size() == before ? nullptr : response->mutable_ranges(before);
}

// One page: finds its threads, then looks at one after the other. Kept alive by what it waits for.
class UndeliveredPage : public std::enable_shared_from_this<UndeliveredPage> {
 public:
  UndeliveredPage(Core& core, std::shared_ptr<AsyncCall> call,
                  const v1::ListUndeliveredRequest& request, v1::ListUndeliveredResponse* response)
      : core_(core), call_(std::move(call)), request_(request), response_(response) {}

  void Begin() {
    const size_t size = request_.page_size() == 0 ? kDefaultPage : request_.page_size();
    const UserId user(request_.user_id());
    if (!request_.thread_id().empty()) return LookAt(ThreadId(request_.thread_id()));
    if (user.empty()) {
      core_.log->ListThreads(user, request_.page_token(), size,
                             [self = shared_from_this()](absl::StatusOr<log::ThreadPage> page) {
                               if (!page.ok()) return self->call_->Fail(page.status());
                               self->page_.set_next_page_token(page->next_page_token);
                               self->states_ = std::move(page->threads);
                               self->NextState();
                             });
      return;
    }
    // By their ids: a thread that is active between two pages is on one of them all the same.
    core_.log->ListThreadIds(
        user, ThreadId(request_.page_token()), size,
        [self = shared_from_this(), size](absl::StatusOr<std::vector<ThreadId>> ids) {
          if (!ids.ok()) return self->call_->Fail(ids.status());
          if (ids->size() >= size) self->page_.set_next_page_token(ids->back().str());
          self->ids_ = *std::move(ids);
          self->NextId();
        });
  }

 private:
  void LookAt(const ThreadId& thread) {
    core_.log->GetState(thread,
                        [self = shared_from_this()](absl::StatusOr<log::ThreadState> state) {
                          self->OnState(std::move(state));
                        });
  }

  void OnState(absl::StatusOr<log::ThreadState> state) {
    if (!call_->open()) return;
    if (!state.ok()) return call_->Fail(state.status());
    if (!request_.thread_id().empty()) {
      if (!Visible(*state)) {
        return call_->Fail(
            MakeError(Reason::kNotFound, "there is no such thread", call_->context()));
      }
      if (!request_.user_id().empty() && request_.user_id() != state->owner.str()) {
        return call_->Fail(runs::RefusalOf(log::AppendOutcome::kNotOwner, call_->context()));
      }
    }
    states_.push_back(*std::move(state));
    NextState();
  }

  // All states at hand, then the next id.
  void NextState() {
    while (next_state_ < states_.size()) {
      const log::ThreadState& state = states_[next_state_++];
      if (!Visible(state)) continue;
      const v1::UndeliveredState wanted = request_.state();
      if (wanted != v1::UNDELIVERED_STATE_PENDING) AddExpired(state, &page_);
      if (wanted == v1::UNDELIVERED_STATE_EXPIRED) continue;
      v1::UndeliveredRange* oldest = AddPending(state, &page_);
      if (oldest != nullptr) return Date(state.thread, oldest);
    }
    NextId();
  }

  void NextId() {
    if (!call_->open()) return;
    if (next_id_ < ids_.size()) return LookAt(ids_[next_id_++]);
    if (!call_->Claim()) return;
    *response_ = std::move(page_);
    call_->Succeed();
  }

  // When the first event of `range` was accepted. Absent if it went just now.
  void Date(const ThreadId& thread, v1::UndeliveredRange* range) {
    const Offset first(range->from_offset());
    core_.log->Read({.thread = thread, .from = first, .until = first, .max_events = 1},
                    [self = shared_from_this(), range](absl::StatusOr<log::ReadResult> read) {
                      if (!self->call_->open()) return;
                      if (!read.ok()) return self->call_->Fail(read.status());
                      v1::Event event;
                      if (!read->runs.empty() && event.ParseFromString(std::string(
                                                     read->runs.front().events.front()->proto()))) {
                        *range->mutable_oldest_accepted_at() = event.accepted_at();
                      }
                      self->NextState();
                    });
  }

  Core& core_;
  const std::shared_ptr<AsyncCall> call_;
  const v1::ListUndeliveredRequest request_;
  v1::ListUndeliveredResponse* const response_;
  // One step at a time.
  v1::ListUndeliveredResponse page_;
  std::vector<ThreadId> ids_;
  std::vector<log::ThreadState> states_;
  size_t next_id_ = 0;
  size_t next_state_ = 0;
};

}  // namespace

grpc::ServerUnaryReactor* GetLedger(Core& core, grpc::CallbackServerContext* context,
                                    const v1::GetLedgerRequest* request,
                                    v1::GetLedgerResponse* response) {
  auto call = AsyncCall::Start(core, CallFacts(*context, "GetLedger").Context(), *request, Check);
  if (!call->open()) return call->reactor();
  core.log->GetLedger([call, response](absl::StatusOr<log::Ledger> ledger) {
    if (!call->Claim()) return;
    if (!ledger.ok()) return call->FailClaimed(ledger.status());
    Fill(ledger->total, response->mutable_total());
    Fill(ledger->deleted_threads, response->mutable_deleted_threads());
    call->Succeed();
  });
  return call->reactor();
}

grpc::ServerUnaryReactor* ListUndelivered(Core& core, grpc::CallbackServerContext* context,
                                          const v1::ListUndeliveredRequest* request,
                                          v1::ListUndeliveredResponse* response) {
  auto call = AsyncCall::Start(
      core,
      CallFacts(*context, "ListUndelivered").Context(request->user_id(), request->thread_id()),
      *request, Check);
  if (!call->open()) return call->reactor();
  std::make_shared<UndeliveredPage>(core, call, *request, response)->Begin();
  return call->reactor();
}

}  // namespace clarion::front
