// Ends a run whose producer will not: in one commit, partial_result_preserved, agent_error
// {agent_lost, synthetic} and resource_cleanup; or, for a run whose parent has ended,
// agent_completed {cancelled}.
//
// The commit is made on the condition that the run is as it was seen (log::RunMark), and its ids
// are made of the run: whoever ends it twice, before and after a crash, ends it once. It takes the
// run's fence away, so that a producer that comes back is told (RUN_FENCED).
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "service/log/log.h"
#include "service/runs/intake.h"

namespace clarion::runs {

struct LostRunSteps {
  log::Log* log;
  const Intake* intake;
  // Of what was produced; the event that carries it must stay below the limit of events.
  size_t max_result_bytes;
};

enum class WhyEnded : uint8_t { kLost, kParentEnded };

// `silent`: how long it has been. `done`, on a thread of the log: true, if the run has ended now;
// false: it moved since `state`, which is what FindRun said, and goes on. An error may be tried
// again.
void EndRun(const LostRunSteps& steps, log::ThreadState state, WhyEnded why,
            std::chrono::milliseconds silent, std::function<void(absl::StatusOr<bool>)> done);

}  // namespace clarion::runs
