#include "gateway/hub/subscription.h"

#include <utility>

namespace clarion::gateway {

void Subscription::OnSubscribed(const Subscribed& subscribed) {
  if (subscribed.started != nullptr) sent_from = {};
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
  Send(frame);
}

void Subscription::OnMissed(const v1::Missed& missed) {
  sent_from = {};
  v1::ServerFrame frame;
  v1::MissedRange& said = *frame.mutable_missed();
  said.set_thread_id(feed->thread().str());
  said.set_epoch(missed.epoch());
  said.set_from_offset(missed.from_offset());
  said.set_to_offset(missed.to_offset());
  said.set_reason(missed.reason());
  if (missed.has_discard_after()) said.set_discard_after(missed.discard_after());
  Send(frame);
}

void Subscription::OnCaughtUp(Offset offset) {
  v1::ServerFrame frame;
  frame.mutable_caught_up()->set_thread_id(feed->thread().str());
  frame.mutable_caught_up()->set_offset(offset.value());
  Send(frame);
}

}  // namespace clarion::gateway
