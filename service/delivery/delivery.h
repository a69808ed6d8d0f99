// Delivery: who is connected, who follows what, and the way of committed events to gateways.
//
// It is the service's end of the link (link::Service) and the log's one follower. It owns the
// registry of connections and subscriptions, readiness, claims and binding. It knows nothing of
// runs' rules, and of event types only which may be merged in a page (compactor.h).
//
// An event's way: log commit -> OnAppended -> every attachment that follows the thread, once each.
//
// Thread-safe. Callbacks may come on any thread and may come inside the call that took them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clarion/v1/event_service.pb.h"
#include "clarion/v1/gateway_service.pb.h"
#include "proto/base/scheduler.h"
#include "proto/contract/ids.h"
#include "proto/link/link.h"
#include "service/log/log.h"

namespace clarion::delivery {

struct Options {
  std::string service_id;
  // Claims (subscriptions to threads that are not the user's) at most per user.
  size_t claims_per_user = 16;
  // Connections one user may have, over all gateways.
  size_t connections_per_user = 1000;
  // Connections that may rest between polls at a time, all users' together; beyond, one that should
  // rest is closed.
  size_t resting_connections = 100'000;
  // How long a connection that went is remembered, and how many are at most.
  std::chrono::seconds connection_memory{300};
  size_t connection_memory_entries = 10'000;
  // Changes that a watcher may lag behind.
  size_t watch_queue = 4096;
  // Threads that `subscribe` {all} follows at most; its page is told which is the first left out.
  size_t all_threads = 10'000;
  // Frames of pages that may be on their way from one gateway to another at a time, and how long
  // until whoever passed them is told that they did not get there.
  size_t passing_frames = 4'096;
  std::chrono::seconds pass_timeout{10};
  // Threads of which it is remembered when their events were sent and acknowledged.
  size_t remembered_threads = 10'000;
  // Pages of replay that are read and compacted at a time; the others wait.
  size_t pages_at_once = 32;
  // Threads on which that is done; 0: on those of the log that answer reads.
  size_t page_threads = 0;
};

// Stops what it stands for when it is destroyed; the callback it belongs to never begins after
// that, and one that has begun on another thread is waited for: do not destroy it under a lock that
// the callback takes. Inside the callback it may be destroyed.
class Cancellation {
 public:
  virtual ~Cancellation() = default;
};

struct ReadyState {
  v1::Readiness readiness = v1::READINESS_NONE;
  uint32_t subscriptions = 0;
  std::vector<v1::ReadinessStep> steps;
};

// Changes to connections: a first picture, then every change once, in order.
class ConnectionWatcher {
 public:
  virtual ~ConnectionWatcher() = default;
  // Calls come one at a time, without any lock of delivery's; they may call delivery.
  virtual void OnChange(const v1::Connection& connection, bool snapshot) = 0;
  // The last call: BUFFER_OVERFLOW when the watcher was too slow, NOT_INITIALIZED when the service
  // stops.
  virtual void OnEnded(const absl::Status& /*status*/) {}
};

// How far a thread is acknowledged.
struct Receipt {
  UserId owner;         // empty: nobody's yet
  Offset acknowledged;  // W
  Position last;
  // When the ack was committed; nothing: before we followed the thread (again).
  std::optional<Scheduler::Wall> at;
  bool first = false;  // the first picture
};

class ReceiptWatcher {
 public:
  virtual ~ReceiptWatcher() = default;
  // A first picture, then each time W moved: forward, or back where the log lost an ack. Calls come
  // one at a time, in order, without any lock of delivery's; they may call delivery.
  virtual void OnReceipt(const Receipt& receipt) = 0;
  // The last call: NOT_INITIALIZED, the service stops; NOT_FOUND, the thread was deleted; or why
  // the first picture cannot be had.
  virtual void OnEnded(const absl::Status& /*status*/) {}
};

// When an event came how far; nothing: it did not yet, or that is not remembered.
struct Milestones {
  std::optional<Scheduler::Wall> first_sent;
  std::optional<Scheduler::Wall> acknowledged;
};

// One attached gateway loop.
struct GatewayInfo {
  GatewayId id;
  size_t connections = 0;
};

class Delivery : public link::Service {
 public:
  // `log` and `scheduler` outlive it. Destroy it after Stop() and after the log was closed, which
  // may call it until then.
  static std::unique_ptr<Delivery> Create(Options options, log::Log* log, Scheduler* scheduler);

  // Confirmed subscriptions of the thread now.
  virtual uint32_t Subscriptions(const ThreadId& thread) const = 0;

  // Waits until `user` has a confirmed subscription of `thread` (SUBSCRIBED), and until the page of
  // one has answered a probe that was sent while this waits or less than 5 s before
  // (VERIFIED). `done` gets what was reached when that is so or the time is over, or
  // NOT_INITIALIZED when the service stops; nothing once it is cancelled.
  [[nodiscard]] virtual std::unique_ptr<Cancellation> AwaitReady(
      const UserId& user, const ThreadId& thread, v1::Readiness wanted,
      std::chrono::nanoseconds timeout, std::function<void(absl::StatusOr<ReadyState>)> done) = 0;

  // Waits until the event at `position`, which was committed, is SENT or ACKNOWLEDGED. `done` gets
  // REACHED as soon as it is, or what stood in the way when the time is over (see WaitOutcome);
  // TIMED_OUT when the service stops; nothing once it is cancelled.
  [[nodiscard]] virtual std::unique_ptr<Cancellation> AwaitReceipt(
      const ThreadId& thread, const Position& position, v1::WaitFor wanted,
      std::chrono::nanoseconds timeout, std::function<void(v1::WaitOutcome)> done) = 0;
  virtual Milestones MilestonesOf(const ThreadId& thread, const Position& event) const = 0;
  // `watcher` gets its calls until the Cancellation is destroyed; OnEnded is the last.
  [[nodiscard]] virtual std::unique_ptr<Cancellation> WatchReceipts(
      const ThreadId& thread, std::shared_ptr<ReceiptWatcher> watcher) = 0;

  // Ties the user's open connections to the thread (which must be the user's).
  virtual void BindThread(const UserId& user, const ThreadId& thread,
                          std::chrono::nanoseconds timeout,
                          std::function<void(std::vector<v1::BoundConnection>)> done) = 0;

  // Empty ids: any. At least one is not empty. Oldest first, at most 10,000.
  virtual std::vector<v1::Connection> GetConnections(const UserId& user, const ThreadId& thread,
                                                     bool include_gone) const = 0;
  // `watcher` gets its calls until the Cancellation is destroyed; OnEnded is the last. They are
  // made on whatever thread makes the change.
  [[nodiscard]] virtual std::unique_ptr<Cancellation> WatchConnections(
      const UserId& user, const ThreadId& thread, std::shared_ptr<ConnectionWatcher> watcher) = 0;

  virtual std::vector<GatewayInfo> Gateways() const = 0;

  // Tells one gateway loop to open a canary; its reports go to `report` during its `life`.
  // False: no such gateway.
  virtual bool OpenCanary(const GatewayId& gateway, v1::OpenCanary canary,
                          std::function<void(v1::CanaryReport)> report) = 0;

  // Closes every attachment and answers everybody who waits. Before the log is closed.
  virtual void Stop() = 0;
};

}  // namespace clarion::delivery
