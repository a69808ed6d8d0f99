#include "service/front/async_call.h"

#include <utility>

namespace clarion::front {

std::shared_ptr<AsyncCall> AsyncCall::Start(Core& core, ErrorContext context) {
  std::shared_ptr<AsyncCall> call(new AsyncCall(core, std::move(context)));
  call->self_ = call;
  if (!core.Serving().ok() || !core.Add(call)) call->Fail(NotServing());
  return call;
}

bool AsyncCall::Claim() {
  MutexLock lock(mutex_);
  return !std::exchange(claimed_, true);
}

bool AsyncCall::open() {
  MutexLock lock(mutex_);
  return !claimed_;
}

bool AsyncCall::BeginWriting() {
  MutexLock lock(mutex_);
  if (claimed_) return false;
  unanswered_.emplace(core_.unanswered);
  return true;
}

bool AsyncCall::EndWriting(std::function<void()> at_stop) {
  {
    MutexLock lock(mutex_);
    if (!claimed_) at_stop_.swap(at_stop);
    unanswered_.reset();
  }
  // A stop that began before found the call writing and left it alone.
  return core_.Serving().ok();
}

void AsyncCall::End(const absl::Status& status) {
  std::function<void()> at_stop;
  {
    MutexLock lock(mutex_);
    if (claimed_ || unanswered_) return;
    claimed_ = true;
    at_stop.swap(at_stop_);
  }
  if (at_stop) return at_stop();
  FailClaimed(status);
}

void AsyncCall::FinishClaimed(const grpc::Status& status) {
  std::function<void()> unused;  // it may hold the call; destroyed without the lock
  Finish(status);
  MutexLock lock(mutex_);
  unanswered_.reset();
  unused.swap(at_stop_);
}

void AsyncCall::Hold(std::unique_ptr<delivery::Cancellation> wait) {
  MutexLock lock(mutex_);
  // Too late: `wait` keeps it, and is destroyed after the lock is released.
  if (!claimed_) wait_.swap(wait);
}

std::unique_ptr<delivery::Cancellation> AsyncCall::TakeWait() {
  MutexLock lock(mutex_);
  return std::move(wait_);
}

void AsyncCall::OnCancel() {
  if (!Claim()) return;
  // Nobody reads this status, so it is neither logged nor counted.
  FinishClaimed(grpc::Status(grpc::StatusCode::CANCELLED, "the caller has gone"));
}

void AsyncCall::OnDone() {
  core_.Remove(this);
  // Here rather than where the call was claimed, which may be inside the callback of what is held.
  TakeWait().reset();
  const std::shared_ptr<AsyncCall> last = std::move(self_);
}

}  // namespace clarion::front
