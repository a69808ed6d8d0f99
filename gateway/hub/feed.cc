#include "gateway/hub/feed.h"

#include <algorithm>
#include <utility>

#include "gateway/hub/sent_reports.h"
#include "gateway/hub/subscription.h"

namespace clarion::gateway {
namespace {

// What an event costs besides its bytes.
constexpr size_t kEventOverhead = 32;

size_t BytesOf(const EventPtr& event) {
  return event->bytes().size() + kEventOverhead;
}

// `run` from `first` on, which lies inside it.
EventRun Trimmed(const EventRun& run, Offset first) {
  const auto skip = static_cast<ptrdiff_t>(first.value() - run.first().value());
  return EventRun(run.epoch(), first, {run.events().begin() + skip, run.events().end()});
}

Chunk ChunkOf(EventRun run) {
  Chunk chunk;
  chunk.last = run.end();
  chunk.runs.push_back(std::move(run));
  return chunk;
}

}  // namespace

void Recent::Push(const EventRun& run) {
  const bool continues = !events_.empty() && run.epoch() == epoch_ &&
                         run.first().value() == first_.value() + events_.size();
  if (!continues) {
    Clear();
    epoch_ = run.epoch();
    first_ = run.first();
  }
  for (const EventPtr& event : run.events()) {
    events_.push_back(event);
    bytes_ += BytesOf(event);
    limits_->used += BytesOf(event);
  }
  while (!events_.empty() && (bytes_ > limits_->per_thread || limits_->used > limits_->total))
    PopFront();
}

std::optional<EventRun> Recent::After(const Cursor& position) const {
  const uint64_t end = first_.value() + events_.size();
  const Offset next = position.offset.next();
  if (position.epoch != epoch_ || next < first_ || next.value() >= end) return std::nullopt;
  const auto skip = static_cast<ptrdiff_t>(next.value() - first_.value());
  return EventRun(epoch_, next, {events_.begin() + skip, events_.end()});
}

void Recent::DropBelow(Offset floor) {
  while (!events_.empty() && first_ < floor) PopFront();
}

void Recent::PopFront() {
  bytes_ -= BytesOf(events_.front());
  limits_->used -= BytesOf(events_.front());
  events_.pop_front();
  first_ = first_.next();
}

void Recent::Clear() {
  events_.clear();
  limits_->used -= std::exchange(bytes_, 0);
}

SharedEpoch Feed::Intern(std::string_view name, const SharedEpoch& otherwise) const {
  if (tail_.epoch.str() == name) return tail_.epoch;
  if (live_end_.epoch.str() == name) return live_end_.epoch;
  if (otherwise.str() == name) return otherwise;
  return SharedEpoch(name);
}

void Feed::Add(Subscription* subscription) {
  subscription->place_in_feed = static_cast<uint32_t>(subscriptions_.size());
  subscriptions_.push_back(subscription);
}

void Feed::Remove(Subscription* subscription) {
  Subscription*& place = subscriptions_[subscription->place_in_feed];
  place = subscriptions_.back();
  place->place_in_feed = subscription->place_in_feed;
  subscriptions_.pop_back();
}

bool Feed::AnyAttached() const {
  return std::any_of(subscriptions_.begin(), subscriptions_.end(), [](const Subscription* s) {
    return s->join.state() == Join::State::kAttached;
  });
}

void Feed::OnStarted(const Cursor& position, const Cursor& last) {
  if (mode_ != Mode::kIdle) return;
  if (lagging_) {
    // Said to a subscription that is gone; the service still waits for FollowThread.
    SetTail(position);
    mode_ = Mode::kPulling;
  } else if (position == tail_ && tail_ != last) {
    // Restored where everybody stood: the gap is pulled once for all.
    live_end_ = last;
    ++live_turns_;
    mode_ = Mode::kPulling;
  } else {
    SetTail(last);
    mode_ = Mode::kLive;
  }
}

void Feed::OnLive(EventRun run) {
  if (mode_ == Mode::kIdle) return;
  const bool was_lagging = std::exchange(lagging_, false);  // the service does not think so
  if (mode_ == Mode::kPulling || !Fits(run)) {
    if (mode_ == Mode::kLive || was_lagging || run.epoch() != live_end_.epoch) ++live_turns_;
    mode_ = Mode::kPulling;
    ahead_ = false;
    live_end_ = run.end();
    Keep(run);
    TryGoLive();
    return;
  }
  if (run.last() <= tail_.offset) return;  // a page was faster
  if (run.first() != tail_.offset.next()) run = Trimmed(run, tail_.offset.next());
  const Chunk chunk = ChunkOf(std::move(run));
  Offer(chunk);
  if (any_replaying_) {
    Keep(chunk.runs.front());
  } else {
    recent_.reset();
  }
}

// A change of epoch may take back what was sent: only the log knows. Whoever saw nothing has
// nothing to be taken back.
bool Feed::Fits(const EventRun& run) const {
  if (run.epoch() == tail_.epoch) return run.first() <= tail_.offset.next();
  return tail_.offset == Offset(0) && run.first() == Offset(1);
}

void Feed::OnLagging() {
  lagging_ = true;
  ahead_ = false;
  follow_ = false;
  if (mode_ == Mode::kLive) mode_ = Mode::kPulling;
}

void Feed::OnFloorRaised(Offset floor) {
  if (recent_ != nullptr) recent_->DropBelow(floor);
}

void Feed::OnStopped() {
  const bool used = std::any_of(subscriptions_.begin(), subscriptions_.end(),
                                [](const Subscription* s) { return s->join.running(); });
  if (!used) OnUnused();
}

void Feed::OnUnused() {
  mode_ = Mode::kIdle;
  page_pending_ = false;
  follow_ = false;
  ahead_ = false;
  any_replaying_ = false;
  recent_.reset();
}

void Feed::OnLinkDown() {
  OnUnused();
  lagging_ = false;
  failing_since = {};
}

bool Feed::WantsPage() const {
  if (mode_ != Mode::kPulling || page_pending_ || ahead_) return false;
  return std::any_of(subscriptions_.begin(), subscriptions_.end(), [](const Subscription* s) {
    return s->join.state() == Join::State::kAttached && s->subscriber()->HasRoom();
  });
}

std::array<bool, kContents> Feed::Wanted() const {
  std::array<bool, kContents> wanted = {};
  for (const Subscription* s : subscriptions_) {
    if (s->join.state() == Join::State::kAttached)
      wanted[static_cast<size_t>(ContentOf(s->subscriber()->encoding()))] = true;
  }
  return wanted;
}

bool Feed::WantsFull() const {
  return std::any_of(subscriptions_.begin(), subscriptions_.end(), [](const Subscription* s) {
    return s->full && s->join.state() == Join::State::kAttached;
  });
}

Feed::Ticket Feed::BeginPage() {
  page_pending_ = true;
  return {.pull = ++pulls_, .turns = live_turns_};
}

Feed::PageResult Feed::OnPage(const Ticket& ticket, const Chunk& page) {
  page_pending_ = false;
  if (!Continues(tail_, page)) return PageResult::kRetryLater;
  if (!page.empty()) OfferPage(page);
  const bool at_end = tail_ == page.last;
  if (lagging_) {
    if (at_end) {
      lagging_ = false;
      follow_ = true;
      mode_ = Mode::kLive;
    }
    return at_end || !page.empty() ? PageResult::kGood : PageResult::kRetryLater;
  }
  TryGoLive();
  if (mode_ == Mode::kLive) return PageResult::kGood;
  ahead_ = at_end && tail_.epoch != live_end_.epoch && ticket.turns == live_turns_;
  return ahead_ || !page.empty() ? PageResult::kGood : PageResult::kRetryLater;
}

void Feed::Adopt(const Cursor& position) {
  SetTail(position);
  page_pending_ = false;
  lagging_ = false;
  follow_ = true;
  mode_ = Mode::kLive;
}

std::optional<Chunk> Feed::RecentAfter(const Cursor& position) const {
  if (recent_ == nullptr || mode_ != Mode::kLive) return std::nullopt;
  std::optional<EventRun> run = recent_->After(position);
  if (!run.has_value() || run->end() != tail_) return std::nullopt;
  return ChunkOf(*std::move(run));
}

void Feed::DropRecentIfUnused() {
  if (recent_ == nullptr || mode_ != Mode::kLive) return;
  if (AnyReplaying()) return;
  recent_.reset();
  any_replaying_ = false;
}

void Feed::AddToReports() {
  reports_->Add(*this);
}

// From where the last one was found: asked after each that joins, all of them together walk the
// list once.
bool Feed::AnyReplaying() {
  const size_t size = subscriptions_.size();
  for (size_t i = 0; i < size; ++i) {
    const size_t at = (replaying_at_ + i) % size;
    if (subscriptions_[at]->join.state() != Join::State::kReplaying) continue;
    replaying_at_ = static_cast<uint32_t>(at);
    return true;
  }
  return false;
}

void Feed::SetTail(const Cursor& tail) {
  tail_ = tail;
  ++turns_;
}

void Feed::Offer(const Chunk& chunk) {
  const Cursor before = tail_;
  tail_ = chunk.runs.empty()
              ? Cursor{chunk.last.epoch, NextAfter(tail_.offset.next(), chunk.missed).prev()}
              : chunk.runs.back().end();
  if (tail_.epoch != before.epoch) ++turns_;
  any_replaying_ = false;
  for (Subscription* s : subscriptions_) {
    const bool offered = s->join.state() == Join::State::kAttached;
    if (offered) s->join.OnOffer(before, chunk, *s);
    if (s->join.state() != Join::State::kReplaying) continue;
    any_replaying_ = true;
    if (offered) detached_ = true;
  }
}

// A page may be large: those without room fetch it later, at their own pace.
void Feed::OfferPage(const Chunk& page) {
  for (Subscription* s : subscriptions_) {
    if (s->join.state() != Join::State::kAttached) continue;
    const bool has = page.has[static_cast<size_t>(ContentOf(s->subscriber()->encoding()))];
    // It may have joined after the page was asked for.
    const bool fits = has && (!s->full || !page.compacted());
    if (fits && s->subscriber()->HasRoom()) continue;
    s->join.Detach();
    detached_ = true;
  }
  Offer(page);
}

// Goes on live if the tail has come to where the stream is, or what is between is kept.
void Feed::TryGoLive() {
  if (page_pending_ || tail_.epoch != live_end_.epoch) return;
  if (tail_.offset < live_end_.offset) {
    const std::optional<EventRun> rest = recent_ == nullptr ? std::nullopt : recent_->After(tail_);
    if (!rest.has_value() || rest->end() != live_end_) return;
    Offer(ChunkOf(*rest));
  }
  mode_ = Mode::kLive;
  DropRecentIfUnused();
}

void Feed::Keep(const EventRun& run) {
  if (recent_ == nullptr) recent_ = std::make_unique<Recent>(limits_);
  recent_->Push(run);
}

}  // namespace clarion::gateway
