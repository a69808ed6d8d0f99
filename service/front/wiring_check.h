// The check of one gateway loop.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "clarion/v1/event_service.pb.h"
#include "clarion/v1/gateway_service.pb.h"
#include "proto/base/gate.h"
#include "proto/base/mutex.h"
#include "proto/base/scheduler.h"
#include "proto/contract/ids.h"
#include "service/front/core.h"

namespace clarion::front {

// Steps: give a fresh thread to the canary user -> the gateway opens a WebSocket to itself and
// follows it (within `timeout`) -> one canary of every type is appended -> each is reported back
// (within `timeout`) -> the thread is erased -> the answer. Shared by the call and by whatever
// calls back.
class WiringCheck : public std::enable_shared_from_this<WiringCheck> {
 public:
  // One result for each type; one without a type if the gateway could not be used at all.
  using Done = std::function<void(std::vector<v1::WiringCanary>)>;
  WiringCheck(Core& core, GatewayId gateway, std::chrono::nanoseconds timeout, Done done);

  // `done` is called once, on any thread, unless the check is abandoned.
  void Begin();
  // Nobody waits any more: erases the thread and ends.
  void Abandon();

 private:
  enum class State { kOpening, kSending, kDone };

  void OpenSocket();
  void OnReport(const v1::CanaryReport& report);
  void Send();
  void OnAppended(const std::vector<std::string>& types,
                  const absl::StatusOr<log::AppendResult>& result);
  void OnTimeout(State during);
  // Ends with one result without a type.
  void Stop(v1::WiringStep step, std::string_view message);
  void Finish();
  void StartTimer(State during);
  void Mark(std::string_view type, v1::WiringStep step, std::string_view message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AllSettled() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Core& core_;
  const clarion::Gate::Pass pass_;
  const GatewayId gateway_;
  const std::chrono::nanoseconds timeout_;
  const ThreadId thread_;

  Mutex mutex_;
  Done done_ ABSL_GUARDED_BY(mutex_);
  State state_ ABSL_GUARDED_BY(mutex_) = State::kOpening;
  std::vector<v1::WiringCanary> canaries_ ABSL_GUARDED_BY(mutex_);
  Scheduler::TimerId timer_ ABSL_GUARDED_BY(mutex_) = 0;
  Scheduler::Steady sent_at_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace clarion::front
