// Acks: which of them count, and what the gateway is told.
#include <algorithm>
#include <utility>

#include "proto/contract/error.h"
#include "service/delivery/core.h"
#include "telemetry/log.h"

namespace clarion::delivery {
namespace {

// Acks that may wait for the start of their subscription.
constexpr size_t kMaxWaitingAcks = 64;

v1::ServiceMessage Counts(uint64_t ack_id, Offset acknowledged) {
  v1::ServiceMessage message;
  message.mutable_ack_result()->set_ack_id(ack_id);
  message.mutable_ack_result()->set_acknowledged(acknowledged.value());
  return message;
}

v1::ServiceMessage CountsNot(uint64_t ack_id, Reason reason, std::string_view why,
                             Offset acknowledged) {
  v1::ServiceMessage message = Counts(ack_id, acknowledged);
  message.mutable_ack_result()->set_reason(std::string(NameOf(reason)));
  message.mutable_ack_result()->set_message(std::string(why));
  return message;
}

}  // namespace

void Core::Ack(Attached& attached, const v1::AckThread& message, Deferred& after) {
  const PendingAck ack{
      .id = message.ack_id(),
      .position = {Epoch(message.position().epoch()), Offset(message.position().offset())},
      .last_sent = Offset(message.last_sent_offset())};
  const auto found = attached.subscriptions.find(message.subscription_id());
  if (found == attached.subscriptions.end()) {
    return attached.Say(CountsNot(ack.id, Reason::kNotFound, "no such subscription", Offset(0)));
  }
  Subscription& subscription = *found->second;
  if (subscription.phase != Subscription::Phase::kWaiting) {
    return JudgeAck(subscription, ack, after);
  }
  if (subscription.acks.size() < kMaxWaitingAcks) return subscription.acks.push_back(ack);
  attached.Say(CountsNot(ack.id, Reason::kRateLimited, "too many acks wait", Offset(0)));
}

void Core::RefuseAcks(Subscription& subscription, Reason reason, std::string_view why) {
  for (const PendingAck& ack : std::exchange(subscription.acks, {})) {
    subscription.attached->Say(CountsNot(ack.id, reason, why, Offset(0)));
  }
}

void Core::JudgeAck(Subscription& subscription, const PendingAck& ack, Deferred& after) {
  Attached& attached = *subscription.attached;
  if (subscription.phase == Subscription::Phase::kClaim) {
    return attached.Say(CountsNot(ack.id, Reason::kAckInvalid, "nothing was sent", Offset(0)));
  }
  const UserId& user = subscription.connection->user;
  if (IsCanary(user)) return attached.Say(Counts(ack.id, Offset(0)));

  const log::ThreadState& state = subscription.thread->state();
  const Position end = state.end();
  // What was sent to a page that polls is not known here: only what there is at all.
  const bool polls = subscription.connection->polling != nullptr;
  const bool beyond =
      !polls && ack.position.offset > std::max(subscription.first.prev(), ack.last_sent);
  const bool seamless = Seamless(state, ack.position);
  // A page may have shown an epoch of which we have not been told yet.
  const bool maybe_new = !seamless && !beyond && !HasEpoch(state, ack.position.epoch);
  if (!seamless && !Ahead(state, ack.position) && !maybe_new) {
    return attached.Say(CountsNot(ack.id, Reason::kEpochChanged,
                                  "the log does not hold what this position says any more",
                                  state.acknowledged));
  }
  if (beyond) {
    return attached.Say(
        CountsNot(ack.id, Reason::kAckInvalid, "this was not sent yet", state.acknowledged));
  }
  const bool leaves_out = subscription.live && subscription.began > state.acknowledged.next();
  if (leaves_out && (maybe_new || (polls && !seamless))) return AskLogOf(subscription, ack, after);
  if (leaves_out || (!maybe_new && ack.position.offset <= state.acknowledged)) {
    return attached.Say(Counts(ack.id, state.acknowledged));
  }
  // If known, the same place in the numbering of now; the commit checks epoch and end.
  after.Add([core = shared_from_this(), carrier = attached.carrier,
             thread = subscription.thread->id(), user, id = ack.id,
             position = Position{maybe_new ? ack.position.epoch : end.epoch, ack.position.offset},
             had = state.acknowledged] {
    core->log_->Ack(
        thread, user, position,
        [carrier, thread, user, id, had](absl::StatusOr<log::AckResult> result) {
          if (result.ok()) return carrier->SendControl(Counts(id, result->acknowledged));
          const absl::Status failure =
              WithContext(result.status(),
                          {.user_id = user.str(), .thread_id = thread.str(), .operation = "ack"});
          LogFailure(failure);
          carrier->SendControl(CountsNot(id, ReasonOf(failure).value_or(Reason::kLogUnavailable),
                                         std::string(failure.message()), had));
        });
  });
}

// It moves nothing in any case, but a page that names what never was is told so.
void Core::AskLogOf(const Subscription& subscription, const PendingAck& ack, Deferred& after) {
  after.Add([core = shared_from_this(), carrier = subscription.attached->carrier,
             thread = subscription.thread->id(), ack,
             had = subscription.thread->state().acknowledged] {
    core->log_->GetState(thread, [carrier, ack, had](absl::StatusOr<log::ThreadState> state) {
      if (!state.ok() || Seamless(*state, ack.position)) {
        return carrier->SendControl(Counts(ack.id, had));
      }
      if (Ahead(*state, ack.position)) {
        return carrier->SendControl(
            CountsNot(ack.id, Reason::kAckInvalid, "the offset is beyond the thread's end", had));
      }
      carrier->SendControl(CountsNot(ack.id, Reason::kEpochChanged,
                                     "the log does not hold what this position says any more",
                                     had));
    });
  });
}

}  // namespace clarion::delivery
