#include "service/front/publish_stream.h"

#include <algorithm>
#include <list>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "proto/base/mutex.h"
#include "proto/base/text.h"
#include "proto/contract/event_type.h"
#include "service/front/publish.h"
#include "service/front/request.h"
#include "service/front/stream_threads.h"
#include "service/runs/run_protocol.h"

namespace clarion::front {
namespace {

constexpr int kMaxBatchEvents = 1024;
constexpr size_t kMaxBatchBytes = 1024 * 1024;
constexpr int kMaxResumes = 1024;
// Results that one answer gathers; a batch is never split.
constexpr int kGatherResults = 4096;
// Of the batches whose memory a stream keeps for the next ones, as they were read.
constexpr size_t kSpareBytes = 256 * 1024;

enum class Again { kNo, kYes };

Again AgainAfter(const absl::Status& status) {
  const auto reason = ReasonOf(status);
  return reason && RowOf(*reason).retry == Retry::kLater ? Again::kYes : Again::kNo;
}

void FillRefusal(const absl::Status& status, Again again, v1::Refusal* refusal) {
  refusal->set_code(static_cast<int>(status.code()));
  refusal->set_message(std::string(status.message()));
  if (const auto reason = ReasonOf(status)) refusal->set_reason(std::string(NameOf(*reason)));
  const ErrorContext context = clarion::ContextOf(status);
  const auto say = [refusal](const char* name, const std::string& value) {
    if (!value.empty()) (*refusal->mutable_metadata())[name] = value;
  };
  say("user_id", context.user_id);
  say("thread_id", context.thread_id);
  say("run_id", context.run_id);
  say("operation", context.operation);
  say("trace_id", context.trace_id);
  say("cause", context.cause);
  refusal->set_retryable(again == Again::kYes);
  if (const auto delay = RetryAfterOf(status)) *refusal->mutable_retry_after() = ToDuration(*delay);
  for (const FieldViolation& violation : ViolationsOf(status)) {
    refusal->add_violations(Concat(violation.field, ": ", violation.description));
  }
}

// Behind a refused event: may be sent again, after the refused one.
void FillAborted(const StreamStop& stop, const std::string& thread, v1::Refusal* refusal) {
  refusal->set_code(static_cast<int>(absl::StatusCode::kAborted));
  refusal->set_message(Concat("event ", stop.refused.str(),
                              " of this thread was refused before; say `resumes` for it"));
  refusal->set_reason(std::string(NameOf(stop.reason)));
  (*refusal->mutable_metadata())["thread_id"] = thread;
  (*refusal->mutable_metadata())["operation"] = "PublishStream";
  refusal->set_retryable(true);
}

// One call. gRPC calls it for one read, one write at a time; the log for each append. State is
// under the mutex; what follows from a change is worked out under it (Plan) and done without it
// (CarryOut): a read, a write or the end is begun by whoever set its flag, so never twice.
class Stream final : public PublishStreamReactor,
                     public LastingCall,
                     public std::enable_shared_from_this<Stream> {
 public:
  Stream(Core& core, CallFacts facts) : core_(core), pass_(core.gate), facts_(std::move(facts)) {}

  void Begin() {
    self_ = shared_from_this();
    if (!core_.Serving().ok() || !core_.Add(self_)) return End(NotServing());
    Steps steps;
    {
      MutexLock lock(mutex_);
      steps = Plan({});
    }
    CarryOut(std::move(steps));
  }

  void OnReadDone(bool ok) override {
    std::vector<ThreadId> touched;
    absl::Status fault = ok ? CheckMessage() : absl::OkStatus();
    std::vector<absl::StatusOr<log::AppendItem>> items;
    if (ok && fault.ok()) {
      for (v1::PublishRequest& request : *request().mutable_events()) {
        items.push_back(Prepare(core_, &request, Waiting::kRefused, facts_));
        if (items.back().ok()) continue;
        items.back() = core_.Note(items.back().status(), ContextOf(request, facts_));
      }
    }
    Steps steps;
    {
      MutexLock lock(mutex_);
      reading_ = false;
      if (!ok || !fault.ok()) ended_ = true;
      if (!fault.ok() && status_.ok()) status_ = std::move(fault);
      if (!ended_) touched = Take(std::move(items));
      steps = Plan(touched);
    }
    CarryOut(std::move(steps));
  }

  void OnWriteDone(bool ok) override {
    Steps steps;
    {
      MutexLock lock(mutex_);
      writing_ = false;
      events_ -= static_cast<size_t>(response_.results_size());
      bytes_ -= response_bytes_;
      response_.Clear();
      if (!ok) broken_ = true;
      steps = Plan({});
    }
    CarryOut(std::move(steps));
  }

  // The service stops: what was taken is answered, then the call ends.
  void End(const absl::Status& status) override {
    Steps steps;
    {
      MutexLock lock(mutex_);
      ended_ = true;
      if (status_.ok()) status_ = status;
      unanswered_.emplace(core_.unanswered);
      steps = Plan({});
    }
    CarryOut(std::move(steps));
  }

  // Reads and writes fail from now on, which ends the stream once nothing is under way.
  void OnCancel() override {
    Steps steps;
    {
      MutexLock lock(mutex_);
      ended_ = true;
      broken_ = true;
      steps = Plan({});
    }
    CarryOut(std::move(steps));
  }

  void OnDone() override {
    core_.Remove(this);
    const std::shared_ptr<Stream> last = std::move(self_);
  }

 private:
  struct Steps {
    std::vector<StreamAppend> appends;
    bool read = false;
    bool write = false;
    bool finish = false;
  };

  v1::PublishStreamRequest& request() { return received_.message; }

  // Faults of what was read as such; they end the stream after what came before is answered.
  absl::Status CheckMessage() {
    ++messages_;
    const absl::Status status = received_.status.ok() ? CheckBatch(request()) : received_.status;
    return WithPlace(status, Concat("message ", messages_, " of the stream"));
  }

  absl::Status CheckBatch(const v1::PublishStreamRequest& request) const {
    Fields fields;
    fields.KnownAlone(request);
    if (request.events_size() == 0 && request.resumes_size() == 0)
      fields.Fault("events", "required");
    if (request.events_size() > kMaxBatchEvents) {
      fields.Fault("events", Concat("at most ", kMaxBatchEvents, " in a batch"));
    }
    if (request.resumes_size() > kMaxResumes) {
      fields.Fault("resumes", Concat("at most ", kMaxResumes));
    }
    if (request.ByteSizeLong() > kMaxBatchBytes && request.events_size() > 1) {
      fields.Fault("events", Concat("at most ", kMaxBatchBytes, " bytes in a batch"));
    }
    for (int i = 0; i < request.resumes_size(); ++i) {
      const v1::Resume& resume = request.resumes(i);
      const std::string path = Concat("resumes[", i, "].");
      fields.Known(resume, path)
          .Id(Concat(path, "thread_id"), resume.thread_id())
          .Id(Concat(path, "event_id"), resume.event_id());
    }
    return fields.ok() ? absl::OkStatus() : fields.Refusal(facts_.Context());
  }

  // Takes what was read into a batch, one that was used before if there is any: its messages keep
  // their memory.
  StreamBatch& AddBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (spare_.empty()) {
      batches_.emplace_back();
    } else {
      batches_.splice(batches_.end(), spare_, spare_.begin());
    }
    StreamBatch& batch = batches_.back();
    spare_bytes_ -= batch.bytes;
    batch.request.Swap(&request());
    batch.bytes = batch.request.ByteSizeLong();
    return batch;
  }

  void DropBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    StreamBatch& batch = batches_.front();
    if (spare_bytes_ + batch.bytes > kSpareBytes) {
      batches_.pop_front();
      return;
    }
    spare_bytes_ += batch.bytes;
    batch.request.Clear();
    batch.results.Clear();
    spare_.splice(spare_.end(), batches_, batches_.begin());
  }

  // Puts a batch on its way. Returns its threads.
  std::vector<ThreadId> Take(std::vector<absl::StatusOr<log::AppendItem>> items)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const v1::Resume& resume : request().resumes()) {
      threads_.Resume(ThreadId(resume.thread_id()), EventId(resume.event_id()));
    }
    std::vector<ThreadId> touched;
    if (items.empty()) return touched;
    StreamBatch& batch = AddBatch();
    batch.open = items.size();
    events_ += items.size();
    bytes_ += batch.bytes;
    for (int i = 0; i < batch.request.events_size(); ++i) {
      const v1::Event& event = batch.request.events(i).event();
      absl::StatusOr<log::AppendItem>& item = items[static_cast<size_t>(i)];
      v1::PublishResult* result = batch.results.add_results();
      result->set_event_id(event.event_id());
      result->set_thread_id(event.thread_id());
      StreamTicket ticket{.batch = &batch, .index = i};
      if (!item.ok()) {
        Refuse(ticket, item.status(), Again::kNo);
        continue;
      }
      ticket.critical = item->critical;
      ThreadId thread(event.thread_id());
      const auto stop = threads_.Offer(thread, UserId(event.user_id()), *std::move(item), ticket);
      if (stop) {
        Abort(ticket, *stop);
      } else if (touched.empty() || touched.back() != thread) {
        touched.push_back(std::move(thread));
      }
    }
    return touched;
  }

  // What has become possible. `touched`: threads that may have something to append.
  Steps Plan(const std::vector<ThreadId>& touched) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Steps steps;
    for (const ThreadId& thread : touched) {
      if (auto append = threads_.Next(thread)) steps.appends.push_back(*std::move(append));
    }
    if (unanswered_ && std::all_of(batches_.begin(), batches_.end(),
                                   [](const StreamBatch& batch) { return batch.open == 0; })) {
      unanswered_.reset();
    }
    steps.write = Gather();
    steps.read = !reading_ && !ended_ && events_ < core_.options.stream_events &&
                 bytes_ < core_.options.stream_bytes;
    if (steps.read) reading_ = true;
    steps.finish = ended_ && batches_.empty() && !writing_ && !finished_;
    if (steps.finish) finished_ = true;
    return steps;
  }

  // Moves complete batches into the next answer.
  bool Gather() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_) return false;
    response_bytes_ = 0;
    while (!batches_.empty() && batches_.front().open == 0 &&
           response_.results_size() < kGatherResults) {
      StreamBatch& batch = batches_.front();
      response_bytes_ += batch.bytes;
      if (response_.results_size() == 0) {
        response_.Swap(&batch.results);
      } else {
        for (v1::PublishResult& result : *batch.results.mutable_results()) {
          response_.add_results()->Swap(&result);
        }
      }
      DropBatch();
    }
    if (response_.results_size() == 0) return false;
    if (broken_) {
      // Nobody reads the answer; the count must still come down.
      events_ -= static_cast<size_t>(response_.results_size());
      bytes_ -= response_bytes_;
      response_.Clear();
      return Gather();
    }
    writing_ = true;
    return true;
  }

  void CarryOut(Steps steps) {
    for (StreamAppend& append : steps.appends) Append(std::move(append));
    if (steps.write) StartWrite(&response_);
    if (steps.read) StartRead(&received_);
    if (steps.finish) Finish(FinalStatus());
  }

  grpc::Status FinalStatus() {
    absl::Status status;
    {
      MutexLock lock(mutex_);
      status = status_;
    }
    return status.ok() ? grpc::Status::OK : core_.Fail(status, facts_.Context());
  }

  void Append(StreamAppend append) {
    ErrorContext context = facts_.Context(append.request.owner.str(), append.request.thread.str());
    runs::PutUnderRules(core_.options.run_rules, core_.intake, append.request);
    core_.log->Append(std::move(append.request),
                      [self = shared_from_this(), tickets = std::move(append.tickets),
                       context = std::move(context)](const auto& result) {
                        self->OnAppended(tickets, context, result);
                      });
  }

  void OnAppended(const std::vector<StreamTicket>& tickets, const ErrorContext& context,
                  const absl::StatusOr<log::AppendResult>& result) {
    const ThreadId thread(context.thread_id);
    const uint32_t subscriptions = result.ok() ? core_.intake.Subscriptions(thread) : 0;
    std::optional<StreamStop> stop;
    const std::vector<absl::Status> judged = Judge(tickets, context, result, &stop);
    Steps steps;
    {
      MutexLock lock(mutex_);
      for (size_t i = 0; i < tickets.size(); ++i) {
        if (i >= judged.size()) {
          Abort(tickets[i], *stop);
        } else if (judged[i].ok()) {
          *tickets[i].result()->mutable_accepted() =
              core_.intake.Accepted(result->items[i], *result, tickets[i].critical, subscriptions);
          tickets[i].Close();
        } else {
          Refuse(tickets[i], judged[i], AgainAfter(judged[i]));
        }
      }
      if (stop) {
        for (const StreamTicket& waiting : threads_.Stop(thread, *stop)) Abort(waiting, *stop);
      }
      threads_.Answered(thread);
      if (threads_.stopped() > core_.options.stream_stopped_threads) EndStopped();
      steps = Plan({thread});
    }
    CarryOut(std::move(steps));
  }

  // What became of each event of an append, up to the one that stops its thread.
  std::vector<absl::Status> Judge(const std::vector<StreamTicket>& tickets,
                                  const ErrorContext& context,
                                  const absl::StatusOr<log::AppendResult>& result,
                                  std::optional<StreamStop>* stop) const {
    std::vector<absl::Status> judged;
    for (size_t i = 0; i < tickets.size() && !*stop; ++i) {
      if (result.ok() && runs::IsAccepted(result->items[i].outcome)) {
        judged.push_back(absl::OkStatus());
        continue;
      }
      ErrorContext about = context;
      about.run_id = tickets[i].event().run_id();
      judged.push_back(core_.Note(
          result.ok() ? runs::RefusalOf(result->items[i], about) : result.status(), about));
      if (AgainAfter(judged.back()) == Again::kYes) {
        *stop = StreamStop{EventId(tickets[i].event().event_id()),
                           ReasonOf(judged.back()).value_or(Reason::kLogUnavailable)};
      }
    }
    return judged;
  }

  void Refuse(const StreamTicket& ticket, const absl::Status& status, Again again)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    FillRefusal(status, again, ticket.result()->mutable_refused());
    ticket.Close();
  }

  void Abort(const StreamTicket& ticket, const StreamStop& stop)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    v1::PublishResult* result = ticket.result();
    FillAborted(stop, result->thread_id(), result->mutable_refused());
    ticket.Close();
  }

  void EndStopped() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ended_ = true;
    if (!status_.ok()) return;
    status_ = MakeError(Reason::kBufferOverflow,
                        Concat("more than ", core_.options.stream_stopped_threads,
                               " threads of this stream are stopped after a refusal"));
  }

  Core& core_;
  const clarion::Gate::Pass pass_;
  const CallFacts facts_;
  std::shared_ptr<Stream> self_;  // gRPC's reference: from Begin to OnDone

  // gRPC's while reading_, else OnReadDone's.
  Received<v1::PublishStreamRequest> received_;
  uint64_t messages_ = 0;

  Mutex mutex_;
  StreamThreads threads_ ABSL_GUARDED_BY(mutex_);
  // Lists keep batches where they are while others come and go.
  std::list<StreamBatch> batches_ ABSL_GUARDED_BY(mutex_);
  std::list<StreamBatch> spare_ ABSL_GUARDED_BY(mutex_);
  size_t spare_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t events_ ABSL_GUARDED_BY(mutex_) = 0;  // read and not answered
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // gRPC's while writing_.
  v1::PublishStreamResponse response_;
  size_t response_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;   // nothing more is read
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // nothing more is written
  // Once the service stops, until the log has answered what was read.
  std::optional<clarion::Gate::Pass> unanswered_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

PublishStreamReactor* PublishStream(Core& core, grpc::CallbackServerContext* context) {
  auto stream = std::make_shared<Stream>(core, CallFacts(*context, "PublishStream"));
  stream->Begin();
  return stream.get();
}

}  // namespace clarion::front
