// The link between service and gateway: the interface each side has, whatever carries it.
//
// Two carriers, one contract suite (tests/contract/link_contract.h): memory (memory_link.h, both
// halves in one process) and gRPC (service/delivery/grpc_link_server.h,
// gateway/link/grpc_link_client.h). Messages are those of gateway_service.proto. Live events and
// pages alone have C++ types of their own, so that the memory carrier passes shared pointers and
// copies no bytes.
//
// Ownership and threads:
//   A gateway loop owns one Link; its sink is called on that loop only, one call at a time.
//   The service gets one GatewaySession per attachment; calls for one attachment come one at
//   a time, from any thread. An Attachment may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clarion/v1/gateway_service.pb.h"
#include "proto/contract/encoded_event.h"
#include "proto/contract/ids.h"

namespace clarion::link {

// Contiguous events of one thread and one epoch, at least one.
struct Live {
  ThreadId thread;
  Epoch epoch;
  Offset first;  // that the first event covers
  std::vector<EventPtr> events;
  // Offsets that the events cover beyond one each; 0 unless this is of a compacted page.
  uint64_t merged = 0;
  Offset last() const { return Offset(first.value() + events.size() + merged - 1); }
};

struct Page {
  std::vector<v1::Missed> missed;  // to say before the events
  std::vector<Live> runs;          // ascending, without gaps, at most one per epoch
  Position last;                   // the end of the log when the page was read
};
using PageCallback = std::function<void(absl::StatusOr<Page>)>;
using AskCallback = std::function<void(absl::StatusOr<v1::AskResponse>)>;

// Never v1::ServiceMessage with `live` set: that is what Live is for.
using ToGateway = std::variant<v1::ServiceMessage, Live>;

// ---- The service's side ----

// A carrier's end of one attachment, held by the service. Thread-safe. SendLive and SendControl
// only enqueue: they never block and never call the session or the service inside, so that the
// service may call them under the lock that gives their order. Close may call OnDetached inside.
class Attachment {
 public:
  virtual ~Attachment() = default;
  // Takes `live` unless the bound on queued live bytes (4 MiB) is reached: then
  // false, nothing is queued, and the caller says Lagging. What is taken arrives in order with
  // control.
  virtual bool SendLive(Live live) = 0;
  // Control has reserved room; when that is exhausted too the attachment is closed with
  // BUFFER_OVERFLOW.
  virtual void SendControl(v1::ServiceMessage message) = 0;
  // Ends the attachment; OnDetached follows.
  virtual void Close(absl::Status status) = 0;
  // Where the gateway is, for people.
  virtual std::string peer() const = 0;
};

// What the service does with one attachment.
class GatewaySession {
 public:
  virtual ~GatewaySession() = default;
  virtual void OnMessages(std::vector<v1::GatewayMessage> messages) = 0;
  // The last call.
  virtual void OnDetached(const absl::Status& status) = 0;
};

class Service {
 public:
  virtual ~Service() = default;
  // A gateway came; its Hello is the first of OnMessages. The session holds the attachment as long
  // as it likes.
  virtual std::shared_ptr<GatewaySession> OnAttached(std::shared_ptr<Attachment> attachment) = 0;
  // `done` may be called on any thread, also inside the call.
  virtual void ReadPage(v1::ReadPageRequest request, PageCallback done) = 0;
  // Likewise.
  virtual void Ask(v1::AskRequest request, AskCallback done) = 0;
};

// ---- The gateway's side ----

class LinkSink {
 public:
  virtual ~LinkSink() = default;
  // The carrier reached a service: say Hello and everything that is to be restored.
  virtual void OnUp() = 0;
  // Everything that had arrived when the loop turned to the link: one batch, so that the sink can
  // write to each socket once.
  virtual void OnMessages(std::vector<ToGateway> batch) = 0;
  // The service is gone; the carrier tries again by itself, with backoff; more and more rarely
  // after GATEWAY_DISPLACED. What was sent and not answered may or may not have arrived.
  virtual void OnDown(const absl::Status& status) = 0;
};

// Owned by a gateway loop; call on that loop only.
class Link {
 public:
  virtual ~Link() = default;
  virtual void Start(LinkSink* sink) = 0;
  // Between OnDown and OnUp: dropped (the sink restores on OnUp).
  virtual void Send(v1::GatewayMessage message) = 0;
  // `done` is called on the loop, never inside the call; with UNAVAILABLE when the link is down.
  virtual void ReadPage(v1::ReadPageRequest request, PageCallback done) = 0;
  // Likewise.
  virtual void Ask(v1::AskRequest request, AskCallback done) = 0;
  // No call of the sink or of a callback follows.
  virtual void Stop() = 0;
};

}  // namespace clarion::link
