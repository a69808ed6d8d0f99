// What every call of the front shares: the parts below it, its options, and whether it serves.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "clarion/v1/event.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"
#include "proto/base/gate.h"
#include "proto/base/mutex.h"
#include "proto/base/scheduler.h"
#include "proto/contract/error.h"
#include "service/delivery/delivery.h"
#include "service/log/log.h"
#include "service/runs/intake.h"
#include "service/runs/supervisor.h"

namespace clarion::front {

struct Options {
  // No DebugInfo in errors.
  bool production = false;
  runs::IntakeOptions intake;
  // What events of a run may follow each other.
  log::RunRules run_rules = log::RunRules::kStrict;
  runs::SupervisorOptions supervisor;
  // How long what is not critical is kept.
  std::chrono::milliseconds retention = std::chrono::hours(24);
  // What one PublishStream may have under way before its reading pauses.
  size_t stream_events = 8192;
  size_t stream_bytes = 4 * 1024 * 1024;
  // Threads that one PublishStream may have stopped after a refusal.
  size_t stream_stopped_threads = 4096;
  // Changes that a caller of WatchConnections may lag behind.
  size_t watch_queue = 4096;
};

// What a call is, for errors and traces.
struct CallFacts {
  // Reads `traceparent` and `tracestate` from the metadata; what is not W3C trace context is left
  // out.
  CallFacts(const grpc::ServerContextBase& context, std::string_view operation);

  std::string operation;
  v1::TraceContext trace;
  std::string trace_id;

  ErrorContext Context(std::string_view user = {}, std::string_view thread = {},
                       std::string_view run = {}) const;
};

// A call that may last: ended when the service stops.
class LastingCall {
 public:
  virtual ~LastingCall() = default;
  // Ends the call with `status`, unless it has ended. Any thread, no lock held.
  virtual void End(const absl::Status& status) = 0;
};

// Outlives every call. Thread-safe.
class Core {
 public:
  Core(Options options, log::Log* log, delivery::Delivery* delivery, Scheduler* scheduler)
      : options(std::move(options)),
        log(log),
        delivery(delivery),
        scheduler(scheduler),
        intake(this->options.intake, delivery, scheduler),
        supervisor(runs::Supervisor::Create(this->options.supervisor,
                                            {log, &intake, MaxResultBytes(this->options.intake)},
                                            scheduler, &gate)) {}

  const Options options;
  log::Log* const log;
  delivery::Delivery* const delivery;
  Scheduler* const scheduler;
  runs::Intake intake;
  // Calls that may still use what is below them.
  clarion::Gate gate;
  // Calls that have written to the log, or are about to, and do not have its answer: a stop waits
  // for them before it ends what is left. It overlooks none: unary calls enter before they ask
  // whether the service serves or whether they were ended; streams enter when they are ended.
  clarion::Gate unanswered;
  const std::shared_ptr<runs::Supervisor> supervisor;

  // NOT_INITIALIZED before StartServing and after StopServing.
  absl::Status Serving() const;
  void StartServing() { serving_.store(true, std::memory_order_release); }
  // Refuses new calls and ends those that last.
  void StopServing();

  // The one place where an error leaves the service: adds what it does not say yet, logs, counts.
  grpc::Status Fail(absl::Status status, const ErrorContext& context) const;
  // The same for an error that leaves inside a response.
  absl::Status Note(absl::Status status, const ErrorContext& context) const;

  // False: the service stops; nothing was added.
  bool Add(const std::shared_ptr<LastingCall>& call);
  void Remove(LastingCall* call);

 private:
  // What stands around the result in its event has room.
  static size_t MaxResultBytes(const runs::IntakeOptions& intake) {
    return intake.max_event_bytes / 2;
  }

  std::atomic<bool> serving_{false};
  Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<LastingCall*, std::weak_ptr<LastingCall>> lasting_ ABSL_GUARDED_BY(mutex_);
};

absl::Status NotServing();

}  // namespace clarion::front
