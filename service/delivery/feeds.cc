#include "service/delivery/feeds.h"

#include <algorithm>
#include <utility>

#include "telemetry/metrics.h"

namespace clarion::delivery {
namespace {

// What an event costs besides its bytes.
constexpr size_t kEventOverhead = 64;

size_t BytesOf(const log::EventRun& run) {
  size_t bytes = kEventOverhead;
  for (const EventPtr& event : run.events) bytes += event->bytes().size() + kEventOverhead;
  return bytes;
}

Counter& LaggingCounter() {
  static Counter& counter =
      GetCounter("clarion_link_lagging_total",
                 "Times a gateway's live queue was full or had a gap for a thread");
  return counter;
}

v1::MissedReason ToMissedReason(log::FloorReason reason) {
  return reason == log::FloorReason::kDeleted ? v1::MISSED_REASON_DELETED
                                              : v1::MISSED_REASON_EXPIRED;
}

// Takes `item` out of `list` by putting the last one in its place.
void SwapOut(std::vector<Subscription*>& list, Subscription* item) {
  list[item->index] = list.back();
  list[item->index]->index = item->index;
  list.pop_back();
}

}  // namespace

void CatchUpTail::Push(const log::EventRun& run) {
  const size_t bytes = BytesOf(run);
  if (bytes > kMaxBytes || budget_->used + bytes > budget_->limit) {
    Clear();  // what follows would not be contiguous with what is kept
    return;
  }
  // After a roll-back the numbering goes on below what is kept.
  if (!runs_.empty() && run.first != runs_.back().last().next()) Clear();
  runs_.push_back(run);
  bytes_ += bytes;
  budget_->used += bytes;
  while (bytes_ > kMaxBytes) {
    const size_t oldest = BytesOf(runs_.front());
    runs_.pop_front();
    bytes_ -= oldest;
    budget_->used -= oldest;
  }
}

void CatchUpTail::Clear() {
  runs_.clear();
  budget_->used -= bytes_;
  bytes_ = 0;
}

void Followed::Refresh(log::ThreadState fresh) {
  const Epoch had = state_.end().epoch;
  state_ = std::move(fresh);
  known = true;
  for (Feed& feed : feeds_) {
    if (feed.lagging) continue;
    const Resolution here = Resolve(state_, Start::After({had, feed.next.prev()}));
    const bool continues = here.missed.empty() && here.from == state_.last.next();
    if (!continues) Lag(feed, here.from);
  }
  // What the engine left out is not in the tail either; and what it lost must not be.
  if (!tail_.EndsAt(state_.end())) tail_.Clear();
}

void Followed::Append(const log::EventRun& run) {
  const bool new_epoch = state_.epochs.empty() || state_.epochs.back().epoch != run.epoch;
  if (new_epoch) {
    state_.epochs.push_back({run.epoch, run.first});
    // A log that lost its tail may have lost the raising of its floor, and acks, with it.
    state_.floor = std::min(state_.floor, run.first);
    state_.acknowledged = std::min(state_.acknowledged, run.first.prev());
    for (Feed& feed : feeds_) {
      // The numbering goes on below what was sent: the epoch says so to the gateway.
      if (!feed.lagging) feed.next = std::min(feed.next, run.first);
    }
  }
  state_.last = run.last();
  for (Feed& feed : feeds_) Deliver(feed, run);
  if (lagging_ > 0) tail_.Push(run);
}

void Followed::Deliver(Feed& feed, const log::EventRun& run) {
  if (feed.lagging || run.last() < feed.next) return;
  if (run.first > feed.next || !SendFrom(feed, run, feed.next)) Lag(feed, feed.next);
}

// Sends what `run` has from `from` on, which lies inside it.
bool Followed::SendFrom(Feed& feed, const log::EventRun& run, Offset from) {
  const size_t skip = from.value() - run.first.value();
  link::Live live{.thread = id_,
                  .epoch = run.epoch,
                  .first = from,
                  .events = {run.events.begin() + static_cast<ptrdiff_t>(skip), run.events.end()}};
  if (!feed.attached->carrier->SendLive(std::move(live))) return false;
  feed.next = run.last().next();
  return true;
}

// Also for a feed that lags already.
void Followed::Lag(Feed& feed, Offset from) {
  if (!feed.lagging) ++lagging_;
  feed.lagging = true;
  feed.next = from;
  LaggingCounter().Add();
  v1::ServiceMessage message;
  v1::Lagging& lagging = *message.mutable_lagging();
  lagging.set_thread_id(id_.str());
  lagging.mutable_from()->set_epoch(EpochAt(state_, from).str());
  lagging.mutable_from()->set_offset(from.value());
  feed.attached->Say(std::move(message));
}

void Followed::RaiseFloor(Offset floor, log::FloorReason reason) {
  state_.floor = std::max(state_.floor, floor);
  v1::ServiceMessage message;
  v1::FloorRaised& raised = *message.mutable_floor_raised();
  raised.set_thread_id(id_.str());
  raised.set_floor(floor.value());
  raised.set_reason(ToMissedReason(reason));
  for (Feed& feed : feeds_) feed.attached->Say(message);
}

void Followed::Join(Attached* attached) {
  for (Feed& feed : feeds_) {
    if (feed.attached != attached) continue;
    ++feed.subscriptions;
    return;
  }
  feeds_.push_back({.attached = attached, .subscriptions = 1, .next = state_.last.next()});
}

void Followed::Leave(Attached* attached) {
  for (Feed& feed : feeds_) {
    if (feed.attached != attached) continue;
    if (--feed.subscriptions > 0) return;
    if (feed.lagging) --lagging_;
    std::swap(feed, feeds_.back());
    feeds_.pop_back();
    DropTailIfUnused();
    return;
  }
}

void Followed::Resume(Attached* attached, const Position& position) {
  const auto feed = std::find_if(feeds_.begin(), feeds_.end(),
                                 [&](const Feed& f) { return f.attached == attached; });
  if (feed == feeds_.end() || !feed->lagging) return;
  if (Ahead(state_, position)) {
    // What it pulled is still to be passed to us; should it be lost instead, the epoch that begins
    // further back takes the feed there.
    feed->next = position.offset.next();
    return GoOn(*feed);
  }
  const Resolution here = Resolve(state_, Start::After(position));
  const bool at_end = here.from == state_.last.next();
  if (!here.missed.empty() || (!at_end && !tail_.Covers(here.from))) return Lag(*feed, here.from);
  feed->next = here.from;
  for (const log::EventRun& run : tail_.runs()) {
    if (run.last() < feed->next) continue;
    if (!SendFrom(*feed, run, feed->next)) return Lag(*feed, feed->next);
  }
  GoOn(*feed);
}

void Followed::GoOn(Feed& feed) {
  feed.lagging = false;
  --lagging_;
  DropTailIfUnused();
}

void Followed::DropTailIfUnused() {
  if (lagging_ == 0) tail_.Clear();
}

void Followed::Add(Subscription* subscription) {
  subscription->index = waiting_.size();
  waiting_.push_back(subscription);
}

void Followed::Remove(Subscription* subscription) {
  const bool started = subscription->phase == Subscription::Phase::kStarted;
  SwapOut(started ? started_ : waiting_, subscription);
}

void Followed::MarkStarted(Subscription* subscription) {
  SwapOut(waiting_, subscription);
  subscription->phase = Subscription::Phase::kStarted;
  subscription->index = started_.size();
  started_.push_back(subscription);
}

}  // namespace clarion::delivery
