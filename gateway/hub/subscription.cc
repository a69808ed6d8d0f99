#include "gateway/hub/subscription.h"

#include <utility>

namespace clarion::gateway {
namespace {

// The page stands where it said.
bool GoesOn(const StartAt& start, const JoinOutput::Subscribed& subscribed) {
  return subscribed.epoch.str() == start.after->epoch.str() &&
         subscribed.from == start.after->offset.next();
}

}  // namespace

void Subscription::OnSubscribed(const Subscribed& subscribed) {
  if (subscribed.started != nullptr) ForgetSent();
  quiet = request != nullptr && request->resumed && !subscribed.missed &&
          GoesOn(request->start, subscribed);
  if (request != nullptr && std::exchange(request->tell_bound, false)) {
    v1::ServerFrame bound;
    bound.mutable_bound()->set_thread_id(feed->thread().str());
    Send(bound);
  }
  v1::ServerFrame frame;
  if (request != nullptr) frame.set_id(std::exchange(request->id, {}));
  v1::Subscribed& said = *frame.mutable_subscribed();
  said.set_thread_id(feed->thread().str());
  said.set_epoch(std::string(subscribed.epoch.str()));
  said.set_from_offset(subscribed.from.value());
  said.set_last_offset(subscribed.last.value());
  said.set_missed(subscribed.missed);
  if (subscribed.started != nullptr)
    *said.mutable_active_runs() = subscribed.started->active_runs();
  Send(frame, quiet);
}

void Subscription::OnMissed(const v1::Missed& missed) {
  ForgetSent();
  quiet = false;
  Send(MissedFrame(feed->thread().str(), missed));
}

void Subscription::OnCaughtUp(Offset offset) {
  v1::ServerFrame frame;
  frame.mutable_caught_up()->set_thread_id(feed->thread().str());
  frame.mutable_caught_up()->set_offset(offset.value());
  Send(frame, quiet);
}

}  // namespace clarion::gateway
