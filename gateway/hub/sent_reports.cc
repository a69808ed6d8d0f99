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
  // Some connection has yet to take something that is not reported.
  bool more = false;
};

Look LookAt(const Feed& feed) {
  Look look{.sent = feed.sent.reported};
  for (const Subscription* subscription : feed.subscriptions()) {
    const Join& join = subscription->join;
    if (!join.running() || !IsBeyond(join.position(), look.sent)) continue;
    if (!subscription->subscriber()->Drained()) {
      look.more = true;
      continue;
    }
    // Of two epochs that of the feed is the newer one.
    const bool older = look.sent.epoch == feed.tail().epoch &&
                       join.position().epoch != feed.tail().epoch && look.sent.offset > Offset(0);
    if (older) continue;
    look.sent = join.position();
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
  std::vector<boost::intrusive_ptr<Feed>> moved;
  bool awaited = false;
  std::erase_if(noted_, [&](const boost::intrusive_ptr<Feed>& feed) {
    const Look look = LookAt(*feed);
    if (IsBeyond(look.sent, feed->sent.reported)) {
      feed->sent.reported = look.sent;
      moved.push_back(feed);
    }
    awaited = awaited || (look.more && feed->sent.awaited > look.sent.offset);
    feed->sent.noted = look.more;
    return !look.more;
  });
  Say(moved);
  if (!noted_.empty()) Arm(awaited ? std::min(delay * 2, kUsual) : kUsual);
}

void SentReports::Say(const std::vector<boost::intrusive_ptr<Feed>>& feeds) {
  v1::GatewayMessage message;
  for (const auto& feed : feeds) {
    v1::SentThread& thread = *message.mutable_events_sent()->add_threads();
    thread.set_thread_id(feed->thread().str());
    *thread.mutable_position() = feed->sent.reported.ToProto();
    if (message.events_sent().threads_size() < kMaxThreads) continue;
    link_->Send(std::exchange(message, {}));
  }
  if (message.has_events_sent()) link_->Send(std::move(message));
}

}  // namespace clarion::gateway
