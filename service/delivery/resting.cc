// Connections that poll. Between two polls a connection has no gateway: it rests, and counts with
// all it follows as if it had one. What it follows stays with it as subscriptions that nobody
// feeds; each ends when the next poll has followed its thread anew, and takes its place unnoticed.
#include <algorithm>
#include <utility>

#include "proto/contract/error.h"
#include "service/delivery/core.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace clarion::delivery {
namespace {

constexpr std::chrono::minutes kMaxLease{5};  // gateway_service.proto

constexpr std::string_view kLeaseOver = "lease expired";
constexpr std::string_view kTakenOver = "the connection polls elsewhere";

Counter& NoRoomCounter() {
  static Counter& counter =
      GetCounter("clarion_resting_refused_total",
                 "Connections closed between two polls because too many rest");
  return counter;
}

Gauge& RestingGauge() {
  static Gauge& gauge = GetGauge("clarion_resting_connections", "Connections between two polls");
  return gauge;
}

// To the gateway that has it.
void SayOvertaken(const Connection& connection) {
  v1::ServiceMessage said;
  v1::ConnectionRefused& refused = *said.mutable_connection_refused();
  refused.set_connection_id(connection.id.str());
  refused.set_opening(connection.polling->opening);
  refused.set_overtaken(true);
  refused.set_reason(std::string(NameOf(Reason::kNotFound)));
  refused.set_message(std::string(kTakenOver));
  connection.attached->Say(std::move(said));
}

// All that rests of it.
void MarkAskedFor(const Connection& connection, bool asked_for) {
  for (Subscription* subscription : connection.subscriptions) {
    if (subscription->resting()) subscription->asked_for = asked_for;
  }
  for (auto& [thread, deleted] : connection.polling->deleted) deleted.asked_for = asked_for;
}

}  // namespace

bool Core::Rest(Connection& connection, PollEnd end, std::chrono::nanoseconds lease,
                Deferred& after) {
  if (connection.polling == nullptr || lease <= std::chrono::nanoseconds::zero()) return false;
  if (resting_.connections.size() >= options_.resting_connections) {
    NoRoomCounter().Add();
    LogFailure(MakeError(
        Reason::kRateLimited,
        "as many connections rest between polls as --max-resting-connections allows: one more "
        "counts as gone",
        {.user_id = connection.user.str(), .operation = "poll"}));
    return false;
  }
  Park(connection, end, after);
  Polling& polling = *connection.polling;
  polling.lease = std::min<std::chrono::nanoseconds>(lease, kMaxLease);
  polling.rest = ++last_rest_;
  polling.timer = scheduler_->After(
      polling.lease, [core = weak_from_this(), id = connection.id, rest = polling.rest] {
        if (const std::shared_ptr<Core> self = core.lock()) self->EndLease(id, rest);
      });
  return true;
}

void Core::EndLease(const ConnectionId& id, uint64_t rest) {
  Deferred after;
  MutexLock lock(mutex_);
  Connection* connection = registry_.Find(id);
  if (connection == nullptr || !connection->resting() || connection->polling->rest != rest) return;
  CloseConnection(*connection, v1::CONNECTION_STATE_DISCONNECTED, kLeaseOver, after);
}

void Core::Park(Connection& connection, PollEnd end, Deferred& after) {
  if (end == PollEnd::kCutOff) MarkAskedFor(connection, true);
  std::vector<Subscription*> ends;
  // A copy: what is parked stays in the list, what ends does not.
  const std::vector<Subscription*> all = connection.subscriptions;
  for (Subscription* subscription : all) {
    if (subscription->resting()) {
      if (!subscription->asked_for) ends.push_back(subscription);
      continue;
    }
    const bool counts =
        subscription->confirmed || subscription->phase == Subscription::Phase::kClaim;
    if (counts && AtRest(connection, *subscription->thread) == nullptr) {
      ParkSubscription(*subscription);
    } else {
      ends.push_back(subscription);
    }
  }
  for (Subscription* subscription : ends) DropAndTell(*subscription, after);
  absl::erase_if(connection.polling->deleted,
                 [](const auto& deleted) { return !deleted.second.asked_for; });
  connection.all.reset();
  passing_.OnGone(connection, after);
  Registry::Move(connection, &resting_);
  CountResting();
}

void Core::EndRest(const Connection& connection) {
  if (connection.polling == nullptr || connection.polling->timer == 0) return;
  scheduler_->Cancel(std::exchange(connection.polling->timer, 0));
}

void Core::CountResting() const {
  RestingGauge().Set(static_cast<int64_t>(resting_.connections.size()));
}

void Core::ParkSubscription(Subscription& subscription) {
  Attached& from = *subscription.attached;
  if (subscription.phase == Subscription::Phase::kStarted) subscription.thread->Leave(&from);
  auto held = from.subscriptions.extract(subscription.id);
  subscription.id = ++last_at_rest_;
  subscription.attached = &resting_;
  subscription.asked_for = true;
  resting_.subscriptions.emplace(subscription.id, std::move(held.mapped()));
}

void Core::Reopen(Connection& connection, Attached& attached, uint64_t opening, Deferred& after) {
  if (!connection.resting()) {
    SayOvertaken(connection);
    Park(connection, PollEnd::kCutOff, after);
  }
  connection.polling->opening = opening;
  EndRest(connection);
  Registry::Move(connection, &attached);
  CountResting();
  connection.gateway = attached.gateway;
  MarkAskedFor(connection, false);
  for (const Binding::Open& bind : binding_.OpenFor(connection)) {
    SayBind(connection, bind.bind_id, bind.thread, false);
  }
  const auto follows = [&](const ThreadId& thread) { return Follows(connection, thread); };
  const std::optional<std::string> nonce = probes_.UnderWay(connection);
  if (nonce && readiness_.WantsProof(connection.user, follows)) SayProbe(connection, *nonce);
}

Subscription* Core::AtRest(const Connection& connection, const Followed& thread) {
  if (connection.polling == nullptr) return nullptr;
  const auto among = [&](const std::vector<Subscription*>& list) {
    const auto found = std::find_if(list.begin(), list.end(), [&](const Subscription* one) {
      return one->resting() && one->thread == &thread && one->connection == &connection;
    });
    return found == list.end() ? nullptr : *found;
  };
  // A connection may follow many threads, and a thread have many followers: the shorter list.
  const size_t followers = thread.started().size() + thread.waiting().size();
  if (connection.subscriptions.size() <= followers) return among(connection.subscriptions);
  Subscription* started = among(thread.started());
  return started != nullptr ? started : among(thread.waiting());
}

void Core::GoOnFromRest(Subscription& subscription, const v1::SubscribeThread& subscribe) {
  subscription.began = Offset(subscribe.began_offset());
  Subscription* at_rest = AtRest(*subscription.connection, *subscription.thread);
  if (at_rest == nullptr) return;
  at_rest->asked_for = true;
  subscription.restored = subscription.restored || at_rest->confirmed;
  subscription.heard = subscription.heard || at_rest->confirmed;
  subscription.was_claim = !at_rest->confirmed;
  if (subscription.start.after) {
    subscription.live = at_rest->live;
    subscription.began = at_rest->began;
  } else if (subscription.live && !at_rest->confirmed) {
    // It was a claim: nothing was older than its `live`.
    subscription.start = at_rest->start;
  }
}

bool Core::TakeThePlaceAtRest(const Subscription& subscription, Deferred& after) {
  Subscription* at_rest = AtRest(*subscription.connection, *subscription.thread);
  if (at_rest == nullptr) return false;
  const bool counted = std::exchange(at_rest->confirmed, false);
  Drop(*at_rest, after);
  return counted;
}

void Core::RememberDeleted(const Connection& connection, const ThreadId& thread,
                           const v1::Missed& missed) {
  if (connection.polling == nullptr) return;
  connection.polling->deleted[thread] = {.missed = missed, .asked_for = true};
}

}  // namespace clarion::delivery
