#include "gateway/hub/join.h"

#include <algorithm>
#include <optional>

namespace clarion::gateway {

void Join::Ask() {
  state_ = State::kWaiting;
  told_ = false;
}

void Join::Interrupt() {
  state_ = State::kWaiting;
}

void Join::OnStarted(const v1::SubscriptionStarted& started, const SharedEpoch& epoch,
                     JoinOutput& out) {
  state_ = State::kReplaying;
  const Offset from(started.from_offset());
  const bool seamless =
      told_ && started.missed().empty() && from == position_.offset.next() && epoch == announced_;
  if (seamless) return;
  told_ = true;
  owes_caught_up_ = true;
  announced_ = epoch;
  announced_last_ = Offset(started.last().offset());
  position_ = {epoch, from.prev()};
  out.OnSubscribed({.epoch = announced_,
                    .from = from,
                    .last = announced_last_,
                    .missed = !started.missed().empty(),
                    .started = &started});
  for (const v1::Missed& missed : started.missed()) out.OnMissed(missed);
  SayCaughtUp(out);
}

void Join::Restate(const v1::SubscriptionStarted& started, const SharedEpoch& epoch,
                   JoinOutput& out) {
  // A newer epoch is announced when its first event comes.
  const Offset end(epoch == position_.epoch ? started.last().offset() : 0);
  announced_last_ = std::max(end, position_.offset);
  owes_caught_up_ = true;
  out.OnSubscribed({.epoch = announced_,
                    .from = position_.offset.next(),
                    .last = announced_last_,
                    .started = &started});
  SayCaughtUp(out);
}

bool Join::OnPage(const Chunk& page, JoinOutput& out) {
  if (!Continues(position_, page)) return false;
  if (!page.empty()) Deliver(page, 0, 0, out);
  return true;
}

bool Join::TryAttach(const Cursor& feed, LogEnd end) {
  const bool behind = position_.epoch == feed.epoch ? position_.offset < feed.offset
                                                    : end != LogEnd::kThereInFeedsEpoch;
  if (behind) return false;
  state_ = State::kAttached;
  return true;
}

void Join::OnOffer(const Cursor& before, const Chunk& chunk, JoinOutput& out) {
  if (position_ == before) {
    Deliver(chunk, 0, 0, out);
  } else {
    OnOfferAhead(before, chunk, out);
  }
}

void Join::OnOfferAhead(const Cursor& before, const Chunk& chunk, JoinOutput& out) {
  // What is missing for the feed may be something that was sent here.
  if (!chunk.missed.empty()) return Detach();
  for (size_t i = 0; i < chunk.runs.size(); ++i) {
    const EventRun& run = chunk.runs[i];
    if (run.epoch() != position_.epoch) continue;
    if (position_.offset < run.first().prev()) return Detach();
    if (position_.offset <= run.last()) {
      // Inside a compacted event it asks for the rest of it.
      const std::optional<size_t> next = run.IndexOf(position_.offset.next());
      return next.has_value() ? Deliver(chunk, i, *next, out) : Detach();
    }
  }
  // Still ahead; unless the feed has turned to an epoch that is not ours either.
  const SharedEpoch& now = chunk.runs.empty() ? before.epoch : chunk.runs.back().epoch();
  if (now != position_.epoch && now != before.epoch) Detach();
}

// Sends `chunk` from run `run` on, of which it has `skip` events already.
void Join::Deliver(const Chunk& chunk, size_t run, size_t skip, JoinOutput& out) {
  if (chunk.last.epoch != announced_) {
    Announce(chunk,
             run == 0 && skip == 0 ? NextAfter(position_.offset.next(), chunk.missed)
                                   : position_.offset.next(),
             out);
  }
  for (const v1::Missed& missed : chunk.missed) {
    out.OnMissed(missed);
    position_ = {chunk.last.epoch, NextAfter(position_.offset.next(), {missed}).prev()};
  }
  for (; run < chunk.runs.size(); ++run, skip = 0) {
    const EventRun& events = chunk.runs[run];
    if (skip < events.events().size()) out.OnEvents(events, skip);
    position_ = events.end();
  }
  SayCaughtUp(out);
}

void Join::Announce(const Chunk& chunk, Offset from, JoinOutput& out) {
  announced_ = chunk.last.epoch;
  announced_last_ = chunk.last.offset;
  owes_caught_up_ = true;
  out.OnSubscribed({.epoch = announced_,
                    .from = from,
                    .last = announced_last_,
                    .missed = !chunk.missed.empty()});
}

void Join::SayCaughtUp(JoinOutput& out) {
  if (!owes_caught_up_ || position_.offset < announced_last_) return;
  owes_caught_up_ = false;
  out.OnCaughtUp(position_.offset);
}

}  // namespace clarion::gateway
