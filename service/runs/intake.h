// What stands on either side of Log::Append for every event, of Publish, streams, StartRun and
// canaries: completed and encoded before it, answered after it. It does not check fields; its
// callers have done so.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clarion/v1/event.pb.h"
#include "clarion/v1/event_service.pb.h"
#include "proto/base/scheduler.h"
#include "proto/contract/error.h"
#include "proto/contract/event_json.h"
#include "proto/contract/ids.h"
#include "service/delivery/delivery.h"
#include "service/log/log.h"

namespace clarion::runs {

// RunRecord::outcome of a run that agent_error ended; of the others it is their v1::RunOutcome.
inline constexpr uint8_t kOutcomeError = 100;

// As AppendEventJson: false and nothing appended for a type that it lacks.
using EventEncoder = std::function<bool(const v1::Event&, std::string*)>;

struct IntakeOptions {
  EventEncoder encoder = AppendEventJson;
  // Of the JSON of one event.
  size_t max_event_bytes = 256 * 1024;
  std::chrono::milliseconds retention_critical = std::chrono::hours(168);
};

// Thread-safe; everything it is given outlives it and what it has under way.
class Intake {
 public:
  Intake(IntakeOptions options, delivery::Delivery* delivery, Scheduler* scheduler)
      : options_(std::move(options)), delivery_(delivery), scheduler_(scheduler) {}

  // Completes `event` (accepted_at; occurred_at and trace context where the producer gave none) and
  // encodes it. BUFFER_OVERFLOW: over the limit, which names the size; CONTEXT_INVALID: a type
  // that the encoder lacks. Sending the same event again does not help with either.
  absl::StatusOr<log::AppendItem> MakeItem(v1::Event* event,
                                           const v1::TraceContext& call_trace) const;

  // The answer for an item that was accepted (kAppended, kDuplicate), `subscriptions` of its thread
  // now.
  v1::PublishResponse Accepted(const log::AppendedItem& item, const log::AppendResult& result,
                               bool critical, uint32_t subscriptions) const;

  uint32_t Subscriptions(const ThreadId& thread) const { return delivery_->Subscriptions(thread); }

 private:
  const IntakeOptions options_;
  delivery::Delivery* const delivery_;
  Scheduler* const scheduler_;
};

// The item was accepted, now or before.
bool IsAccepted(log::AppendOutcome outcome);
// Why it was not. Requires !IsAccepted, nor kRunProtocol: see run_protocol.h.
absl::Status RefusalOf(log::AppendOutcome outcome, const ErrorContext& context);
// Tells a repeated event from another one under the same id: run and payload, not time or trace.
log::Digest ContentDigest(const v1::Event& event);

}  // namespace clarion::runs
