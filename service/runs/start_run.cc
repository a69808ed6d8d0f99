#include "service/runs/start_run.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "proto/base/mutex.h"
#include "service/delivery/resume.h"
#include "service/runs/run_protocol.h"

namespace clarion::runs {
namespace {

using Done = std::function<void(absl::StatusOr<v1::StartRunResponse>)>;

// How long the gateways may take to bind the user's open connections; nobody waits for that.
constexpr std::chrono::seconds kBindTimeout{5};

// What the request says to start, without how: the same for a repetition that, say, waits longer.
log::Digest RequestDigest(v1::StartRunRequest request) {
  request.clear_min_readiness();
  request.clear_ready_timeout();
  request.clear_if_not_ready();
  request.clear_if_exists();
  request.clear_trace_context();
  return log::Digest::Of(request.SerializeAsString());
}

std::chrono::nanoseconds DurationOf(const google::protobuf::Duration& duration) {
  return std::chrono::seconds(duration.seconds()) + std::chrono::nanoseconds(duration.nanos());
}

v1::Event StartedEvent(const v1::StartRunRequest& request, const RunId& run) {
  v1::Event event;
  event.set_event_id(StartEventId(request.request_id()).str());
  event.set_user_id(request.user_id());
  event.set_thread_id(request.thread_id());
  event.set_run_id(run.str());
  FillStarted(request, &event);
  return event;
}

// One call under way. Its steps follow one another through callbacks of log and delivery, each of
// which holds a reference; after Cancel() no further step begins.
class Operation : public std::enable_shared_from_this<Operation> {
 public:
  Operation(const StartRunSteps& steps, StartRunCall call, Done done)
      : steps_(steps),
        pass_(*steps.gate),
        call_(std::move(call)),
        user_(call_.request.user_id()),
        thread_(call_.request.thread_id()),
        run_(call_.request.run_id().empty() ? MakeRunId(call_.request.request_id())
                                            : RunId(call_.request.run_id())),
        done_(std::move(done)) {
    call_.context.run_id = run_.str();
    facts_.request = RequestDigest(call_.request);
    facts_.lease =
        std::chrono::duration_cast<std::chrono::milliseconds>(DurationOf(call_.request.lease()));
  }

  void Begin() {
    steps_.log->FindRun(thread_, run_, [self = shared_from_this()](auto state) {
      if (!self->cancelled()) self->OnState(std::move(state));
    });
  }

  void Cancel() {
    Done dropped;
    std::unique_ptr<delivery::Cancellation> wait;
    MutexLock lock(mutex_);
    cancelled_ = true;
    dropped.swap(done_);
    wait.swap(wait_);
    // Both are destroyed after the lock is released: they were declared before it.
  }

 private:
  // Owner and repetition. A run that exists is not waited for: the append will say what it is.
  void OnState(absl::StatusOr<log::ThreadState> state) {
    if (!state.ok()) return Answer(state.status());
    if (!state->owner.empty() && state->owner != user_) {
      return Answer(RefusalOf(log::AppendOutcome::kNotOwner, call_.context));
    }
    if (!state->runs.empty()) return Append(v1::READINESS_NONE);
    if (!state->owner.empty()) return Bind();
    steps_.log->Assign(thread_, user_, [self = shared_from_this()](absl::StatusOr<bool> assigned) {
      if (self->cancelled()) return;
      if (!assigned.ok()) return self->Answer(assigned.status());
      self->Bind();
    });
  }

  void Bind() {
    steps_.delivery->BindThread(user_, thread_, kBindTimeout, [](const auto&) {});
    if (call_.request.min_readiness() == v1::READINESS_NONE) {
      return Append(steps_.delivery->Subscriptions(thread_) > 0 ? v1::READINESS_SUBSCRIBED
                                                                : v1::READINESS_NONE);
    }
    Hold(steps_.delivery->AwaitReady(
        user_, thread_, call_.request.min_readiness(), DurationOf(call_.request.ready_timeout()),
        [self = shared_from_this()](absl::StatusOr<delivery::ReadyState> state) {
          if (self->cancelled()) return;
          // The service stops: not to wait is not to start.
          if (!state.ok()) return self->Answer(state.status());
          self->OnWaited(*state);
        }));
  }

  void OnWaited(const delivery::ReadyState& state) {
    if (state.readiness < call_.request.min_readiness() &&
        call_.request.if_not_ready() == v1::IF_NOT_READY_FAIL) {
      return Answer(NotReady(state, !steps_.delivery->Gateways().empty(), call_.context));
    }
    Append(std::max(state.readiness, v1::READINESS_NONE));
  }

  void Append(v1::Readiness readiness) {
    facts_.readiness = readiness;
    facts_.producer_token = RandomHex();
    v1::Event event = StartedEvent(call_.request, run_);
    auto item = steps_.intake->MakeItem(&event, call_.trace);
    if (!item.ok()) return Answer(item.status());
    if (!call_.may_start()) return;
    item->run_data = EncodeRunFacts(facts_);
    item->fence = log::Digest::Of(facts_.producer_token);
    log::AppendRequest append;
    append.thread = thread_;
    append.owner = user_;
    append.items.push_back(*std::move(item));
    steps_.log->Append(std::move(append), [self = shared_from_this()](auto result) {
      if (!result.ok()) return self->Answer(result.status());
      self->OnAppended(*result);
    });
  }

  void OnAppended(const log::AppendResult& result) {
    const log::AppendedItem& item = result.items.front();
    const auto existing = item.run ? DecodeRunFacts(item.run->data) : std::nullopt;
    switch (item.outcome) {
      case log::AppendOutcome::kAppended:
        return Answer(Response(facts_, item, result));
      case log::AppendOutcome::kDuplicate:
        if (!existing || !(existing->request == facts_.request)) return Answer(OtherRequest());
        return Answer(Response(*existing, item, result));
      case log::AppendOutcome::kIdConflict:
        return Answer(OtherRequest());
      case log::AppendOutcome::kRunExists:
        return OnRunExists(item, existing.value_or(RunFacts{}));
      default:
        return Answer(RefusalOf(item, call_.context));
    }
  }

  void OnRunExists(const log::AppendedItem& item, const RunFacts& facts) {
    const v1::IfExists if_exists = call_.request.if_exists();
    if (if_exists == v1::IF_EXISTS_TAKE_OVER && item.run) return TakeOver(*item.run, facts);
    if (if_exists != v1::IF_EXISTS_RETURN || !item.run) {
      return Answer(MakeError(Reason::kRunProtocol,
                              "the thread has a run of this id that another request started",
                              call_.context));
    }
    AnswerExisting(item.run->start, facts.readiness, {});
  }

  // The repetition of what took it over gets the first answer.
  void TakeOver(const log::RunRecord& run, const RunFacts& former) {
    if (former.request == facts_.request)
      return AnswerExisting(run.start, former.readiness, former.producer_token);
    if (cancelled()) return;
    steps_.log->TakeOver(
        thread_, user_, {run_, log::Digest::Of(facts_.producer_token), EncodeRunFacts(facts_)},
        [self = shared_from_this()](const absl::StatusOr<log::RunRecord>& taken) {
          if (!taken.ok()) return self->Answer(taken.status());
          self->AnswerExisting(taken->start, self->facts_.readiness, self->facts_.producer_token);
        });
  }

  void AnswerExisting(Offset start, v1::Readiness readiness, std::string token) {
    if (cancelled()) return;
    steps_.log->GetState(thread_,
                         [self = shared_from_this(), start, readiness,
                          token = std::move(token)](const absl::StatusOr<log::ThreadState>& state) {
                           if (!state.ok()) return self->Answer(state.status());
                           v1::StartRunResponse response = self->Existing(start, readiness, *state);
                           response.set_producer_token(token);
                           self->Answer(std::move(response));
                         });
  }

  v1::StartRunResponse Response(const RunFacts& facts, const log::AppendedItem& item,
                                const log::AppendResult& result) const {
    v1::StartRunResponse response;
    response.set_run_id(run_.str());
    response.set_readiness(facts.readiness);
    response.set_producer_token(facts.producer_token);
    *response.mutable_started() =
        steps_.intake->Accepted(item, result, false, steps_.intake->Subscriptions(thread_));
    return response;
  }

  // A run that was there, as it is: without its token.
  v1::StartRunResponse Existing(Offset start, v1::Readiness readiness,
                                const log::ThreadState& state) const {
    v1::StartRunResponse response;
    response.set_run_id(run_.str());
    response.set_readiness(readiness);
    response.set_existed(true);
    v1::PublishResponse& started = *response.mutable_started();
    started.set_offset(start.value());
    started.set_duplicate(true);
    started.set_epoch(delivery::EpochAt(state, start).str());
    const uint32_t subscriptions = steps_.intake->Subscriptions(thread_);
    started.set_subscriptions(subscriptions);
    started.set_disposition(subscriptions > 0 ? v1::DISPOSITION_DELIVERING
                                              : v1::DISPOSITION_QUEUED);
    return response;
  }

  absl::Status OtherRequest() const {
    return MakeBadRequest({{"request_id", "it started a run with other fields before"}},
                          call_.context);
  }

  void Answer(absl::StatusOr<v1::StartRunResponse> response) {
    Done done;
    {
      MutexLock lock(mutex_);
      done.swap(done_);
    }
    if (done) done(std::move(response));
  }

  void Hold(std::unique_ptr<delivery::Cancellation> wait) {
    MutexLock lock(mutex_);
    if (!cancelled_) wait_.swap(wait);
    // What is not kept is destroyed after the lock is released, by the caller's full expression.
  }

  bool cancelled() {
    MutexLock lock(mutex_);
    return cancelled_;
  }

  const StartRunSteps steps_;
  const Gate::Pass pass_;
  StartRunCall call_;
  const UserId user_;
  const ThreadId thread_;
  const RunId run_;
  RunFacts facts_;  // one step at a time

  Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  Done done_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<delivery::Cancellation> wait_ ABSL_GUARDED_BY(mutex_);
};

// What the caller holds. The operation may outlive it, without a word.
class Handle : public delivery::Cancellation {
 public:
  explicit Handle(std::shared_ptr<Operation> operation) : operation_(std::move(operation)) {}
  ~Handle() override { operation_->Cancel(); }

 private:
  const std::shared_ptr<Operation> operation_;
};

}  // namespace

std::unique_ptr<delivery::Cancellation> StartRun(const StartRunSteps& steps, StartRunCall call,
                                                 Done done) {
  auto operation = std::make_shared<Operation>(steps, std::move(call), std::move(done));
  operation->Begin();
  return std::make_unique<Handle>(std::move(operation));
}

}  // namespace clarion::runs
