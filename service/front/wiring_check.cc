#include "service/front/wiring_check.h"

#include <algorithm>
#include <utility>

#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "proto/contract/event_type.h"
#include "service/front/request.h"
#include "service/front/wiring_canaries.h"
#include "service/runs/start_run.h"
#include "telemetry/log.h"

namespace clarion::front {

WiringCheck::WiringCheck(Core& core, GatewayId gateway, std::chrono::nanoseconds timeout, Done done)
    : core_(core),
      pass_(core.gate),
      gateway_(std::move(gateway)),
      timeout_(timeout),
      thread_(Concat(kCanaryUser, ".", runs::RandomHex())),
      done_(std::move(done)) {}

void WiringCheck::Begin() {
  {
    MutexLock lock(mutex_);
    if (state_ != State::kOpening) return;
  }
  core_.log->Assign(thread_, UserId(kCanaryUser),
                    [self = shared_from_this()](absl::StatusOr<bool> assigned) {
                      if (!assigned.ok()) {
                        return self->Stop(v1::WIRING_STEP_LOG, ToStd(assigned.status().message()));
                      }
                      self->OpenSocket();
                    });
}

void WiringCheck::OpenSocket() {
  v1::OpenCanary open;
  open.set_check_id(runs::RandomHex());
  open.set_ticket(runs::RandomHex());
  open.set_thread_id(thread_.str());
  for (const EventTypeRow& type : kEventTypes) open.add_types(std::string(type.name));
  *open.mutable_life() = ToDuration(2 * timeout_);
  StartTimer(State::kOpening);
  const bool sent = core_.delivery->OpenCanary(gateway_, std::move(open),
                                               [weak = weak_from_this()](v1::CanaryReport report) {
                                                 if (const auto self = weak.lock())
                                                   self->OnReport(report);
                                               });
  if (!sent) Stop(v1::WIRING_STEP_LINK, "the gateway has gone");
}

void WiringCheck::OnReport(const v1::CanaryReport& report) {
  switch (report.step()) {
    case v1::WIRING_STEP_SOCKET:
      return Send();
    case v1::WIRING_STEP_ARRIVED: {
      bool settled = false;
      {
        MutexLock lock(mutex_);
        if (state_ != State::kSending) return;
        Mark(report.type(), v1::WIRING_STEP_ARRIVED, "");
        settled = AllSettled();
      }
      if (settled) Finish();
      return;
    }
    case v1::WIRING_STEP_CONNECT:
      return Stop(v1::WIRING_STEP_CONNECT, report.message());
    default:
      return Stop(v1::WIRING_STEP_LINK, report.message());
  }
}

// Every type stands at SOCKET, "not seen", until it is known to be somewhere else.
void WiringCheck::Send() {
  std::vector<std::string> types;
  log::AppendRequest append;
  append.thread = thread_;
  append.owner = UserId(kCanaryUser);
  std::vector<v1::Event> events = MakeCanaries(thread_);
  std::vector<absl::StatusOr<log::AppendItem>> items;
  items.reserve(events.size());
  for (v1::Event& event : events) items.push_back(core_.intake.MakeItem(&event, {}));
  {
    MutexLock lock(mutex_);
    if (state_ != State::kOpening) return;
    state_ = State::kSending;
    sent_at_ = core_.scheduler->now();
    for (size_t i = 0; i < items.size(); ++i) {
      v1::WiringCanary& canary = canaries_.emplace_back();
      canary.set_gateway_id(gateway_.str());
      canary.set_type(std::string(kEventTypes[i].name));
      canary.set_step(v1::WIRING_STEP_SOCKET);
      canary.set_message("committed, but not seen on the WebSocket in time");
      if (!items[i].ok()) {
        Mark(canary.type(), v1::WIRING_STEP_ENCODE, ToStd(items[i].status().message()));
        continue;
      }
      types.push_back(canary.type());
      append.items.push_back(*std::move(items[i]));
    }
    // Before anybody can finish, and erase what this brings.
    if (!types.empty()) {
      core_.log->Append(std::move(append), [self = shared_from_this(), types](const auto& result) {
        self->OnAppended(types, result);
      });
    }
  }
  if (types.empty()) return Finish();
  StartTimer(State::kSending);
}

void WiringCheck::OnAppended(const std::vector<std::string>& types,
                             const absl::StatusOr<log::AppendResult>& result) {
  bool settled = false;
  {
    MutexLock lock(mutex_);
    if (state_ != State::kSending) return;
    for (size_t i = 0; i < types.size(); ++i) {
      if (!result.ok()) {
        Mark(types[i], v1::WIRING_STEP_LOG, ToStd(result.status().message()));
      } else if (!runs::IsAccepted(result->items[i].outcome)) {
        Mark(types[i], v1::WIRING_STEP_LOG,
             ToStd(runs::RefusalOf(result->items[i].outcome, {}).message()));
      }
    }
    settled = AllSettled();
  }
  if (settled) Finish();
}

void WiringCheck::OnTimeout(State during) {
  {
    MutexLock lock(mutex_);
    if (state_ != during) return;
  }
  if (during == State::kOpening) {
    return Stop(v1::WIRING_STEP_LINK, "the gateway did not answer in time");
  }
  Finish();
}

void WiringCheck::Stop(v1::WiringStep step, std::string_view message) {
  {
    MutexLock lock(mutex_);
    if (state_ != State::kOpening) return;
    v1::WiringCanary& canary = canaries_.emplace_back();
    canary.set_gateway_id(gateway_.str());
    canary.set_step(step);
    canary.set_message(std::string(message));
  }
  Finish();
}

void WiringCheck::Abandon() {
  {
    MutexLock lock(mutex_);
    done_ = nullptr;
  }
  Finish();
}

void WiringCheck::Finish() {
  Scheduler::TimerId timer = 0;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kDone) return;
    state_ = State::kDone;
    timer = timer_;
  }
  if (timer != 0) core_.scheduler->Cancel(timer);
  core_.log->Erase(thread_, [self = shared_from_this()](const absl::StatusOr<bool>& erased) {
    if (!erased.ok()) {  // the next start will sweep it
      LogFailure(WithContext(erased.status(), {.user_id = std::string(kCanaryUser),
                                               .thread_id = self->thread_.str(),
                                               .operation = "CheckWiring"}));
    }
    Done done;
    std::vector<v1::WiringCanary> canaries;
    {
      MutexLock lock(self->mutex_);
      done.swap(self->done_);
      canaries.swap(self->canaries_);
    }
    if (done) done(std::move(canaries));
  });
}

void WiringCheck::StartTimer(State during) {
  const Scheduler::TimerId timer =
      core_.scheduler->After(timeout_, [weak = weak_from_this(), during] {
        if (const auto self = weak.lock()) self->OnTimeout(during);
      });
  Scheduler::TimerId old = timer;
  {
    MutexLock lock(mutex_);
    if (state_ == during) std::swap(old, timer_);
  }
  if (old != 0) core_.scheduler->Cancel(old);
}

void WiringCheck::Mark(std::string_view type, v1::WiringStep step, std::string_view message) {
  const auto canary = std::find_if(canaries_.begin(), canaries_.end(),
                                   [type](const auto& each) { return each.type() == type; });
  if (canary == canaries_.end() || canary->step() != v1::WIRING_STEP_SOCKET) return;
  canary->set_step(step);
  canary->set_message(std::string(message));
  if (step == v1::WIRING_STEP_ARRIVED) {
    *canary->mutable_took() = ToDuration(core_.scheduler->now() - sent_at_);
  }
}

bool WiringCheck::AllSettled() const {
  return std::none_of(canaries_.begin(), canaries_.end(),
                      [](const auto& canary) { return canary.step() == v1::WIRING_STEP_SOCKET; });
}

}  // namespace clarion::front
