// A call that goes on answering: gRPC takes one message at a time, the others wait in a queue.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "grpcpp/support/server_callback.h"
#include "proto/base/mutex.h"
#include "service/delivery/delivery.h"
#include "service/front/core.h"

namespace clarion::front {

// Made by std::make_shared; gRPC holds it from Open to OnDone. Messages may come on any thread, one
// at a time. Whoever derives from it bounds the queue.
template <class Response>
class WriteCall : public grpc::ServerWriteReactor<Response>,
                  public LastingCall,
                  public std::enable_shared_from_this<WriteCall<Response>> {
 public:
  WriteCall(Core& core, grpc::CallbackServerContext* call, ErrorContext context)
      : core_(core), pass_(core.gate), call_(call), context_(std::move(context)) {}

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
    const std::shared_ptr<WriteCall> last = std::move(self_);
  }

 protected:
  Core& core() const { return core_; }
  const ErrorContext& context() const { return context_; }
  template <class T>
  std::weak_ptr<T> weak_self() {
    return std::static_pointer_cast<T>(this->shared_from_this());
  }

  // First. False: the service does not serve, the call has ended.
  bool Open() {
    self_ = this->shared_from_this();
    if (core_.Serving().ok() && core_.Add(self_)) return true;
    End(NotServing());
    return false;
  }
  // Whatever ends or answers the call waits for SendMetadata, which follows.
  void HoldMetadata() {
    MutexLock lock(mutex_);
    busy_ = true;
  }
  void SendMetadata() { this->StartSendInitialMetadata(); }
  // What the messages come from; destroyed when the call ends.
  void Hold(std::unique_ptr<delivery::Cancellation> source) {
    MutexLock lock(mutex_);
    // Too late: `source` keeps it, and is destroyed after the lock is released.
    if (!ended_) source_.swap(source);
  }

  // How many wait now, this one among them.
  size_t Push(Response response) { return Queue(std::move(response), false); }
  // Takes the place of what waits.
  void PushNewest(Response response) { Queue(std::move(response), true); }

  // A caller that does not read would hold the last write, and the end behind it, for ever.
  void CancelUnlessDone() {
    MutexLock lock(mutex_);
    if (!done_) call_->TryCancel();
  }

 private:
  size_t Queue(Response response, bool newest) {
    const Response* next = nullptr;
    size_t queued = 0;
    {
      MutexLock lock(mutex_);
      if (ended_) return 0;
      // The one at the front may be with gRPC, where it must not move.
      while (newest && queue_.size() > 1) queue_.pop_back();
      if (newest && !writing_) queue_.clear();
      queue_.push_back(std::move(response));
      queued = queue_.size();
      next = NextToWrite();
    }
    if (next != nullptr) this->StartWrite(next);
    return queued;
  }

  // gRPC took what was given to it.
  void OnTaken(bool ok) {
    const Response* next = nullptr;
    bool finish = false;
    {
      MutexLock lock(mutex_);
      busy_ = writing_ = false;
      if (!ok) ended_ = true;
      next = NextToWrite();
      finish = TakeFinish();
    }
    if (next != nullptr) this->StartWrite(next);
    if (finish) this->Finish(final_status());
  }

  // The message being written stays at the front of the queue, where it does not move.
  const Response* NextToWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (busy_ || ended_ || queue_.empty()) return nullptr;
    busy_ = writing_ = true;
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
    std::unique_ptr<delivery::Cancellation> source;
    bool finish = false;
    {
      MutexLock lock(mutex_);
      if (ended_) return;
      ended_ = true;
      status_ = std::move(status);
      source.swap(source_);
      finish = TakeFinish();
    }
    if (finish) this->Finish(final_status());
  }

  grpc::Status final_status() {
    MutexLock lock(mutex_);
    return status_;
  }

  Core& core_;
  const clarion::Gate::Pass pass_;
  grpc::CallbackServerContext* const call_;  // valid until OnDone
  const ErrorContext context_;
  std::shared_ptr<WriteCall> self_;  // gRPC's reference

  Mutex mutex_;
  std::deque<Response> queue_ ABSL_GUARDED_BY(mutex_);
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;      // gRPC has the metadata or a message
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;   // it has queue_.front()
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;    // somebody ends it
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;     // nothing more is queued
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called
  bool done_ ABSL_GUARDED_BY(mutex_) = false;      // gRPC has let go
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<delivery::Cancellation> source_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace clarion::front
