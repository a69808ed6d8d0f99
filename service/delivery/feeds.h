// A thread that somebody follows: its state as of the last commit that was passed, and one feed for
// each attachment that has a running subscription of it.
//
// Not thread-safe: guarded by Core's lock. It calls nothing but SendLive and SendControl, which
// only enqueue.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "proto/contract/ids.h"
#include "service/delivery/records.h"
#include "service/log/log.h"

namespace clarion::delivery {

// The live stream of one thread to one attachment.
struct Feed {
  Attached* attached = nullptr;
  // Running subscriptions on that attachment.
  uint32_t subscriptions = 0;
  // Nothing is sent until FollowThread.
  bool lagging = false;
  // Everything before this offset was sent, or pulled by the gateway.
  Offset next;
};

// Bytes that all threads' catch-up tails may hold together, and hold now.
struct TailBudget {
  size_t limit = 16 * 1024 * 1024;
  size_t used = 0;
};

// The newest events of a thread, kept while a feed of it lags, so that a gateway that pulled
// nearly all can go on live although events keep coming.
class CatchUpTail {
 public:
  static constexpr size_t kMaxBytes = 256 * 1024;

  explicit CatchUpTail(TailBudget* budget) : budget_(budget) {}
  ~CatchUpTail() { Clear(); }
  CatchUpTail(const CatchUpTail&) = delete;
  CatchUpTail& operator=(const CatchUpTail&) = delete;

  void Push(const log::EventRun& run);
  void Clear();
  bool Covers(Offset from) const { return !runs_.empty() && runs_.front().first <= from; }
  bool EndsAt(const Position& end) const {
    return !runs_.empty() && runs_.back().epoch == end.epoch && runs_.back().last() == end.offset;
  }
  const std::deque<log::EventRun>& runs() const { return runs_; }

 private:
  TailBudget* const budget_;
  std::deque<log::EventRun> runs_;
  size_t bytes_ = 0;
};

class Followed {
 public:
  Followed(ThreadId id, TailBudget* budget) : id_(std::move(id)), tail_(budget) {}

  const ThreadId& id() const { return id_; }
  // Owner, epochs, last, floor and acknowledged as of the last call; runs only inside Core's
  // handling of a fresh state.
  log::ThreadState& state() { return state_; }
  const log::ThreadState& state() const { return state_; }

  // A fresh state, in its place between commits. Feeds that do not continue there begin to lag.
  void Refresh(log::ThreadState fresh);
  void Append(const log::EventRun& run);
  void RaiseFloor(Offset floor, log::FloorReason reason);

  // One more or one fewer running subscription on `attached`. The first one's feed begins behind
  // the thread's end.
  void Join(Attached* attached);
  void Leave(Attached* attached);
  // The gateway has everything up to `position`: go on there, or say Lagging again.
  void Resume(Attached* attached, const Position& position);

  const std::vector<Feed>& feeds() const { return feeds_; }
  bool FeedsTo(const Attached* attached) const {
    return std::any_of(feeds_.begin(), feeds_.end(),
                       [&](const Feed& feed) { return feed.attached == attached; });
  }

  void Add(Subscription* subscription);
  void Remove(Subscription* subscription);
  // Moves it from waiting() to started().
  void MarkStarted(Subscription* subscription);
  bool idle() const { return waiting_.empty() && started_.empty() && watches == 0; }
  // Those that wait for a state, and claims.
  const std::vector<Subscription*>& waiting() const { return waiting_; }
  const std::vector<Subscription*>& started() const { return started_; }

  // Confirmed subscriptions of people (not of canaries).
  uint32_t confirmed = 0;
  // Those who watch its receipts, subscribed or not.
  uint32_t watches = 0;

  // How far the log has been asked. At most one of both is under way, so that Follow and Unfollow
  // reach the log in the order in which they were decided.
  bool asking = false;
  bool leaving = false;
  // Ask once more after the answer: it may be older than what we were told meanwhile.
  bool ask_again = false;
  // A state has come since the log was last told to stop.
  bool known = false;

 private:
  void Deliver(Feed& feed, const log::EventRun& run);
  void Lag(Feed& feed, Offset from);
  void GoOn(Feed& feed);
  bool SendFrom(Feed& feed, const log::EventRun& run, Offset from);
  void DropTailIfUnused();

  const ThreadId id_;
  log::ThreadState state_;
  std::vector<Feed> feeds_;
  uint32_t lagging_ = 0;  // feeds that lag
  std::vector<Subscription*> waiting_;
  std::vector<Subscription*> started_;
  CatchUpTail tail_;
};

}  // namespace clarion::delivery
