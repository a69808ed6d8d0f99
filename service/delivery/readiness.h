// Those who wait until a thread is ready.
//
// Guarded by Core's lock, apart from Waiter::gate; timers and callbacks are Core's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/base/scheduler.h"
#include "service/delivery/deferred.h"
#include "service/delivery/delivery.h"
#include "service/delivery/gate.h"

namespace clarion::delivery {

// What there is of a user and a thread now.
struct ReadyFacts {
  uint32_t connections = 0;
  uint32_t subscriptions = 0;  // confirmed, and the thread is the user's
  bool ready() const { return subscriptions > 0; }
};

struct Waiter {
  UserId user;
  ThreadId thread;
  // SUBSCRIBED or VERIFIED.
  v1::Readiness wanted = v1::READINESS_SUBSCRIBED;
  std::function<void(absl::StatusOr<ReadyState>)> done;
  Scheduler::Steady since;
  ReadyState seen;
  Scheduler::TimerId timer = 0;
  bool answered = false;
  CallbackGate gate;
};

class Readiness {
 public:
  static constexpr int kMaxSteps = 64;

  explicit Readiness(Scheduler* scheduler) : scheduler_(scheduler) {}

  void Add(const std::shared_ptr<Waiter>& waiter);
  void Remove(const std::shared_ptr<Waiter>& waiter);
  // Adds a step; more than kMaxSteps: the last one is replaced.
  void Note(Waiter& waiter, ReadyFacts facts) const;
  // Something of the user changed; `thread` null: of its connections, so all of its waiters note
  // it.
  void Changed(const UserId& user, const ThreadId* thread,
               const std::function<ReadyFacts(const ThreadId&)>& facts, Deferred& after);
  // Somebody waits until a page of the user's on this thread has answered a probe.
  bool WantsProof(const UserId& user, const ThreadId& thread) const;
  // The same of any thread that is among these.
  bool WantsProof(const UserId& user, const std::function<bool(const ThreadId&)>& among) const;
  // A page that follows these threads answered one, which proves it to those who wait since `until`
  // at the latest.
  void Verified(const UserId& user, Scheduler::Steady until,
                const std::function<bool(const ThreadId&)>& follows, Deferred& after);
  // `done` gets what was reached, unless it got something before.
  void Answer(const std::shared_ptr<Waiter>& waiter, Deferred& after);
  // `done` gets `status`, unless it got something before.
  void End(const std::shared_ptr<Waiter>& waiter, const absl::Status& status, Deferred& after);
  void EndAll(const absl::Status& status, Deferred& after);

 private:
  static void Add(Waiter& waiter, v1::ReadinessStep step);
  void Tell(const std::shared_ptr<Waiter>& waiter, absl::StatusOr<ReadyState> what,
            Deferred& after);

  Scheduler* const scheduler_;
  absl::flat_hash_map<UserId, std::vector<std::shared_ptr<Waiter>>> waiters_;
};

}  // namespace clarion::delivery
