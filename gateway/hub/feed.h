// The live stream of one thread, shared by all subscriptions of this loop that follow it.
//
// Usually it offers what the service sends, as it comes, to the subscriptions that are attached.
// When the service said Lagging, when something is missing from the stream, or when the epoch
// changes, it pulls pages instead, once for all attached subscriptions, and then goes on live: the
// log, asked from the feed's position, answers with the truth.
//
// It decides; the hub (hub_impl.h) reads the pages and talks to the service.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "absl/container/inlined_vector.h"
#include "boost/smart_ptr/intrusive_ref_counter.hpp"
#include "gateway/hub/chunk.h"
#include "gateway/hub/cursor.h"
#include "proto/contract/ids.h"
#include "proto/link/link.h"

namespace clarion::gateway {

class SentReports;
class Subscription;

// Bytes of events that feeds keep for those who are about to join.
struct RecentLimits {
  size_t per_thread = 0;
  size_t total = 0;
  size_t used = 0;
};

// The newest live events of a thread, contiguous and of one epoch, kept only while somebody is
// about to join: what came while a page was under way need not be pulled, however fast the thread
// is.
class Recent {
 public:
  explicit Recent(RecentLimits* limits) : limits_(limits) {}
  ~Recent() { Clear(); }
  Recent(const Recent&) = delete;
  Recent& operator=(const Recent&) = delete;

  void Push(const EventRun& run);
  // What follows `position`, up to the newest; nothing if that is not all here.
  std::optional<EventRun> After(const Cursor& position) const;
  void DropBelow(Offset floor);

 private:
  void Clear();
  void PopFront();

  RecentLimits* const limits_;
  SharedEpoch epoch_;
  Offset first_;
  std::deque<EventPtr> events_;
  size_t bytes_ = 0;
};

class Feed : public boost::intrusive_ref_counter<Feed, boost::thread_unsafe_counter> {
 public:
  Feed(ThreadId thread, RecentLimits* limits, SentReports* reports)
      : thread_(std::move(thread)), limits_(limits), reports_(reports) {}

  const ThreadId& thread() const { return thread_; }
  // What was offered last. Means nothing while idle.
  const Cursor& tail() const { return tail_; }
  bool lagging() const { return lagging_; }
  // `name`, shared with what is known here if that is the same.
  SharedEpoch Intern(std::string_view name, const SharedEpoch& otherwise) const;

  void Add(Subscription* subscription);
  void Remove(Subscription* subscription);
  bool empty() const { return subscriptions_.empty(); }
  const auto& subscriptions() const { return subscriptions_; }
  bool AnyAttached() const;
  // Some subscription could not take an offer and replays since: true once.
  bool TakeDetached() { return std::exchange(detached_, false); }

  // ---- The service's stream, in its order. ----

  // A subscription runs, from `position` on; everything after `last` is on the stream.
  void OnStarted(const Cursor& position, const Cursor& last);
  void OnLive(EventRun run);
  void OnLagging();
  void OnFloorRaised(Offset floor);
  // A subscription has stopped running. If it was the last, the service says nothing more until
  // another has started.
  void OnStopped();
  void OnUnused();
  void OnLinkDown();

  // ---- Pulling. ----

  // Somebody who is attached waits for a page of `tail()`, and has room for it.
  bool WantsPage() const;
  // Encodings that attached subscriptions need.
  std::array<bool, kContents> Wanted() const;
  // Some attached subscription wants every event as it was published.
  bool WantsFull() const;
  // What an answer has to be told apart by.
  struct Ticket {
    uint32_t pull = 0;
    uint32_t turns = 0;
  };
  Ticket BeginPage();
  bool IsCurrent(const Ticket& ticket) const { return page_pending_ && ticket.pull == pulls_; }
  enum class PageResult { kGood, kRetryLater };
  PageResult OnPage(const Ticket& ticket, const Chunk& page);
  void OnPageFailed() { page_pending_ = false; }

  // The service waits for FollowThread{tail()}: to be sent when true, once.
  bool TakeFollow() { return std::exchange(follow_, false); }

  // ---- Joining. ----

  // While lagging with nobody attached: `position`, where the log ended just now, becomes the tail.
  void Adopt(const Cursor& position);
  // What follows `position` up to the tail, if it is kept.
  std::optional<Chunk> RecentAfter(const Cursor& position) const;
  // After somebody joined.
  void DropRecentIfUnused();
  // Counts the changes of the tail's epoch.
  uint32_t turns() const { return turns_; }

  // ---- What was sent; see sent_reports.h. ----

  struct Sent {
    // What the service was told.
    Cursor reported;
    // Somebody waits until so much was sent.
    Offset awaited;
    // Will be looked at.
    bool noted = false;
  };
  Sent sent;
  // Events were queued for a connection.
  void NoteSent() {
    if (!sent.noted) AddToReports();
  }

  // The service said, when this gateway began to drain, that a run is open.
  bool busy = false;
  // In the hub's queue of those who want a page.
  bool queued = false;
  // Its pages have failed since then; {}: the last one came.
  std::chrono::steady_clock::time_point failing_since;

 private:
  enum class Mode : uint8_t { kIdle, kLive, kPulling };

  bool Fits(const EventRun& run) const;
  void SetTail(const Cursor& tail);
  void Offer(const Chunk& chunk);
  void OfferPage(const Chunk& page);
  void TryGoLive();
  void Keep(const EventRun& run);
  bool AnyReplaying();
  void AddToReports();

  const ThreadId thread_;
  RecentLimits* const limits_;
  SentReports* const reports_;
  absl::InlinedVector<Subscription*, 1> subscriptions_;
  Cursor tail_;
  // kPulling, not lagging: the end of what the service has sent.
  Cursor live_end_;
  std::unique_ptr<Recent> recent_;
  uint32_t turns_ = 0;
  uint32_t live_turns_ = 0;
  uint32_t pulls_ = 0;
  // Where in the list somebody was replaying when it was looked for last.
  uint32_t replaying_at_ = 0;
  Mode mode_ = Mode::kIdle;
  bool lagging_ = false;
  bool page_pending_ = false;
  bool follow_ = false;
  // Some subscription is replaying, as of the last offer.
  bool any_replaying_ = false;
  bool detached_ = false;
  // kPulling: the tail is in an epoch that the stream has yet to come to.
  bool ahead_ = false;
};

}  // namespace clarion::gateway
