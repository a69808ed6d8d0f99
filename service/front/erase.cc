#include "service/front/erase.h"

#include <memory>
#include <utility>
#include <vector>

#include "service/front/async_call.h"
#include "service/front/request.h"

namespace clarion::front {
namespace {

// Threads that one call deletes.
constexpr size_t kMostThreads = 1000;

absl::Status Check(const v1::DeleteThreadRequest& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request).User("user_id", request.user_id()).Id("thread_id", request.thread_id());
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

absl::Status Check(const v1::DeleteUserRequest& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request).User("user_id", request.user_id());
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

// One thread after the other, until the service stops: it waits for the thread that is under way,
// the call says how far it came, and its repetition goes on. Kept alive by what it waits for.
class UserDeletion : public std::enable_shared_from_this<UserDeletion> {
 public:
  UserDeletion(Core& core, std::shared_ptr<AsyncCall> call, UserId user,
               v1::DeleteUserResponse* response)
      : core_(core), call_(std::move(call)), user_(std::move(user)), response_(response) {}

  void Begin() {
    if (!call_->BeginWriting()) return;
    // What was deleted is not listed any more, so this is always the rest.
    core_.log->ListThreadIds(
        user_, ThreadId(), kMostThreads,
        [self = shared_from_this()](absl::StatusOr<std::vector<ThreadId>> threads) {
          if (!threads.ok()) return self->call_->Fail(threads.status());
          self->done_.set_complete(threads->size() < kMostThreads);
          self->threads_ = *std::move(threads);
          self->Next();
        });
  }

 private:
  void Next() {
    if (!call_->open()) return;
    if (threads_.empty() || !core_.Serving().ok()) return Answer();
    const ThreadId thread = std::move(threads_.back());
    threads_.pop_back();
    core_.log->Delete(thread, user_,
                      [self = shared_from_this()](absl::StatusOr<log::DeletedThread> deleted) {
                        self->OnDeleted(deleted);
                      });
  }

  void Answer() {
    if (!call_->Claim()) return;
    if (!threads_.empty()) done_.set_complete(false);
    *response_ = done_;
    call_->Succeed();
  }

  void OnDeleted(const absl::StatusOr<log::DeletedThread>& deleted) {
    if (deleted.ok()) {
      done_.set_threads(done_.threads() + !deleted->already_deleted);
      done_.set_events(done_.events() + deleted->events);
      done_.set_expired(done_.expired() + deleted->expired);
    } else if (ReasonOf(deleted.status()) != Reason::kNotFound) {  // gone meanwhile
      return call_->Fail(deleted.status());
    }
    Next();
  }

  Core& core_;
  const std::shared_ptr<AsyncCall> call_;
  const UserId user_;
  v1::DeleteUserResponse* const response_;
  // One step at a time.
  v1::DeleteUserResponse done_;
  std::vector<ThreadId> threads_;
};

}  // namespace

grpc::ServerUnaryReactor* DeleteThread(Core& core, grpc::CallbackServerContext* context,
                                       const v1::DeleteThreadRequest* request,
                                       v1::DeleteThreadResponse* response) {
  auto call = AsyncCall::Start(
      core, CallFacts(*context, "DeleteThread").Context(request->user_id(), request->thread_id()),
      *request, Check);
  if (!call->open()) return call->reactor();
  if (!call->BeginWriting()) return call->reactor();
  core.log->Delete(ThreadId(request->thread_id()), UserId(request->user_id()),
                   [call, response](absl::StatusOr<log::DeletedThread> deleted) {
                     if (!call->Claim()) return;
                     if (!deleted.ok()) return call->FailClaimed(deleted.status());
                     response->set_events(deleted->events);
                     response->set_expired(deleted->expired);
                     response->set_already_deleted(deleted->already_deleted);
                     call->Succeed();
                   });
  return call->reactor();
}

grpc::ServerUnaryReactor* DeleteUser(Core& core, grpc::CallbackServerContext* context,
                                     const v1::DeleteUserRequest* request,
                                     v1::DeleteUserResponse* response) {
  auto call = AsyncCall::Start(core, CallFacts(*context, "DeleteUser").Context(request->user_id()),
                               *request, Check);
  if (!call->open()) return call->reactor();
  std::make_shared<UserDeletion>(core, call, UserId(request->user_id()), response)->Begin();
  return call->reactor();
}

}  // namespace clarion::front
