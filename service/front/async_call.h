// A unary call that waits for something: its reactor, which one of the answer, the client's
// cancellation and the service's stop ends, whichever comes first.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "grpcpp/support/server_callback.h"
#include "proto/base/mutex.h"
#include "service/delivery/delivery.h"
#include "service/front/core.h"

namespace clarion::front {

// Shared by gRPC (until OnDone) and by the callbacks of what the call waits for. Request, response
// and context are gRPC's and end with the call: whoever writes the response must have claimed it.
class AsyncCall final : public grpc::ServerUnaryReactor,
                        public LastingCall,
                        public std::enable_shared_from_this<AsyncCall> {
 public:
  static std::shared_ptr<AsyncCall> Start(Core& core, ErrorContext context);
  // Ends the call at once if `check` finds a fault in its request; see open().
  template <class Request>
  static std::shared_ptr<AsyncCall> Start(Core& core, ErrorContext context, const Request& request,
                                          absl::Status (*check)(const Request&,
                                                                const ErrorContext&)) {
    auto call = Start(core, std::move(context));
    if (!call->open()) return call;
    if (absl::Status status = check(request, call->context()); !status.ok()) call->Fail(status);
    return call;
  }

  // True once: the caller then writes the response and calls Succeed or FailClaimed. Nobody else
  // ends the call.
  [[nodiscard]] bool Claim();
  void Succeed() { FinishClaimed(grpc::Status::OK); }
  void FailClaimed(const absl::Status& status) { FinishClaimed(core_.Fail(status, context_)); }
  // Ends the call with an error, unless it has ended.
  void Fail(const absl::Status& status) {
    if (Claim()) FailClaimed(status);
  }
  // False: the call has ended; whoever works for it stops.
  bool open();
  // What the call is for is now written to the log: the service's stop waits for that answer
  // instead of ending the call. False: the call has ended, nothing is to be written.
  [[nodiscard]] bool BeginWriting();
  // The log has answered, and the call goes on waiting: if the service stops meanwhile, it is
  // claimed and `at_stop` ends it, rather than an error. False: the service stops already, nothing
  // was kept.
  [[nodiscard]] bool EndWriting(std::function<void()> at_stop);
  // What the call waits for; destroyed when the call ends.
  void Hold(std::unique_ptr<delivery::Cancellation> wait);

  const ErrorContext& context() const { return context_; }
  grpc::ServerUnaryReactor* reactor() { return this; }

  void End(const absl::Status& status) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  AsyncCall(Core& core, ErrorContext context)
      : core_(core), pass_(core.gate), context_(std::move(context)) {}
  void FinishClaimed(const grpc::Status& status);
  std::unique_ptr<delivery::Cancellation> TakeWait();

  Core& core_;
  const clarion::Gate::Pass pass_;
  const ErrorContext context_;
  std::shared_ptr<AsyncCall> self_;  // gRPC's reference: from Start to OnDone

  Mutex mutex_;
  bool claimed_ ABSL_GUARDED_BY(mutex_) = false;
  // From BeginWriting until EndWriting or until the call is finished.
  std::optional<clarion::Gate::Pass> unanswered_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> at_stop_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<delivery::Cancellation> wait_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace clarion::front
