#include "service/delivery/readiness.h"

#include <algorithm>
#include <utility>

#include "proto/contract/timestamp.h"

namespace clarion::delivery {

void Readiness::Add(const std::shared_ptr<Waiter>& waiter) {
  waiter->since = scheduler_->now();
  waiters_[waiter->user].push_back(waiter);
}

void Readiness::Remove(const std::shared_ptr<Waiter>& waiter) {
  const auto found = waiters_.find(waiter->user);
  if (found == waiters_.end()) return;
  std::erase(found->second, waiter);
  if (found->second.empty()) waiters_.erase(found);
}

void Readiness::Note(Waiter& waiter, ReadyFacts facts) const {
  v1::ReadinessStep step;
  *step.mutable_at() = ToTimestamp(scheduler_->wall_now());
  step.set_connections(facts.connections);
  step.set_subscriptions(facts.subscriptions);
  step.set_readiness(facts.ready() ? v1::READINESS_SUBSCRIBED : v1::READINESS_NONE);
  Add(waiter, std::move(step));
}

void Readiness::Add(Waiter& waiter, v1::ReadinessStep step) {
  waiter.seen.readiness = step.readiness();
  waiter.seen.subscriptions = step.subscriptions();
  if (waiter.seen.steps.size() < kMaxSteps) {
    waiter.seen.steps.push_back(std::move(step));
  } else {
    waiter.seen.steps.back() = std::move(step);
  }
}

void Readiness::Changed(const UserId& user, const ThreadId* thread,
                        const std::function<ReadyFacts(const ThreadId&)>& facts, Deferred& after) {
  const auto found = waiters_.find(user);
  if (found == waiters_.end()) return;
  const auto waiters = found->second;  // Answer() takes out of the list
  for (const auto& waiter : waiters) {
    if (thread != nullptr && waiter->thread != *thread) continue;
    const ReadyFacts now = facts(waiter->thread);
    Note(*waiter, now);
    if (now.ready() && waiter->wanted == v1::READINESS_SUBSCRIBED) Answer(waiter, after);
  }
}

bool Readiness::WantsProof(const UserId& user, const ThreadId& thread) const {
  return WantsProof(user, [&](const ThreadId& other) { return other == thread; });
}

bool Readiness::WantsProof(const UserId& user,
                           const std::function<bool(const ThreadId&)>& among) const {
  const auto found = waiters_.find(user);
  return found != waiters_.end() &&
         std::any_of(found->second.begin(), found->second.end(), [&](const auto& waiter) {
           return waiter->wanted == v1::READINESS_VERIFIED && among(waiter->thread);
         });
}

void Readiness::Verified(const UserId& user, Scheduler::Steady until,
                         const std::function<bool(const ThreadId&)>& follows, Deferred& after) {
  const auto found = waiters_.find(user);
  if (found == waiters_.end()) return;
  const auto waiters = found->second;  // Answer() takes out of the list
  for (const auto& waiter : waiters) {
    if (waiter->wanted != v1::READINESS_VERIFIED || waiter->since > until) continue;
    if (!follows(waiter->thread)) continue;
    v1::ReadinessStep step = waiter->seen.steps.back();
    *step.mutable_at() = ToTimestamp(scheduler_->wall_now());
    step.set_readiness(v1::READINESS_VERIFIED);
    Add(*waiter, std::move(step));
    Answer(waiter, after);
  }
}

void Readiness::Answer(const std::shared_ptr<Waiter>& waiter, Deferred& after) {
  Tell(waiter, std::move(waiter->seen), after);
}

void Readiness::End(const std::shared_ptr<Waiter>& waiter, const absl::Status& status,
                    Deferred& after) {
  Tell(waiter, status, after);
}

void Readiness::EndAll(const absl::Status& status, Deferred& after) {
  const auto all = std::exchange(waiters_, {});
  for (const auto& [user, waiters] : all) {
    for (const auto& waiter : waiters) Tell(waiter, status, after);
  }
}

void Readiness::Tell(const std::shared_ptr<Waiter>& waiter, absl::StatusOr<ReadyState> what,
                     Deferred& after) {
  if (std::exchange(waiter->answered, true)) return;
  Remove(waiter);
  after.Add([waiter, what = std::move(what), scheduler = scheduler_]() mutable {
    if (waiter->timer != 0) scheduler->Cancel(waiter->timer);
    if (!waiter->gate.Enter()) return;
    // Taken out: what it keeps alive may itself hold the Cancellation, and so the waiter.
    const auto done = std::move(waiter->done);
    done(std::move(what));
    waiter->gate.Leave();
  });
}

}  // namespace clarion::delivery
