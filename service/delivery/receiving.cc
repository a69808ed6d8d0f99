// What pages have got and seen: probes, sent positions, acks that were committed; and those who
// wait for it.
#include <utility>

#include "proto/contract/error.h"
#include "service/delivery/core.h"
#include "telemetry/log.h"

namespace clarion::delivery {

// ---- Probes ----

void Core::ProbePages(const UserId& user, const ThreadId& thread) {
  const Followed* followed = FindThread(thread);
  if (followed == nullptr || followed->state().owner != user) return;
  for (const Subscription* subscription : followed->started()) {
    if (subscription->confirmed) Probe(*subscription->connection);
  }
}

void Core::Probe(const Connection& connection) {
  const std::optional<std::string> nonce = probes_.Ask(connection, scheduler_->now());
  if (!nonce) return;
  SayProbe(connection, *nonce);  // at rest: when it polls again
  RepeatProbe(connection.id, *nonce);
}

// A page may not have listened yet; it is not asked something else, since it may just be slow.
void Core::RepeatProbe(const ConnectionId& id, const std::string& nonce) {
  After(Probes::kShared, [id, nonce](Core& core, Deferred&) {
    core.mutex_.AssertHeld();
    const Connection* connection = core.registry_.Find(id);
    if (connection == nullptr || !connection->open()) return;
    if (core.probes_.UnderWay(*connection) != nonce) return;
    const auto follows = [&](const ThreadId& thread) { return Follows(*connection, thread); };
    if (!core.readiness_.WantsProof(connection->user, follows)) return;
    core.SayProbe(*connection, nonce);
    core.RepeatProbe(id, nonce);
  });
}

void Core::SayProbe(const Connection& connection, const std::string& nonce) {
  v1::ServiceMessage message;
  message.mutable_probe()->set_connection_id(connection.id.str());
  message.mutable_probe()->set_nonce(nonce);
  connection.attached->Say(std::move(message));
}

void Core::OnProbeAnswered(const Attached& attached, const v1::ProbeAnswered& answered,
                           Deferred& after) {
  const auto found = attached.connections.find(ConnectionId(answered.connection_id()));
  if (found == attached.connections.end()) return;
  const Connection& connection = *found->second;
  const auto asked = probes_.Answer(connection, answered.nonce());
  if (!asked) return;
  const auto follows = [&](const ThreadId& thread) {
    mutex_.AssertHeld();
    return Follows(connection, thread) && FactsOf(connection.user, thread).ready();
  };
  readiness_.Verified(connection.user, *asked + Probes::kShared, follows, after);
}

// ---- What was sent and acknowledged ----

void Core::OnEventsSent(const v1::EventsSent& sent, Deferred& after) {
  const Scheduler::Wall now = scheduler_->wall_now();
  for (const v1::SentThread& part : sent.threads()) {
    const ThreadId id(part.thread_id());
    // That it is fed no more proves nothing: a page that polls may be at another gateway by now.
    const Followed* thread = FindThread(id);
    if (thread == nullptr || !thread->known) continue;
    const Position position{Epoch(part.position().epoch()), Offset(part.position().offset())};
    // What was rolled back meanwhile was sent, but is not what the offset names now. Readers see a
    // commit before we do.
    if (!Seamless(thread->state(), position) && !Ahead(thread->state(), position)) continue;
    const Progress::Range range{Offset(part.from_offset()), position.offset};
    progress_.Sent(thread->state(), range, now);
    receipts_.OnReached(id, range.from, range.to, v1::WAIT_FOR_SENT, after);
  }
}

void Core::OnAcknowledged(const ThreadId& id, Offset acknowledged) {
  Deferred after;
  MutexLock lock(mutex_);
  Followed* thread = FindThread(id);
  if (thread == nullptr) return;
  const Offset before = std::exchange(thread->state().acknowledged, acknowledged);
  const Scheduler::Wall now = scheduler_->wall_now();
  progress_.Acknowledged(thread->state(), before, now);
  TellReceipt(*thread, now, after);
}

void Core::TellReceipt(const Followed& thread, std::optional<Scheduler::Wall> at, Deferred& after) {
  const log::ThreadState& state = thread.state();
  receipts_.OnReached(thread.id(), Offset(1), state.acknowledged, v1::WAIT_FOR_ACKNOWLEDGED, after);
  receipts_.Tell(
      thread.id(),
      {.owner = state.owner, .acknowledged = state.acknowledged, .last = state.end(), .at = at},
      after);
}

Milestones Core::MilestonesOf(const ThreadId& thread, const Position& event) const {
  MutexLock lock(mutex_);
  return progress_.Of(thread, event);
}

// ---- Waiting for one event ----

std::unique_ptr<Cancellation> Core::AwaitReceipt(const ThreadId& thread, const Position& position,
                                                 v1::WaitFor wanted,
                                                 std::chrono::nanoseconds timeout,
                                                 std::function<void(v1::WaitOutcome)> done) {
  auto wait = std::make_shared<ReceiptWait>();
  wait->thread = thread;
  wait->position = position;
  wait->wanted = wanted;
  wait->done = std::move(done);
  Deferred after;
  MutexLock lock(mutex_);
  if (stopped_) {
    receipts_.Answer(wait, v1::WAIT_OUTCOME_TIMED_OUT, after);
    return std::make_unique<CoreCancellation<ReceiptWait>>(shared_from_this(), wait);
  }
  receipts_.Add(wait);
  Wait(wait, timeout, after);
  return std::make_unique<CoreCancellation<ReceiptWait>>(shared_from_this(), wait);
}

void Core::Wait(const std::shared_ptr<ReceiptWait>& wait, std::chrono::nanoseconds timeout,
                Deferred& after) {
  if (wait->answered) return;
  const Followed* followed = FindThread(wait->thread);
  if (followed != nullptr && followed->known && !followed->leaving) {
    return WaitFrom(wait, followed->state(), timeout, after);
  }
  after.Add([core = shared_from_this(), wait, timeout] {
    core->log_->GetState(wait->thread, [core, wait, timeout](auto state) {
      if (!state.ok()) LogFailure(WithContext(state.status(), {.operation = "AwaitReceipt"}));
      Deferred later;
      MutexLock lock(core->mutex_);
      core->WaitFrom(wait, state.ok() ? *state : log::ThreadState(), timeout, later);
    });
  });
}

void Core::WaitFrom(const std::shared_ptr<ReceiptWait>& wait, const log::ThreadState& state,
                    std::chrono::nanoseconds timeout, Deferred& after) {
  if (wait->answered) return;
  const bool acknowledged = wait->position.offset <= state.acknowledged;
  const bool sent = progress_.WasSent(wait->thread, wait->position);
  if (acknowledged || (sent && wait->wanted == v1::WAIT_FOR_SENT)) {
    return receipts_.Answer(wait, v1::WAIT_OUTCOME_REACHED, after);
  }
  if (timeout <= std::chrono::nanoseconds::zero()) {
    return receipts_.Answer(wait, OutcomeOf(*wait), after);
  }
  if (const Followed* thread = FindThread(wait->thread); thread != nullptr && !sent) {
    for (const Feed& feed : thread->feeds()) {
      SayAwaitSent(*feed.attached, wait->thread, wait->position);
    }
  }
  wait->timer = After(timeout, [wait](Core& core, Deferred& later) {
    core.mutex_.AssertHeld();
    core.Wait(wait, std::chrono::nanoseconds::zero(), later);
  });
}

v1::WaitOutcome Core::OutcomeOf(const ReceiptWait& wait) const {
  const Followed* thread = FindThread(wait.thread);
  if (thread == nullptr || thread->confirmed == 0) return v1::WAIT_OUTCOME_NO_CONNECTION;
  const bool sent = progress_.WasSent(wait.thread, wait.position);
  return sent ? v1::WAIT_OUTCOME_TIMED_OUT : v1::WAIT_OUTCOME_SLOW;
}

void Core::SayAwaitSent(Attached& attached, const ThreadId& thread, const Position& position) {
  v1::ServiceMessage message;
  v1::AwaitSent& await = *message.mutable_await_sent();
  await.set_thread_id(thread.str());
  await.mutable_position()->set_epoch(position.epoch.str());
  await.mutable_position()->set_offset(position.offset.value());
  attached.Say(std::move(message));
}

void Core::Cancel(const std::shared_ptr<ReceiptWait>& wait) {
  wait->gate.Shut();
  std::function<void(v1::WaitOutcome)> dropped;  // destroyed without the lock
  MutexLock lock(mutex_);
  dropped.swap(wait->done);
  if (std::exchange(wait->answered, true)) return;
  receipts_.Remove(wait);
  if (wait->timer != 0) scheduler_->Cancel(wait->timer);
}

// ---- Watching a thread ----

std::unique_ptr<Cancellation> Core::WatchReceipts(const ThreadId& thread,
                                                  std::shared_ptr<ReceiptWatcher> watcher) {
  auto watch = std::make_shared<ReceiptWatch>();
  watch->thread = thread;
  watch->watcher = std::move(watcher);
  Deferred after;
  MutexLock lock(mutex_);
  receipts_.Add(watch);
  if (stopped_) {
    receipts_.EndAll(Stopping(), after);
  } else {
    // The first picture comes with the log's answer, in its place between the acks.
    Followed& followed = FollowedOf(thread);
    ++followed.watches;
    AskLog(followed, after);
  }
  return std::make_unique<CoreCancellation<ReceiptWatch>>(shared_from_this(), watch);
}

void Core::Cancel(const std::shared_ptr<ReceiptWatch>& watch) {
  watch->gate.Shut();
  Deferred after;
  MutexLock lock(mutex_);
  if (!receipts_.Remove(watch)) return;
  Followed* thread = FindThread(watch->thread);
  if (thread == nullptr) return;
  --thread->watches;
  UnfollowIfIdle(*thread, after);
}

}  // namespace clarion::delivery
