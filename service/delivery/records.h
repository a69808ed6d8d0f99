// What delivery remembers: attachments, connections, subscriptions, users. Plain data, all of it
// guarded by the one lock of Core.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "clarion/v1/event_service.pb.h"
#include "proto/base/scheduler.h"
#include "proto/contract/ids.h"
#include "proto/link/link.h"
#include "service/delivery/resume.h"

namespace clarion::delivery {

class Followed;
struct Connection;
struct Subscription;

// One attachment of a gateway loop.
struct Attached {
  // Null after its end.
  std::shared_ptr<link::Attachment> carrier;
  GatewayId gateway;
  // The gateway's process; empty: an older one that does not say.
  std::string instance;
  // Other processes that had this gateway's id and may not take it back while this one is attached:
  // the newest of them, oldest first.
  std::vector<std::string> displaced;
  bool greeted = false;
  // It sends its connections away, and wants to know of open runs.
  bool draining = false;
  // Nothing it says counts any more, and nothing is said to it.
  bool over = false;
  // No gateway's: it holds the connections that rest between polls. Always `over`.
  bool at_rest = false;
  absl::flat_hash_map<ConnectionId, Connection*> connections;
  // Connections beyond what their user may have: not in the registry.
  absl::flat_hash_set<ConnectionId> refused;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Subscription>> subscriptions;

  void Say(v1::ServiceMessage message) {
    if (!over) carrier->SendControl(std::move(message));
  }
};

// `subscribe` {all} of a connection.
struct AllThreads {
  // Tells a listing under way from one that was turned off and on again meanwhile.
  uint64_t generation = 0;
  // The question that was answered last; it hears of the end of the list.
  uint64_t subscription = 0;
  bool listed = false;
  bool full = false;
  // Threads that were said already, or that a connection that polls follows in any case.
  absl::flat_hash_set<ThreadId> bound;
};

// Of a connection that polls (resting.cc).
struct Polling {
  // Its opening at the gateway that has it; see ConnectionOpened.
  uint64_t opening = 0;
  // For how long it rests, as its gateway said it last; 0: it has not rested yet.
  std::chrono::nanoseconds lease{0};
  // Its page was told that {all} follows no more threads.
  bool limit_told = false;
  // At rest: ends it. `rest` tells this rest from others.
  Scheduler::TimerId timer = 0;
  uint64_t rest = 0;
  // Threads that it followed and that were deleted since: a poll that asks for one is told, and so
  // is the next, which asks again if its page did not hear of it.
  struct Deleted {
    v1::Missed missed;
    bool asked_for = false;
  };
  absl::btree_map<ThreadId, Deleted> deleted;
};

struct Connection {
  ConnectionId id;
  UserId user;
  GatewayId gateway;
  v1::Transport transport = v1::TRANSPORT_UNSPECIFIED;
  std::string client;
  google::protobuf::Timestamp connected_at;
  // Order of opening; a restored connection keeps its own.
  uint64_t sequence = 0;

  v1::ConnectionState state = v1::CONNECTION_STATE_CONNECTED;
  std::string reason;
  Scheduler::Wall changed_at;
  // Null: gone, and remembered for a while.
  Attached* attached = nullptr;
  // Null: it does not poll, or is gone.
  std::unique_ptr<Polling> polling;
  std::vector<Subscription*> subscriptions;
  // Bind questions that wait for an answer.
  std::vector<uint64_t> binds;
  std::unique_ptr<AllThreads> all;

  // Threads with a confirmed subscription; of one that is gone, some of those it had then.
  absl::btree_set<ThreadId> followed;

  // Of one that is gone: since when.
  Scheduler::Steady gone_at;
  uint64_t gone_sequence = 0;

  // Also while it rests.
  bool open() const { return attached != nullptr; }
  // It has no gateway: it polled, and will again.
  bool resting() const { return open() && attached->at_rest; }
};

struct PendingAck {
  uint64_t id = 0;
  Position position;
  Offset last_sent;
};

struct Subscription {
  enum class Phase : uint8_t {
    kWaiting,  // for the thread's state
    kClaim,    // the thread is not the user's
    kStarted,
  };

  uint64_t id = 0;
  Attached* attached = nullptr;
  Connection* connection = nullptr;
  Followed* thread = nullptr;
  Start start;
  // The browser had been told `subscribed` before the gateway attached anew.
  bool restored = false;
  // It is sure to have heard that, or follows since an earlier poll: nobody needs to confirm it.
  bool heard = false;
  Phase phase = Phase::kWaiting;
  bool confirmed = false;
  // Asked for `live`: its acks count only if it leaves nothing out before them.
  bool live = false;
  // Ends where it would become a claim.
  bool no_claim = false;
  // Its page, which polls, heard of a claim before.
  bool was_claim = false;
  // kStarted: the first offset it was given; and that which it was given when it first began,
  // before its connection rested or its gateway attached anew (0 until it has started: not known).
  Offset first;
  Offset began;
  // Of one that rests while its connection polls again: that asked for the thread, too, so that it
  // rests on until it has taken its place.
  bool asked_for = false;
  // Place in Followed's list of its phase.
  size_t index = 0;
  size_t place_in_connection = 0;
  // Acks that came while it waited.
  std::vector<PendingAck> acks;

  // It is what its connection followed when it rested last: it counts until another takes its
  // place.
  bool resting() const { return attached->at_rest; }
};

inline bool IsCanary(const UserId& user) {
  return user.str() == kCanaryUser;
}

}  // namespace clarion::delivery
