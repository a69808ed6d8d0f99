#include "service/front/connections.h"

#include <chrono>
#include <deque>
#include <memory>
#include <utility>

#include "proto/base/mutex.h"
#include "proto/base/text.h"
#include "service/front/request.h"

namespace clarion::front {
namespace {

template <class Request>
absl::Status Check(const Request& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request)
      .OptionalUser("user_id", request.user_id())
      .OptionalId("thread_id", request.thread_id());
  if (request.user_id().empty() && request.thread_id().empty()) {
    fields.Fault("user_id", "user_id or thread_id is required");
  }
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

// How long a caller that lags too far behind has to take what is under way, and learn why.
constexpr std::chrono::seconds kGrace{2};

// One call of WatchConnections. Delivery says what changed, on its threads; gRPC takes one message
// at a time; the queue between them is bounded, and its overflow ends the call: with
// BUFFER_OVERFLOW, or CANCELLED for a caller that does not read at all.
class Watch final : public grpc::ServerWriteReactor<v1::WatchConnectionsResponse>,
                    public LastingCall,
                    public std::enable_shared_from_this<Watch> {
 public:
  Watch(Core& core, grpc::CallbackServerContext* call, ErrorContext context)
      : core_(core), pass_(core.gate), call_(call), context_(std::move(context)) {}

  void Begin(const v1::WatchConnectionsRequest& request) {
    self_ = shared_from_this();
    if (!core_.Serving().ok() || !core_.Add(self_)) return End(NotServing());
    if (absl::Status status = Check(request, context_); !status.ok()) return End(status);
    {
      // Until the metadata is sent; whatever ends the call before that waits for OnTaken.
      MutexLock lock(mutex_);
      busy_ = true;
    }
    auto watching =
        core_.delivery->WatchConnections(UserId(request.user_id()), ThreadId(request.thread_id()),
                                         std::make_shared<Listener>(weak_from_this()));
    {
      MutexLock lock(mutex_);
      if (!ended_) watching_.swap(watching);
    }
    // The caller learns at once that the watch stands, also when there is nothing to tell yet.
    StartSendInitialMetadata();
  }

  // The first end counts; what comes after it is no failure of its own.
  void End(const absl::Status& status) override {
    if (MayEnd()) EndWith(core_.Fail(status, context_));
  }
  void OnCancel() override {
    if (MayEnd()) EndWith(grpc::Status(grpc::StatusCode::CANCELLED, "the caller has gone"));
  }
  void OnSendInitialMetadataDone(bool ok) override { OnTaken(ok); }
  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(mutex_);
      if (!queue_.empty()) queue_.pop_front();
    }
    OnTaken(ok);
  }
  void OnDone() override {
    core_.Remove(this);
    {
      MutexLock lock(mutex_);
      done_ = true;
    }
    const std::shared_ptr<Watch> last = std::move(self_);
  }

 private:
  // What delivery holds: it must not keep the call alive, nor the other way round.
  class Listener : public delivery::ConnectionWatcher {
   public:
    explicit Listener(std::weak_ptr<Watch> watch) : watch_(std::move(watch)) {}
    void OnChange(const v1::Connection& connection, bool snapshot) override {
      if (const auto watch = watch_.lock()) watch->OnChange(connection, snapshot);
    }
    void OnEnded(const absl::Status& status) override {
      if (const auto watch = watch_.lock()) watch->End(status);
    }

   private:
    const std::weak_ptr<Watch> watch_;
  };

  void OnChange(const v1::Connection& connection, bool snapshot) {
    bool overflow = false;
    const v1::WatchConnectionsResponse* next = nullptr;
    {
      MutexLock lock(mutex_);
      if (ended_) return;
      v1::WatchConnectionsResponse& change = queue_.emplace_back();
      change.set_sequence(++sequence_);
      *change.mutable_connection() = connection;
      change.set_snapshot(snapshot);
      // The first picture has its own bound (GetConnections); what follows must be read.
      if (snapshot) {
        ++snapshots_;
      } else {
        overflow = queue_.size() > core_.options.watch_queue + snapshots_;
      }
      next = NextToWrite();
    }
    if (next != nullptr) StartWrite(next);
    if (overflow) {
      End(MakeError(Reason::kBufferOverflow,
                    Concat("the caller lags more than ", core_.options.watch_queue,
                           " changes behind; watch again")));
      core_.scheduler->After(kGrace, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->CancelUnlessDone();
      });
    }
  }

  // A caller that does not read would hold the last write, and the end behind it, for ever.
  void CancelUnlessDone() {
    MutexLock lock(mutex_);
    if (!done_) call_->TryCancel();
  }

  // gRPC took what was given to it.
  void OnTaken(bool ok) {
    const v1::WatchConnectionsResponse* next = nullptr;
    bool finish = false;
    {
      MutexLock lock(mutex_);
      busy_ = false;
      if (!ok) ended_ = true;
      next = NextToWrite();
      finish = TakeFinish();
    }
    if (next != nullptr) StartWrite(next);
    if (finish) Finish(final_status());
  }

  // The message being written stays at the front of the queue, where it does not move.
  const v1::WatchConnectionsResponse* NextToWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (busy_ || ended_ || queue_.empty()) return nullptr;
    busy_ = true;
    return &queue_.front();
  }

  // True once: nothing is with gRPC and the call has ended.
  bool TakeFinish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!ended_ || busy_ || finished_) return false;
    finished_ = true;
    return true;
  }

  bool MayEnd() {
    MutexLock lock(mutex_);
    return !ended_ && !std::exchange(ending_, true);
  }

  void EndWith(grpc::Status status) {
    std::unique_ptr<delivery::Cancellation> watching;
    bool finish = false;
    {
      MutexLock lock(mutex_);
      if (ended_) return;
      ended_ = true;
      status_ = std::move(status);
      watching.swap(watching_);
      finish = TakeFinish();
    }
    if (finish) Finish(final_status());
  }

  grpc::Status final_status() {
    MutexLock lock(mutex_);
    return status_;
  }

  Core& core_;
  const clarion::Gate::Pass pass_;
  grpc::CallbackServerContext* const call_;  // valid until OnDone
  const ErrorContext context_;
  std::shared_ptr<Watch> self_;  // gRPC's reference: from Begin to OnDone

  Mutex mutex_;
  std::deque<v1::WatchConnectionsResponse> queue_ ABSL_GUARDED_BY(mutex_);
  uint64_t sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t snapshots_ ABSL_GUARDED_BY(mutex_) = 0;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;    // somebody ends it
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;     // nothing more is queued
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called
  bool done_ ABSL_GUARDED_BY(mutex_) = false;      // gRPC has let go
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<delivery::Cancellation> watching_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

grpc::ServerUnaryReactor* GetConnections(Core& core, grpc::CallbackServerContext* context,
                                         const v1::GetConnectionsRequest* request,
                                         v1::GetConnectionsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const ErrorContext about =
      CallFacts(*context, "GetConnections").Context(request->user_id(), request->thread_id());
  absl::Status status = core.Serving();
  if (status.ok()) status = Check(*request, about);
  if (!status.ok()) {
    reactor->Finish(core.Fail(status, about));
    return reactor;
  }
  for (v1::Connection& connection : core.delivery->GetConnections(
           UserId(request->user_id()), ThreadId(request->thread_id()), request->include_gone())) {
    *response->add_connections() = std::move(connection);
  }
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<v1::WatchConnectionsResponse>* WatchConnections(
    Core& core, grpc::CallbackServerContext* context, const v1::WatchConnectionsRequest* request) {
  auto watch = std::make_shared<Watch>(
      core, context,
      CallFacts(*context, "WatchConnections").Context(request->user_id(), request->thread_id()));
  watch->Begin(*request);
  return watch.get();
}

}  // namespace clarion::front
