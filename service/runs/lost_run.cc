#include "service/runs/lost_run.h"

#include <algorithm>
#include <string>
#include <utility>

#include "proto/base/text.h"
#include "service/runs/partial_result.h"
#include "service/runs/run_protocol.h"
#include "service/runs/service_events.h"
#include "service/runs/start_run.h"

namespace clarion::runs {
namespace {

constexpr std::string_view kSuggestion = "Try again; what was produced so far is kept.";

void FillFailure(v1::FailureInfo& failure, std::string message, std::string_view user_message) {
  failure.set_message(std::move(message));
  failure.set_user_message(std::string(user_message));
  failure.set_suggested_action(std::string(kSuggestion));
  failure.set_is_recoverable(false);
  failure.set_retry_possible(true);
}

// One run's end under way. Its steps follow one another through callbacks of the log, each of which
// holds a reference.
class Ending : public std::enable_shared_from_this<Ending> {
 public:
  Ending(const LostRunSteps& steps, log::ThreadState state, WhyEnded why,
         std::chrono::milliseconds silent, std::function<void(absl::StatusOr<bool>)> done)
      : steps_(steps),
        thread_(state.thread),
        owner_(state.owner),
        run_(std::move(state.runs.front())),
        name_{owner_.str(), thread_.str(), run_.run_id.str(), run_.agent_name},
        why_(why),
        silent_(silent),
        done_(std::move(done)),
        result_(steps.max_result_bytes),
        first_(std::max(run_.start, state.floor)) {
    if (run_.start < state.floor) result_.SetTruncated();
  }

  void Begin() {
    if (why_ == WhyEnded::kParentEnded) return Append();
    Read(first_);
  }

 private:
  void Read(Offset from) {
    log::ReadRequest read;
    read.thread = thread_;
    read.from = from;
    read.until = run_.last;
    steps_.log->Read(std::move(read),
                     [self = shared_from_this(), from](absl::StatusOr<log::ReadResult> page) {
                       if (!page.ok()) return self->done_(page.status());
                       self->OnPage(from, *page);
                     });
  }

  void OnPage(Offset from, const log::ReadResult& page) {
    if (page.floor > from) result_.SetTruncated();
    Offset next = from;
    for (const log::EventRun& events : page.runs) {
      for (const EventPtr& stored : events.events) {
        const v1::Event event = EventOf(*stored);
        if (event.run_id() == run_.run_id.str()) result_.Add(event);
      }
      next = events.last().next();
    }
    if (next == from || next > run_.last) return Append();
    Read(next);
  }

  void Append() {
    log::AppendRequest request;
    request.thread = thread_;
    request.owner = owner_;
    request.unless_moved = log::RunMark{run_.run_id, run_.fence, run_.last};
    for (v1::Event& event : Events()) {
      auto item = steps_.intake->MakeItem(&event, {});
      if (!item.ok()) return done_(item.status());
      // Nobody has the token of this one.
      if (item->run_step == log::RunStep::kStop) item->next_fence = log::Digest::Of(RandomHex());
      request.items.push_back(*std::move(item));
    }
    steps_.log->Append(std::move(request),
                       [self = shared_from_this()](absl::StatusOr<log::AppendResult> result) {
                         if (!result.ok()) return self->done_(result.status());
                         self->OnAppended(*result);
                       });
  }

  void OnAppended(const log::AppendResult& result) {
    for (const log::AppendedItem& item : result.items) {
      switch (item.outcome) {
        case log::AppendOutcome::kAppended:
        case log::AppendOutcome::kDuplicate:
        case log::AppendOutcome::kIdConflict:  // ended before with another result: as good
        case log::AppendOutcome::kDeleted:
          break;
        case log::AppendOutcome::kRunMoved:
          return done_(false);
        default:
          return done_(RefusalOf(item, {.user_id = owner_.str(),
                                        .thread_id = thread_.str(),
                                        .run_id = run_.run_id.str(),
                                        .operation = "EndRun"}));
      }
    }
    done_(true);
  }

  std::vector<v1::Event> Events() {
    if (why_ == WhyEnded::kParentEnded) return {Cancelled()};
    return {Preserved(), Lost(), CleanedUp()};
  }

  v1::Event Cancelled() const {
    v1::Event event = ServiceEvent(name_, {"parent ended"});
    event.mutable_agent_completed()->set_outcome(v1::RUN_OUTCOME_CANCELLED);
    return event;
  }

  v1::Event Preserved() {
    v1::Event event = ServiceEvent(name_, {"lost", "result"});
    v1::PartialResultPreserved& preserved = *event.mutable_partial_result_preserved();
    preserved.set_result(result_.Json());
    preserved.set_from_offset(first_.value());
    preserved.set_to_offset(std::max(run_.last, first_).value());
    FillFailure(*preserved.mutable_failure(),
                result_.truncated() ? "what the lost run had produced, cut"
                                    : "what the lost run had produced",
                result_.empty() ? "The agent had not produced anything yet."
                                : "What the agent had produced is kept.");
    return event;
  }

  v1::Event Lost() const {
    v1::Event event = ServiceEvent(name_, {"lost", "error"});
    v1::AgentError& error = *event.mutable_agent_error();
    error.set_error_type("agent_lost");
    error.set_synthetic(true);
    FillFailure(*error.mutable_failure(),
                Concat("nothing was heard of the run's producer for ", silent_.count(),
                       " ms, its lease is over"),
                "The agent stopped answering, so this was ended.");
    return event;
  }

  v1::Event CleanedUp() const {
    v1::Event event = ServiceEvent(name_, {"lost", "cleanup"});
    v1::ResourceCleanup& cleanup = *event.mutable_resource_cleanup();
    cleanup.add_resources("run lease");
    for (const log::OpenPart& part : run_.open) {
      cleanup.add_resources(part.kind == log::OpenPart::Kind::kTool
                                ? Concat("tool call ", part.tool_name)
                                : Concat("step ", part.name));
    }
    cleanup.set_status("complete");
    FillFailure(*cleanup.mutable_failure(),
                "the run's lease and what was open in the run are closed",
                "What the agent had open was closed.");
    return event;
  }

  const LostRunSteps steps_;
  const ThreadId thread_;
  const UserId owner_;
  const log::RunRecord run_;
  const RunName name_;
  const WhyEnded why_;
  const std::chrono::milliseconds silent_;
  const std::function<void(absl::StatusOr<bool>)> done_;
  PartialResult result_;  // one step at a time
  const Offset first_;
};

}  // namespace

void EndRun(const LostRunSteps& steps, log::ThreadState state, WhyEnded why,
            std::chrono::milliseconds silent, std::function<void(absl::StatusOr<bool>)> done) {
  std::make_shared<Ending>(steps, std::move(state), why, silent, std::move(done))->Begin();
}

}  // namespace clarion::runs
