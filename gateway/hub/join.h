// Where replay joins live: the state machine of one subscription.
//
// Pure: it does no I/O, knows no clock and no connection. It is told what the service answered,
// which pages came and what the thread's feed offers, and says what the subscriber is sent.
//
// Invariant. After `subscribed` {from_offset} and the `missed` that follow it, the offsets that are
// sent are exactly from_offset, from_offset + 1, …, until the next `subscribed` or `missed`; those
// name what is left out or taken back before anything newer is sent. A `subscribed` that the page
// did not ask for goes on exactly where the last one was, except for what `missed` names.
//
// How it joins. A subscription replays (it pulls pages from its own position) until its position
// meets that of the feed; then it is attached, and gets what the feed gets. Two cases need care:
//   ahead        A page may be newer than the live events that are still on their way. The
//                subscription is attached ahead of the feed, and of what the feed offers it takes
//                what lies beyond its position.
//   other epoch  Offsets of different epochs cannot be compared. It pulls; if the log has no more,
//                and the feed has not turned to another epoch since the page was asked for, then
//                the subscription is in the newer one, and waits for the feed to come there.
// Whatever does not fit makes it replay: the log, asked from its position, answers with the truth.
#pragma once

#include <cstddef>
#include <cstdint>

#include "clarion/v1/gateway_service.pb.h"
#include "clarion/v1/position.pb.h"
#include "gateway/hub/chunk.h"
#include "gateway/hub/cursor.h"
#include "proto/contract/ids.h"

namespace clarion::gateway {

// What a Join has sent. Not called back into the Join.
class JoinOutput {
 public:
  virtual ~JoinOutput() = default;
  struct Subscribed {
    const SharedEpoch& epoch;
    Offset from;
    Offset last;
    bool missed = false;
    // The answer of the service it stems from; null for one that announces a new epoch.
    const v1::SubscriptionStarted* started = nullptr;
  };
  virtual void OnSubscribed(const Subscribed& subscribed) = 0;
  virtual void OnMissed(const v1::Missed& missed) = 0;
  // run.events()[skip..], at least one.
  virtual void OnEvents(const EventRun& run, size_t skip) = 0;
  virtual void OnCaughtUp(Offset offset) = 0;
};

// What is known of the log's end at a subscription's position.
enum class LogEnd : uint8_t {
  kUnknown,
  // The log ended there when the page was read.
  kThere,
  // Also, the feed has been in the same epoch since before that.
  kThereInFeedsEpoch,
};

class Join {
 public:
  enum class State : uint8_t {
    kWaiting,    // for the service's answer
    kClaim,      // the thread is not the user's (yet)
    kReplaying,  // pulls, from position()
    kAttached,   // takes what the feed offers
  };

  State state() const { return state_; }
  // What was sent last; before `subscribed`, nothing.
  const Cursor& position() const { return position_; }
  // The subscriber has been told `subscribed` (not: claim) since it asked last.
  bool told() const { return told_; }
  bool running() const { return state_ == State::kReplaying || state_ == State::kAttached; }

  // The page subscribed (again): whatever the service answers is told.
  void Ask();
  // The link is down: the service will be asked to restore position().
  void Interrupt();

  // `epoch` is that of started.last. Restored without loss, nothing is said and the position stays.
  // kReplaying afterwards.
  void OnStarted(const v1::SubscriptionStarted& started, const SharedEpoch& epoch, JoinOutput& out);
  void OnClaim() {
    state_ = State::kClaim;
    told_ = false;
  }
  // The page subscribed again without a place and is told where it is. Requires running().
  void Restate(const v1::SubscriptionStarted& started, const SharedEpoch& epoch, JoinOutput& out);

  // A page that was read after position(). False, and nothing sent: it does not go on there.
  [[nodiscard]] bool OnPage(const Chunk& page, JoinOutput& out);

  // Attaches to a feed at `feed` if it is not behind it. Requires kReplaying.
  bool TryAttach(const Cursor& feed, LogEnd end);

  // The feed, coming from `before`, offers `chunk`, which goes on exactly there. Requires
  // kAttached; may be kReplaying afterwards.
  void OnOffer(const Cursor& before, const Chunk& chunk, JoinOutput& out);

  // Cannot take what the feed is about to offer: fetches it by itself.
  void Detach() { state_ = State::kReplaying; }
  // Of what was sent, the events from `first` on were taken back; nothing else was sent after them.
  // Requires running(); kReplaying afterwards. The epoch stays the newest that was sent: what was
  // sent since the last `subscribed` or `missed` is one history, of which the older epochs are
  // part.
  void Rewind(Offset first) {
    position_.offset = first.prev();
    state_ = State::kReplaying;
  }

 private:
  void Deliver(const Chunk& chunk, size_t run, size_t skip, JoinOutput& out);
  void OnOfferAhead(const Cursor& before, const Chunk& chunk, JoinOutput& out);
  void Announce(const Chunk& chunk, Offset from, JoinOutput& out);
  void SayCaughtUp(JoinOutput& out);

  Cursor position_;
  // The epoch of the last `subscribed`.
  SharedEpoch announced_;
  // The last_offset of the last `subscribed`.
  Offset announced_last_;
  State state_ = State::kWaiting;
  bool told_ = false;
  bool owes_caught_up_ = false;
};

}  // namespace clarion::gateway
