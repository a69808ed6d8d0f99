// StartRun: an agent does not start before its user can see it.
//
// Steps: owner and repetition -> assign the thread -> bind the user's open connections -> wait
// until ready -> append `agent_started`. Whether the run exists is decided by the log, in the
// commit of `agent_started`: two calls at the same moment get one run.
//
// What is kept with the run (log::RunRecord::data), in ASCII, fields separated by one space:
//   "2"  version
//   32 hexadecimal digits: digest of the request, so far as it says what to start
//   one digit: v1::Readiness that was reached
//   32 hexadecimal digits: the producer token
//   the lease in milliseconds, in decimal; 0: the service's default
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "clarion/v1/event_service.pb.h"
#include "proto/base/gate.h"
#include "proto/contract/error.h"
#include "proto/contract/ids.h"
#include "service/delivery/delivery.h"
#include "service/log/log.h"
#include "service/runs/intake.h"

namespace clarion::runs {

struct StartRunSteps {
  log::Log* log;
  delivery::Delivery* delivery;
  Intake* intake;
  Gate* gate;
};

struct StartRunCall {
  // Valid: fields checked, ready_timeout present, enums never UNSPECIFIED.
  v1::StartRunRequest request;
  // Of the call, if the request has none.
  v1::TraceContext trace;
  ErrorContext context;
  // Asked once, before `agent_started` is appended. False: the caller was answered otherwise, the
  // run is not started and `done` not called.
  std::function<bool()> may_start = [] { return true; };
};

// Begins at once. `done` is called once, on any thread, possibly inside this call, and not after
// the Cancellation was destroyed, unless it is running just then. A run whose start is being
// committed at that moment may start all the same.
[[nodiscard]] std::unique_ptr<delivery::Cancellation> StartRun(
    const StartRunSteps& steps, StartRunCall call,
    std::function<void(absl::StatusOr<v1::StartRunResponse>)> done);

// What is kept with a run.
struct RunFacts {
  log::Digest request;
  v1::Readiness readiness = v1::READINESS_NONE;
  std::string producer_token;
  std::chrono::milliseconds lease{0};
};
std::string EncodeRunFacts(const RunFacts& facts);
// Nothing for a run that StartRun did not start.
std::optional<RunFacts> DecodeRunFacts(std::string_view data);
// Nothing: the service's default.
std::optional<std::chrono::milliseconds> LeaseOf(std::string_view data);

// `_start.` and 32 hexadecimal digits made from the request_id.
EventId StartEventId(std::string_view request_id);
// For a request without run_id.
RunId MakeRunId(std::string_view request_id);
// What `event`, an agent_started, has of the request besides its ids.
void FillStarted(const v1::StartRunRequest& request, v1::Event* event);
// 128 random bits in hexadecimal.
std::string RandomHex();

// NOT_READY that tells the states seen, and whether there is a gateway to connect to.
absl::Status NotReady(const delivery::ReadyState& state, bool gateways,
                      const ErrorContext& context);

}  // namespace clarion::runs
