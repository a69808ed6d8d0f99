// A connection as the hub keeps it, and one thread that it follows. By the ten thousand: small.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "boost/smart_ptr/intrusive_ptr.hpp"
#include "boost/smart_ptr/intrusive_ref_counter.hpp"
#include "gateway/hub/feed.h"
#include "gateway/hub/hub.h"
#include "gateway/hub/join.h"
#include "proto/contract/ids.h"
#include "proto/contract/limits.h"

namespace clarion::gateway {

class Subscription;

// `subscribe` {all} of a connection.
struct AllThreads {
  // Where to begin in threads that the page knows; each is used once.
  absl::flat_hash_map<ThreadId, Position> positions;
  // Threads that were asked for because the page knows them, ever: at most kMaxPositions.
  uint32_t named = 0;
  // What the service has not answered yet; 0: nothing.
  uint64_t asked = 0;
  // Frames of the page that wait for that.
  std::vector<std::string> requests;
  // What it has answered, and goes on to name the threads that there are; 0: it does not.
  uint64_t listing = 0;
  // Threads that join by it are replayed in full.
  bool full = false;
  // The page had been told `subscribed` {all} before, and the service has not answered since: see
  // Hub::ResumeAll.
  bool resumed = false;
};

// The subscriptions of one connection that want a page, in the order of their turns; see puller.h.
// May outlive the connection.
struct PullLine : boost::intrusive_ref_counter<PullLine, boost::thread_unsafe_counter> {
  std::deque<boost::intrusive_ptr<Subscription>> waiting;
  bool queued = false;
  bool under_way = false;
};

// Not Connection: connection/ has a class of that name in the same namespace, and one program may
// have one of each.
struct HubConnection {
  Subscriber* subscriber = nullptr;
  ConnectionInfo info;
  std::vector<Subscription*> subscriptions;
  // Those that count against the limit.
  uint32_t counted = 0;
  // The service has been told of it since the link came up; before, nothing of it is said.
  bool opened = false;
  uint64_t opening = 0;  // see ConnectionOpened
  // Its page is told nothing more on this opening: see Hub::BeginRest.
  bool hears_no_more = false;
  // When so much is written, it has heard that {all} follows no more threads; 0: that was not said.
  uint64_t limit_said_until = 0;
  std::unique_ptr<AllThreads> all;
  // Acks that are not answered, oldest first.
  std::vector<uint64_t> acks;
  // While it pulls.
  boost::intrusive_ptr<PullLine> line;

  // A page that polls says of each thread where it stands.
  bool names_no_more() const {
    return info.transport == v1::TRANSPORT_POLLING && subscriptions.size() >= kMaxPositions;
  }
};

// Where a subscription begins.
struct StartAt {
  // This position, or ...
  std::optional<Position> after;
  // ... by rule.
  v1::StartFrom from = v1::START_FROM_UNSPECIFIED;

  // Names no place: a subscription that runs goes on where it is. That includes the default said
  // aloud.
  bool in_place() const {
    return !after.has_value() &&
           (from == v1::START_FROM_UNSPECIFIED || from == v1::START_FROM_UNFINISHED);
  }
};

// What was asked and is not answered yet.
struct Request {
  // Of the page's frame, echoed in the answer.
  std::string id;
  StartAt start;
  // The subscription that this one takes the place of, once it runs: the thread stays ready
  // meanwhile. 0: none.
  uint64_t replaces = 0;
  // The answer `claim` was given; the thread may become the user's later.
  bool claim_told = false;
  // Refused for now, and asked again later; see HubImpl::EndOrSetAside.
  bool set_aside = false;
  // The page said where it stands: see Hub::Resume.
  bool resumed = false;
  // The page hears `bound` first.
  bool tell_bound = false;
  // More `subscribe` frames for the same thread, to be handled after the answer.
  struct Later {
    std::string id;
    StartAt start;
  };
  std::vector<Later> later;
};

// What waits until its page has heard that it follows the thread.
struct Unheard {
  static constexpr uint64_t kNotSaid = std::numeric_limits<uint64_t>::max();
  // When so much is written, it has heard.
  uint64_t until = kNotSaid;
  // The service waits for BindResult.
  std::vector<uint64_t> binds;
};

class Subscription final
    : public boost::intrusive_ref_counter<Subscription, boost::thread_unsafe_counter>,
      public JoinOutput {
 public:
  Subscription(HubConnection* connection, Feed* feed, uint64_t id)
      : connection(connection), feed(feed), id(id) {}

  Subscriber* subscriber() const { return connection->subscriber; }
  // It has ended; somebody still has a pointer to it.
  bool ended() const { return connection == nullptr; }
  void Send(const v1::ServerFrame& frame, bool known = false) {
    subscriber()->Send(Frames::OfMessage(subscriber()->encoding(), frame), 0,
                       {.source = source, .known = known});
  }

  // Both null when it has ended.
  HubConnection* connection;
  Feed* feed;
  // Towards the service; a new one each time it is asked.
  uint64_t id;
  Join join;
  // Not null until join.told(), except that one restored may have one for `later` and while it is
  // set aside.
  std::unique_ptr<Request> request;
  std::unique_ptr<Unheard> unheard;
  // Its pages have failed since then; {}: the last one came.
  std::chrono::steady_clock::time_point failing_since;
  // The first event of those sent without a gap up to join.position(); 0: none was. Behind it, what
  // waits to be written: this offset is when the connection has written so much (0: nothing waits).
  Offset sent_from;
  Offset unwritten;
  uint64_t unwritten_until = 0;
  // The first offset it was given when it began, wherever it went on since; 0: it has not begun.
  Offset began;
  // Places in the lists of the connection and of the feed.
  uint32_t place_in_connection = 0;
  uint32_t place_in_feed = 0;
  // Tells answers to older pulls apart.
  uint32_t pulls = 0;
  // Tells its frames from those of others of the connection.
  uint32_t source = 0;
  // Questions about it that are under way.
  uint32_t queries = 0;
  bool page_pending = false;
  // Its page knows that it follows the thread: it was told, or has said so itself.
  bool heard : 1 = false;
  bool queued : 1 = false;
  // Waits for another try.
  bool failed : 1 = false;
  // One of those of `subscribe` {all}. `by_all`: and of nothing else, nobody asked for it by its
  // name. `no_claim`: it was so when the service was asked last.
  bool of_all : 1 = false;
  bool by_all = false;
  bool no_claim : 1 = false;
  // Began at the log's end, past what the user may not have seen: the service judges its acks by
  // that.
  bool live : 1 = false;
  // Replayed as published, never compacted.
  bool full : 1 = false;
  // Its page knew where it stood, and was told nothing since.
  bool quiet : 1 = false;

  void OnSubscribed(const Subscribed& subscribed) override;
  void OnMissed(const v1::Missed& missed) override;
  void OnEvents(const EventRun& run, size_t skip) override {
    quiet = false;
    subscriber()->Send(run.frames(subscriber()->encoding()), skip,
                       {.source = source, .events = true});
    if (sent_from == Offset(0)) sent_from = join.position().offset.next();
    feed->NoteSent();
  }
  void OnCaughtUp(Offset offset) override;

 private:
  // Offsets mean something else now, or leave some out.
  void ForgetSent() {
    sent_from = {};
    unwritten_until = 0;
  }
};

}  // namespace clarion::gateway
