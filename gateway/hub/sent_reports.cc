#include "gateway/hub/sent_reports.h"

#include <algorithm>
#include <utility>

#include "gateway/hub/subscription.h"

namespace clarion::gateway {
namespace {

constexpr int kMaxThreads = 1'000;  // of one message

bool IsBeyond(const Cursor& position, const Cursor& other) {
  return position.epoch != other.epoch || position.offset > other.offset;
}

struct Look {
  Cursor sent;
  Offset from;
  // Some connection has yet to take something that is not reported.
  bool more = false;
};

// How far `subscription` has come on its connection's socket; its own offset if that waits for
// nothing.
Offset WrittenUpTo(Subscription& subscription) {
  const Offset position = subscription.join.position().offset;
  const Subscriber::Mark mark = subscription.subscriber()->mark();
  if (mark.written == mark.queued) {
    subscription.unwritten_until = 0;
    return position;
  }
  // What was taken back since is sent again.
  if (subscription.unwritten > position) subscription.unwritten_until = 0;
  Offset written;
  if (subscription.unwritten_until != 0 && mark.written >= subscription.unwritten_until) {
    written = subscription.unwritten;
    subscription.unwritten_until = 0;
  }
  if (subscription.unwritten_until == 0) {
    subscription.unwritten = position;
    subscription.unwritten_until = mark.queued;
  }
  return written;
}

void LookAt(Subscription& subscription, Look& look) {
  const Join& join = subscription.join;
  if (!join.running() || !IsBeyond(join.position(), look.sent)) return;
  // Where it stands is not what it was sent: it may have begun there, or been told `missed`.
  if (subscription.sent_from == Offset(0) || join.position().offset < subscription.sent_from)
    return;
  const Cursor written{join.position().epoch, WrittenUpTo(subscription)};
  look.more = look.more || written.offset < join.position().offset;
  if (written.offset < subscription.sent_from || !IsBeyond(written, look.sent)) return;
  // Of two epochs that of the feed is the newer one.
  const SharedEpoch& newer = subscription.feed->tail().epoch;
  const bool older =
      look.sent.epoch == newer && written.epoch != newer && look.sent.offset > Offset(0);
  if (older) return;
  look.sent = written;
  look.from = subscription.sent_from;
}

Look LookAt(const Feed& feed) {
  Look look{.sent = feed.sent.reported};
  for (Subscription* subscription : feed.subscriptions()) {
    LookAt(*subscription, look);
    if (look.sent == feed.tail()) break;
  }
  look.more = look.more && look.sent != feed.tail();
  return look;
}

}  // namespace

void SentReports::Add(Feed& feed) {
  feed.sent.noted = true;
  noted_.emplace_back(&feed);
  Arm(feed.sent.awaited > feed.sent.reported.offset ? kAwaited : kUsual);
}

void SentReports::Await(Feed& feed, Offset offset) {
  feed.sent.awaited = offset;
  feed.sent.reported = {};
  if (!feed.sent.noted) return Add(feed);
  Arm(kAwaited);
}

void SentReports::Arm(Delay delay) {
  if (armed_ > Delay(0) && armed_ <= delay) return;
  armed_ = delay;
  options_.after(delay, [this, alive = alive_, timer = ++timer_, delay] {
    if (*alive && timer == timer_) Run(delay);
  });
}

void SentReports::Run(Delay delay) {
  armed_ = Delay(0);
  std::vector<Moved> moved;
  bool awaited = false;
  std::erase_if(noted_, [&](const boost::intrusive_ptr<Feed>& feed) {
    const Look look = LookAt(*feed);
    if (IsBeyond(look.sent, feed->sent.reported)) {
      feed->sent.reported = look.sent;
      moved.push_back({feed, look.from});
    }
    awaited = awaited || (look.more && feed->sent.awaited > look.sent.offset);
    feed->sent.noted = look.more;
    return !look.more;
  });
  Say(moved);
  if (!noted_.empty()) Arm(awaited ? std::min(delay * 2, kUsual) : kUsual);
}

void SentReports::Mark(Subscription& subscription) {
  if (!subscription.join.running()) return;
  subscription.unwritten = subscription.join.position().offset;
  subscription.unwritten_until = subscription.subscriber()->mark().queued;
}

void SentReports::Report(const std::vector<Subscription*>& subscriptions) {
  std::vector<Moved> moved;
  for (Subscription* subscription : subscriptions) {
    Feed& feed = *subscription->feed;
    if (!feed.sent.noted) continue;
    Look look{.sent = feed.sent.reported};
    LookAt(*subscription, look);
    if (!IsBeyond(look.sent, feed.sent.reported)) continue;
    feed.sent.reported = look.sent;
    moved.push_back({&feed, look.from});
  }
  Say(moved);
}

void SentReports::Say(const std::vector<Moved>& moved) {
  v1::GatewayMessage message;
  for (const auto& [feed, from] : moved) {
    v1::SentThread& thread = *message.mutable_events_sent()->add_threads();
    thread.set_thread_id(feed->thread().str());
    *thread.mutable_position() = feed->sent.reported.ToProto();
    thread.set_from_offset(from.value());
    if (message.events_sent().threads_size() < kMaxThreads) continue;
    link_->Send(std::exchange(message, {}));
  }
  if (message.has_events_sent()) link_->Send(std::move(message));
}

}  // namespace clarion::gateway
