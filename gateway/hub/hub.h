// The hub: what the connections of one loop follow, and how events reach them.
//
// One per loop, on the loop's thread only; no locks. It is the link's sink. For each followed
// thread it keeps one Feed (the live stream from the service, shared by all subscriptions) and for
// each subscription a Join (join.h), which decides what a subscription sends and pulls, so that
// it sees the thread in order, without gap and without repeat.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "clarion/v1/event_service.pb.h"
#include "clarion/v1/stream.pb.h"
#include "gateway/frames.h"
#include "proto/contract/close_code.h"
#include "proto/contract/ids.h"
#include "proto/link/link.h"

namespace clarion::gateway {

// Whose a frame is.
struct FrameTag {
  // A subscription of the connection, by a number of its own; 0: of none.
  uint32_t source = 0;
  // Anything else of the source's says something of the place at which it stands.
  bool events = false;
  // The page said as much itself: it need not be told (see Hub::Resume).
  bool known = false;
};

// A connection as the hub sees it. Implemented by connection/; the hub never blocks on it.
class Subscriber {
 public:
  virtual ~Subscriber() = default;
  virtual Encoding encoding() const = 0;
  // Queues frames[first..]; the bytes are shared. Never fails: a connection whose queue is over its
  // bound calls Hub::OnOverflow later (never inside this call) and, if that was not enough, closes
  // itself as slow, and then calls Hub::Close.
  virtual void Send(FramesPtr frames, size_t first, FrameTag tag) = 0;
  void Send(FramesPtr frames, size_t first) { Send(std::move(frames), first, FrameTag()); }
  // Drops events that are queued and not begun to be written: of each of `sources` those behind
  // which nothing else of that source is queued. For each source of which there were any, the first
  // offset that was dropped.
  struct TakenBack {
    uint32_t source;
    Offset first;
  };
  virtual std::vector<TakenBack> TakeBack(const absl::flat_hash_set<uint32_t>& sources) = 0;
  // There is room for a page of replay (the queue is below half its bound). When that becomes true
  // again the connection calls Hub::OnRoom.
  virtual bool HasRoom() = 0;
  // How much was written to the socket since the start, and how much will have been when all that
  // waits now is: in bytes.
  struct Mark {
    uint64_t written = 0;
    uint64_t queued = 0;
  };
  virtual Mark mark() const = 0;
  // Closes by the table, after the `error` frame. Hub::Close follows later, never inside this call.
  virtual void Close(CloseCode code, std::string_view message) = 0;
  // Something that it had asked for was done, and there is nothing to send about it.
  virtual void OnDone() {}
  // Frames of the page that came on another way than the connection itself.
  struct Passed {
    bool ok = false;
    uint64_t next_sequence = 0;
    // Not ok:
    Reason reason = Reason::kNotFound;  // it takes none
    std::string problem;
  };
  virtual Passed Pass(uint64_t /*sequence*/, std::string_view /*frames*/) {
    return {.problem = "no such connection"};
  }
};

struct ConnectionInfo {
  ConnectionId id;
  UserId user;
  v1::Transport transport = v1::TRANSPORT_WEBSOCKET;
  std::string client;
  std::chrono::system_clock::time_point connected_at;
  // No page is told what it follows, nor asked anything: nobody is ready because of it.
  bool unseen = false;
};

struct HubOptions {
  std::string gateway_id;
  // Told to the service: this start of the process, no other.
  std::string instance;
  size_t subscriptions_per_connection = 128;
  // Acks that wait for the service at most, of one connection and of all.
  size_t acks_per_connection = 1'024;
  size_t acks = 100'000;
  // Replay pages under way at most, for the whole loop; the others wait their turn in fair order.
  size_t concurrent_pages = 16;
  // At most a quarter of what may wait for a connection: it is asked for when there is room for
  // half of that, and a page for all who follow a lagging thread may come besides.
  uint32_t page_bytes = 256 * 1024;
  // Likewise, in events.
  uint32_t page_events = 2'048;
  // A `subscribe` waits this long for the service, also for one that is away; then it fails with
  // GATEWAY_UNAVAILABLE, at the earliest after half of it. (Subscriptions that were confirmed once
  // wait as long as it takes; refused for now, they are asked for again.)
  std::chrono::milliseconds subscribe_timeout{10'000};
  // What the service is asked for again, after the link was away or after it refused for now: so
  // many subscriptions (and the rest of one connection's) wait for an answer before others are
  // said.
  size_t restoring = 4'096;
  // Live events that a joining subscription may need are kept up to so many bytes, for a thread (it
  // gets them at once: see page_bytes) and for all.
  size_t recent_bytes_per_thread = 64 * 1024;
  size_t recent_bytes = 16 * 1024 * 1024;
  // Calls a task on the hub's loop after a delay. Required: MakeLoopTimer (loop_timer.h), or a
  // test's.
  std::function<void(std::chrono::milliseconds, std::function<void()>)> after;
  std::function<std::chrono::steady_clock::time_point()> now = [] {
    return std::chrono::steady_clock::now();
  };
};

// What a canary's connection wants to be told; see canary.h of connection/.
using OpenCanaryHandler = std::function<void(const v1::OpenCanary&)>;

class Hub : public link::LinkSink {
 public:
  // `link` outlives it.
  static std::unique_ptr<Hub> Create(HubOptions options, link::Link* link,
                                     OpenCanaryHandler canary);

  // An authenticated connection. `subscriber` stays valid until Close.
  virtual void Open(Subscriber* subscriber, ConnectionInfo info) = 0;
  // The connection ends; nothing is sent to it after this.
  virtual void Close(Subscriber* subscriber, v1::ConnectionState state,
                     std::string_view reason) = 0;

  // The connection ends here for now: the page comes back for it, here or elsewhere, within
  // `lease`. What waits to be written when BeginRest is called is the last that is; when Rest is
  // called, what was is told to the service.
  virtual void BeginRest(Subscriber* subscriber) = 0;
  virtual void Rest(Subscriber* subscriber, std::chrono::milliseconds lease) = 0;

  // Frames of the page, in which ProblemOf (client_frame_check.h of connection/) found no problem.
  // Answers and errors are sent by the hub, with `request_id` echoed.
  virtual void Subscribe(Subscriber* subscriber, const v1::Subscribe& subscribe,
                         const std::string& request_id) = 0;
  // A page that was told `subscribed` once says where it stands now, and hears of it only what it
  // does not know: frames that tell it nothing new are tagged `known`. A position without an epoch:
  // it was told of a claim, or of an empty thread, and goes on with the thread's first event.
  // `by_all`: as SubscribeAll's, not counted.
  struct Resumption {
    v1::ThreadPosition at;
    bool by_all = false;
    bool full = false;
  };
  virtual void Resume(Subscriber* subscriber, const Resumption& resumption) = 0;
  // `subscribe` {all} said again: the answer is tagged `known`.
  virtual void ResumeAll(Subscriber* subscriber, bool full) = 0;
  // Everything that the connection asked for is answered, and all there is of what it follows was
  // sent. What changes that is a frame, or OnDone.
  virtual bool Settled(const Subscriber* subscriber) const = 0;
  // The first half of that.
  virtual bool Answered(const Subscriber* subscriber) const = 0;
  virtual void Unsubscribe(Subscriber* subscriber, const v1::Unsubscribe& unsubscribe,
                           const std::string& request_id) = 0;
  virtual void Ack(Subscriber* subscriber, const v1::Ack& ack, const std::string& request_id) = 0;
  // The service knows which nonces it has asked with.
  virtual void ProbeReply(Subscriber* subscriber, const v1::ProbeReply& reply) = 0;

  virtual void OnRoom(Subscriber* subscriber) = 0;
  // More waits for its socket than may: takes back what can be had again, compacted, and replays it
  // once there is room. What was said stays true, and in order: a subscription goes on at the first
  // event that it did not keep.
  virtual void OnOverflow(Subscriber* subscriber) = 0;

  // The connections of this loop will be sent away: the service is asked which threads have open
  // runs.
  virtual void BeginDrain() = 0;
  // The connection follows a thread with an open run, as far as is known by then.
  virtual bool FollowsOpenRun(const Subscriber* subscriber) const = 0;

  // For canaries.
  virtual void Report(v1::CanaryReport report) = 0;

  // Replay pages asked for on behalf of subscriptions of this loop since the start;
  // `clarion_replay_pages_total` is all loops'.
  virtual uint64_t replay_pages() const = 0;
  // OK: a service has taken this gateway. Else why not.
  virtual absl::Status attached() const = 0;
  // That service checks whose thread a page is of (link::kUserPages).
  virtual bool ServesUserPages() const = 0;
};

}  // namespace clarion::gateway
