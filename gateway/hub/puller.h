// Replay, pulled in turns: everybody who wants a page waits in one queue, gets one page and, if
// that was not the last, goes to its end. At most so many pages are under way for the whole loop.
//
// A connection waits there once, for all its subscriptions, and has one page under way at most: its
// room is known only when what was asked for has come. Its subscriptions take turns among
// themselves.
//
// A page that fails is asked for again later: after 100 ms, then twice as long each time, up to 5
// s, until one succeeds. A thread whose pages have failed for 10 s, or fail for good, is given up.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "boost/smart_ptr/intrusive_ptr.hpp"
#include "gateway/hub/feed.h"
#include "gateway/hub/subscription.h"
#include "proto/link/link.h"

namespace clarion::gateway {

// What becomes of a page; implemented by the hub.
class PullHandler {
 public:
  virtual ~PullHandler() = default;
  // The page goes on at the subscription's position as it was when it was asked for, and still is.
  virtual void OnPulled(Subscription& subscription, const Chunk& page, uint32_t turns) = 0;
  virtual void OnPulled(Feed& feed, const Feed::Ticket& ticket, const Chunk& page) = 0;
  // The thread is given up; `status` has a reason.
  virtual void OnUnreadable(Subscription& subscription, const absl::Status& status) = 0;
  virtual void OnUnreadable(Feed& feed, const absl::Status& status) = 0;
};

// On the loop only.
class Puller {
 public:
  Puller(const HubOptions& options, link::Link* link, PullHandler* handler)
      : options_(options), link_(link), handler_(handler) {}
  ~Puller() { *alive_ = false; }

  // Does nothing for what does not want a page, has no room, or waits already. Pump() afterwards.
  void Enqueue(Subscription& subscription);
  void Enqueue(Feed& feed);
  // It got nowhere: again, later.
  void EnqueueLater(Subscription& subscription);
  void EnqueueLater(Feed& feed);
  // Asks for as many pages as may be under way.
  void Pump();
  void OnUp() { up_ = true; }
  // Forgets the queue; answers that still come are ignored.
  void OnDown();
  // Somebody got on.
  void OnProgress() { retry_delay_ = kFirstRetry; }

  // Pages asked for on behalf of a subscription.
  uint64_t pages() const { return pages_; }

 private:
  static constexpr std::chrono::milliseconds kFirstRetry{100};
  static constexpr std::chrono::milliseconds kLongestRetry{5'000};
  static constexpr std::chrono::milliseconds kGivenUpAfter{10'000};
  using Time = std::chrono::steady_clock::time_point;

  // One of both.
  struct Target {
    boost::intrusive_ptr<Subscription> subscription;
    boost::intrusive_ptr<Feed> feed;
  };
  // Who waits in the queue: one of both.
  struct Waiter {
    boost::intrusive_ptr<PullLine> line;
    boost::intrusive_ptr<Feed> feed;
  };
  struct Pull {
    Target target;
    // Of the subscription's connection; null if that does not wait for this page any more.
    boost::intrusive_ptr<PullLine> line;
    uint32_t pull = 0;   // of the subscription
    uint32_t turns = 0;  // of the subscription's feed
    Feed::Ticket ticket;
    std::array<bool, kContents> wanted = {};
    bool compact = false;
  };

  void Queue(PullLine& line);
  static void Forget(PullLine& line);
  static void DropIfIdle(const Subscription* subscription);
  bool Begin(Waiter waiter, Pull& pull);
  void Ask(Pull pull);
  void OnAnswer(uint64_t id, absl::StatusOr<link::Page> page);
  void OnAnswerFor(Subscription& subscription, const Pull& pull, absl::StatusOr<link::Page> page);
  void OnAnswerFor(Feed& feed, const Pull& pull, absl::StatusOr<link::Page> page);
  bool GivesUp(const absl::Status& failure, Time& failing_since) const;
  void RetryLater(Target target);
  void Retry();

  const HubOptions& options_;
  link::Link* const link_;
  PullHandler* const handler_;
  // False when this is gone; timers look here.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::deque<Waiter> queue_;
  std::vector<Target> retry_;
  bool retry_armed_ = false;
  std::chrono::milliseconds retry_delay_ = kFirstRetry;
  absl::flat_hash_map<uint64_t, Pull> under_way_;
  uint64_t last_id_ = 0;
  uint64_t pages_ = 0;
  bool up_ = false;
};

// As frames are made of it. `feed` shares its epochs' names.
Chunk ToChunk(const Feed& feed, const SharedEpoch& known, link::Page page,
              std::array<bool, kContents> has);

}  // namespace clarion::gateway
