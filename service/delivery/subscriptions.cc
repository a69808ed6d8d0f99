// Subscriptions and claims, from SubscribeThread to the live stream; the log's calls.
#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "service/delivery/core.h"
#include "service/delivery/summaries.h"
#include "telemetry/log.h"

namespace clarion::delivery {
namespace {

constexpr std::string_view kDeleted = "the thread was deleted";

v1::ServiceMessage Refusal(uint64_t subscription_id, Reason reason, std::string_view message) {
  v1::ServiceMessage out;
  out.mutable_refused()->set_subscription_id(subscription_id);
  out.mutable_refused()->set_reason(std::string(NameOf(reason)));
  out.mutable_refused()->set_message(std::string(message));
  return out;
}

Start StartOf(const v1::SubscribeThread& subscribe) {
  Start start{.from = subscribe.from()};
  if (subscribe.has_after()) {
    start.after = Position{Epoch(subscribe.after().epoch()), Offset(subscribe.after().offset())};
  }
  return start;
}

void SayClaim(const Subscription& subscription) {
  v1::ServiceMessage message;
  message.mutable_started()->set_subscription_id(subscription.id);
  message.mutable_started()->set_claim(true);
  subscription.attached->Say(std::move(message));
}

// Another confirmed subscription of the connection follows the same thread.
bool FollowsOtherwise(const Connection& connection, const Subscription& than) {
  // A connection may follow many threads, and a thread have many followers: the shorter list.
  const std::vector<Subscription*>& followers = than.thread->started();
  const auto& shorter =
      followers.size() < connection.subscriptions.size() ? followers : connection.subscriptions;
  return std::any_of(shorter.begin(), shorter.end(), [&](const Subscription* other) {
    return other != &than && other->confirmed && other->thread == than.thread &&
           other->connection == &connection;
  });
}

}  // namespace

Followed* Core::FindThread(const ThreadId& id) const {
  const auto found = threads_.find(id);
  return found == threads_.end() ? nullptr : found->second.get();
}

Followed& Core::FollowedOf(const ThreadId& id) {
  auto& thread = threads_[id];
  if (thread == nullptr) thread = std::make_unique<Followed>(id, &tail_budget_);
  return *thread;
}

void Core::Subscribe(Attached& attached, const v1::SubscribeThread& subscribe, Deferred& after) {
  const uint64_t id = subscribe.subscription_id();
  const auto connection = attached.connections.find(ConnectionId(subscribe.connection_id()));
  if (connection == attached.connections.end()) {
    const absl::Status status = NoConnection(attached, ConnectionId(subscribe.connection_id()));
    return attached.Say(Refusal(id, *ReasonOf(status), ToStd(status.message())));
  }
  if (!ValidId(subscribe.thread_id())) {
    return attached.Say(Refusal(id, Reason::kContextInvalid, "thread_id is not an id"));
  }
  auto& slot = attached.subscriptions[id];
  if (slot != nullptr) {
    return attached.Say(Refusal(id, Reason::kContextInvalid, "subscription_id is in use"));
  }
  slot = std::make_unique<Subscription>();
  Subscription& subscription = *slot;
  subscription.id = id;
  subscription.attached = &attached;
  subscription.connection = connection->second;
  subscription.start = StartOf(subscribe);
  subscription.live = subscribe.from() == v1::START_FROM_LIVE;
  subscription.restored = subscribe.restored();
  subscription.heard = subscribe.restored() && !subscribe.unheard();
  subscription.no_claim = subscribe.no_claim();
  Followed& thread = FollowedOf(ThreadId(subscribe.thread_id()));
  subscription.thread = &thread;
  GoOnFromRest(subscription, subscribe);
  thread.Add(&subscription);
  std::vector<Subscription*>& of_connection = subscription.connection->subscriptions;
  subscription.place_in_connection = of_connection.size();
  of_connection.push_back(&subscription);
  AskLog(thread, after);
}

void Core::AskLog(Followed& thread, Deferred& after) {
  if (thread.asking || thread.leaving || stopped_)
    return;  // the answer serves all who wait by then
  thread.asking = true;
  after.Add([core = shared_from_this(), id = thread.id()] {
    core->log_->Follow(id, core.get(), [core, id](absl::StatusOr<log::ThreadState> state) {
      core->OnState(id, std::move(state));
    });
  });
}

void Core::OnState(const ThreadId& id, absl::StatusOr<log::ThreadState> state) {
  Deferred after;
  MutexLock lock(mutex_);
  Followed* thread = FindThread(id);
  if (thread == nullptr) return;  // after Stop
  thread->asking = false;
  if (!state.ok()) return OnNoState(*thread, state.status(), after);
  // The log's word of it was lost with what was interrupted.
  if (state->deleted) EndDeleted(*thread, thread->state().last, after);
  thread->Refresh(*std::move(state));
  ServeWaiting(*thread, after);
  TellReceipt(*thread, std::nullopt, after);
  SayBusy(*thread);
  thread->state().runs = {};
  if (std::exchange(thread->ask_again, false) && !thread->idle()) return AskLog(*thread, after);
  UnfollowIfIdle(*thread, after);
}

// Whoever waits is refused; claims, and feeds that were interrupted, are tried again.
void Core::OnNoState(Followed& thread, const absl::Status& status, Deferred& after) {
  const absl::Status failure =
      WithContext(status, {.thread_id = thread.id().str(), .operation = "subscribe"});
  LogFailure(failure);
  const Reason reason = ReasonOf(failure).value_or(Reason::kLogUnavailable);
  // A copy: what is served or refused leaves the list.
  const std::vector<Subscription*> waiting(thread.waiting().begin(), thread.waiting().end());
  for (Subscription* subscription : waiting) {
    if (subscription->phase == Subscription::Phase::kClaim) continue;
    Refuse(*subscription, reason, std::string(failure.message()), after);
  }
  thread.watches -= receipts_.EndWithoutPicture(thread.id(), failure, after);
  if (thread.idle()) return UnfollowIfIdle(thread, after);
  Retry([id = thread.id()](Core& core) {
    Deferred later;
    MutexLock lock(core.mutex_);
    if (Followed* again = core.FindThread(id); again != nullptr) core.AskLog(*again, later);
  });
}

void Core::ServeWaiting(Followed& thread, Deferred& after) {
  // A copy: what is served or refused leaves the list. What rests comes first: others that are
  // served may take its place, which destroys it.
  std::vector<Subscription*> waiting;
  waiting.reserve(thread.waiting().size());
  for (const bool resting : {true, false}) {
    for (Subscription* waits : thread.waiting()) {
      if (waits->resting() == resting) waiting.push_back(waits);
    }
  }
  for (Subscription* subscription : waiting) {
    const UserId& user = subscription->connection->user;
    // Nobody's and somebody else's are the same from here on.
    if (!thread.state().owner.empty() && thread.state().owner == user) {
      StartSubscription(*subscription, after);
    } else if (subscription->phase == Subscription::Phase::kWaiting && WasDeleted(*subscription)) {
      RefuseDeleted(*subscription, after);
    } else if (subscription->phase == Subscription::Phase::kWaiting) {
      MakeClaim(*subscription, after);
    }
  }
}

void Core::MakeClaim(Subscription& subscription, Deferred& after) {
  Subscription* at_rest = AtRest(*subscription.connection, *subscription.thread);
  if (at_rest != nullptr) DropAndTell(*at_rest, after);  // and its slot is free
  binding_.Forget(*subscription.connection, subscription.thread->id());
  const UserId& user = subscription.connection->user;
  size_t& claims = registry_.UserOf(user).claims;
  if (subscription.no_claim) {
    SayClaim(subscription);
    // Should it become the user's it is bound like any other.
    if (AllThreads* all = subscription.connection->all.get())
      all->bound.erase(subscription.thread->id());
    return DropAndTell(subscription, after);
  }
  if (claims >= options_.claims_per_user && !IsCanary(user)) {
    return Refuse(subscription, Reason::kRateLimited, "too many claims", after);
  }
  ++claims;
  subscription.phase = Subscription::Phase::kClaim;
  // Should it go live, the thread was empty when it asked: nothing is older than its `live`.
  if (subscription.live && !subscription.start.after) subscription.start = Start::After({});
  SayClaim(subscription);
  for (const PendingAck& ack : std::exchange(subscription.acks, {})) {
    JudgeAck(subscription, ack, after);
  }
}

void Core::StartSubscription(Subscription& subscription, Deferred& after) {
  Followed& thread = *subscription.thread;
  const log::ThreadState& state = thread.state();
  if (subscription.phase == Subscription::Phase::kClaim) {
    --registry_.UserOf(subscription.connection->user).claims;
  }
  Resolution resolution = Resolve(state, subscription.start);
  subscription.first = resolution.from;
  const bool began = subscription.began != Offset(0);
  subscription.began = began ? std::min(subscription.began, resolution.from) : resolution.from;
  thread.MarkStarted(&subscription);
  if (Polling* polling = subscription.connection->polling.get())
    polling->deleted.erase(thread.id());
  if (subscription.resting()) return;  // a claim: its page hears of it when it asks again
  thread.Join(subscription.attached);

  v1::ServiceMessage message;
  v1::SubscriptionStarted& started = *message.mutable_started();
  started.set_subscription_id(subscription.id);
  started.mutable_last()->set_epoch(state.end().epoch.str());
  started.mutable_last()->set_offset(state.last.value());
  started.set_from_offset(resolution.from.value());
  started.set_was_claim(subscription.was_claim);
  for (v1::Missed& missed : resolution.missed) *started.add_missed() = std::move(missed);
  AddActiveRuns(state, started.mutable_active_runs());
  subscription.attached->Say(std::move(message));
  if (const Position* awaited = receipts_.Awaited(thread.id())) {
    SayAwaitSent(*subscription.attached, thread.id(), *awaited);
  }

  // Its browser knows already, unless it had only been told of a claim.
  if (subscription.heard && subscription.start.after) Confirm(subscription, after);
  for (const PendingAck& ack : std::exchange(subscription.acks, {})) {
    JudgeAck(subscription, ack, after);
  }
}

void Core::Refuse(Subscription& subscription, Reason reason, std::string_view message,
                  Deferred& after) {
  subscription.attached->Say(Refusal(subscription.id, reason, message));
  RefuseAcks(subscription, reason, message);
  Drop(subscription, after);
}

// It was the user's, as its gateway says or as we know ourselves: no claim, and no secret.
bool Core::WasDeleted(const Subscription& subscription) {
  const Connection& connection = *subscription.connection;
  const ThreadId& thread = subscription.thread->id();
  return (subscription.thread->state().deleted && subscription.restored) ||
         (connection.polling != nullptr && connection.polling->deleted.contains(thread));
}

void Core::RefuseDeleted(Subscription& subscription, Deferred& after) {
  v1::ServiceMessage message = Refusal(subscription.id, Reason::kNotFound, kDeleted);
  if (Polling* polling = subscription.connection->polling.get()) {
    const auto deleted = polling->deleted.find(subscription.thread->id());
    if (deleted != polling->deleted.end()) {
      deleted->second.asked_for = true;
      const v1::Missed& missed = deleted->second.missed;
      if (missed.to_offset() > 0) *message.mutable_refused()->mutable_missed() = missed;
    }
  }
  subscription.attached->Say(std::move(message));
  RefuseAcks(subscription, Reason::kNotFound, kDeleted);
  Drop(subscription, after);
}

void Core::Unsubscribe(Attached& attached, uint64_t id, Deferred& after) {
  const auto found = attached.subscriptions.find(id);
  if (found == attached.subscriptions.end()) return;
  Subscription& subscription = *found->second;
  const Connection& connection = *subscription.connection;
  const Followed& thread = *subscription.thread;
  Subscription* at_rest = AtRest(connection, thread);
  // Not if another takes the place of this one.
  const auto goes_on = [&](const Subscription* other) {
    return other != &subscription && !other->resting() && other->thread == &thread;
  };
  if (at_rest != nullptr && absl::c_any_of(connection.subscriptions, goes_on)) at_rest = nullptr;
  DropAndTell(subscription, after);
  if (at_rest != nullptr) DropAndTell(*at_rest, after);
}

void Core::DropAndTell(Subscription& subscription, Deferred& after) {
  Connection& connection = *subscription.connection;
  const ThreadId thread = subscription.thread->id();
  const bool left = subscription.confirmed && !FollowsOtherwise(connection, subscription);
  Drop(subscription, after);
  if (left && connection.followed.erase(thread) > 0) {
    watchers_.Changed(connection, &thread, after);
  }
}

void Core::Drop(Subscription& subscription, Deferred& after) {
  Followed& thread = *subscription.thread;
  Connection& connection = *subscription.connection;
  RefuseAcks(subscription, Reason::kNotFound, "the subscription ended");
  thread.Remove(&subscription);
  Subscription*& place = connection.subscriptions[subscription.place_in_connection];
  place = connection.subscriptions.back();
  place->place_in_connection = subscription.place_in_connection;
  connection.subscriptions.pop_back();
  if (subscription.phase == Subscription::Phase::kClaim) --registry_.UserOf(connection.user).claims;
  if (subscription.phase == Subscription::Phase::kStarted) thread.Leave(subscription.attached);
  const bool counted = subscription.confirmed && !IsCanary(connection.user);
  subscription.attached->subscriptions.erase(subscription.id);  // destroys it
  if (counted) {
    --thread.confirmed;
    TellWaiters(connection.user, &thread.id(), after);
  }
  UnfollowIfIdle(thread, after);
}

void Core::Confirm(Subscription& subscription, Deferred& after) {
  if (subscription.phase != Subscription::Phase::kStarted) return;  // a claim is nobody's readiness
  if (std::exchange(subscription.confirmed, true)) return;
  if (TakeThePlaceAtRest(subscription, after)) return;
  Connection& connection = *subscription.connection;
  Followed& thread = *subscription.thread;
  if (connection.followed.insert(thread.id()).second) {
    watchers_.Changed(connection, nullptr, after);
  }
  if (IsCanary(connection.user)) return;
  ++thread.confirmed;
  TellWaiters(connection.user, &thread.id(), after);
}

void Core::SayBusy(const Followed& thread) {
  const auto& runs = thread.state().runs;
  const bool busy = std::any_of(runs.begin(), runs.end(),
                                [](const log::RunRecord& run) { return run.end == Offset(0); });
  if (!busy) return;
  for (const Feed& feed : thread.feeds()) {
    if (!feed.attached->draining) continue;
    v1::ServiceMessage message;
    message.mutable_thread_busy()->set_thread_id(thread.id().str());
    feed.attached->Say(std::move(message));
  }
}

void Core::UnfollowIfIdle(Followed& thread, Deferred& after) {
  if (!thread.idle() || thread.asking || thread.leaving || stopped_) return;
  thread.leaving = true;
  after.Add([core = shared_from_this(), id = thread.id()] {
    core->log_->Unfollow(id, core.get(), [core, id] { core->OnUnfollowed(id); });
  });
}

void Core::OnUnfollowed(const ThreadId& id) {
  Deferred after;
  MutexLock lock(mutex_);
  Followed* thread = FindThread(id);
  if (thread == nullptr) return;
  thread->leaving = false;
  thread->known = false;
  if (thread->idle()) {
    threads_.erase(id);
  } else {
    AskLog(*thread, after);  // somebody came meanwhile
  }
}

// Claims go live, connections that follow all threads of the user are bound to it.
void Core::OnThreadOwned(const ThreadId& id, const UserId& owner) {
  Deferred after;
  MutexLock lock(mutex_);
  for (Connection* connection : registry_.OpenOf(owner)) {
    if (connection->all != nullptr) BindAll(*connection, id);
  }
  Followed* thread = FindThread(id);
  if (thread == nullptr) return;
  thread->state().owner = owner;
  const auto& waiting = thread->waiting();
  const bool wanted = std::any_of(waiting.begin(), waiting.end(), [&](const Subscription* waits) {
    return waits->connection->user == owner;
  });
  if (!wanted) return;
  if (thread->asking) thread->ask_again = true;
  AskLog(*thread, after);
}

void Core::OnAppended(const ThreadId& id, const log::EventRun& run) {
  if (run.events.empty()) return;
  MutexLock lock(mutex_);
  Followed* thread = FindThread(id);
  if (thread == nullptr) return;
  thread->Append(run);
}

void Core::OnFloorRaised(const ThreadId& id, Offset floor, log::FloorReason reason) {
  MutexLock lock(mutex_);
  if (Followed* thread = FindThread(id); thread != nullptr) thread->RaiseFloor(floor, reason);
}

void Core::OnDeleted(const ThreadId& id, Offset last) {
  Deferred after;
  MutexLock lock(mutex_);
  if (Followed* thread = FindThread(id); thread != nullptr) EndDeleted(*thread, last, after);
}

// Claims never heard of it and hear nothing now.
void Core::EndDeleted(Followed& thread, Offset last, Deferred& after) {
  for (Connection* connection : registry_.OpenOf(thread.state().owner)) {
    if (connection->all != nullptr) connection->all->bound.erase(thread.id());
  }
  v1::Missed missed;
  missed.set_epoch(thread.state().end().epoch.str());
  missed.set_from_offset(1);
  missed.set_to_offset(last.value());
  missed.set_reason(v1::MISSED_REASON_DELETED);
  thread.state() = {};
  thread.state().thread = thread.id();
  thread.state().deleted = true;
  progress_.Forget(thread.id());
  receipts_.OnDeleted(thread.id(), after);
  thread.watches = 0;
  // A copy: what ends leaves the list.
  const std::vector<Subscription*> started(thread.started().begin(), thread.started().end());
  for (Subscription* subscription : started) {
    v1::ServiceMessage message = Refusal(subscription->id, Reason::kNotFound, kDeleted);
    if (last > Offset(0)) *message.mutable_refused()->mutable_missed() = missed;
    subscription->attached->Say(std::move(message));
    if (subscription->confirmed) RememberDeleted(*subscription->connection, thread.id(), missed);
    DropAndTell(*subscription, after);
  }
  UnfollowIfIdle(thread, after);
}

void Core::OnInterrupted(const ThreadId& id) {
  Deferred after;
  MutexLock lock(mutex_);
  Followed* thread = FindThread(id);
  if (thread == nullptr) return;
  if (thread->asking) thread->ask_again = true;
  AskLog(*thread, after);
}

}  // namespace clarion::delivery
