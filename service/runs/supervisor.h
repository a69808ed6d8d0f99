// No run is left hanging: its producer is heard of within the run's lease, or the service ends the
// run (lost_run.h).
//
// A lease is renewed by every event of its run, and by Renew. Events cost it nothing: only when a
// lease would be over, the log is asked when the run moved last. Renewals and the leases themselves
// are in memory; after a start of the service, and after its process stood still, every lease
// begins in full. A run that is suspended (agent_completed {interrupted}) has none until it goes
// on, or its interrupts have expired. When a run ends, however that comes, the runs that it handed
// over to (parent_run_id) and that are open end too.
//
// Thread-safe. Calls of the log are made without a lock held.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "proto/base/gate.h"
#include "proto/base/scheduler.h"
#include "proto/contract/ids.h"
#include "service/runs/lost_run.h"

namespace clarion::runs {

struct SupervisorOptions {
  // Of runs that say none.
  std::chrono::milliseconds lease{30'000};
  // Runs that are looked at, and ended, at a time; the others wait for their turn.
  size_t looks_at_once = 64;
  size_t ends_at_once = 4;
};

// As a RunWatcher it learns of runs that begin, go on and end.
class Supervisor : public log::RunWatcher {
 public:
  // What it is given outlives it and what it has under way, for which it holds `gate`.
  static std::shared_ptr<Supervisor> Create(const SupervisorOptions& options,
                                            const LostRunSteps& steps, Scheduler* scheduler,
                                            Gate* gate);
  // Finds the runs that are open, in the background. Once.
  virtual void Start() = 0;
  // Nothing begins any more.
  virtual void Stop() = 0;

  // The lease begins anew, also that of a run that had been suspended. `run`, which is open, as the
  // log has it; the caller has checked who asks. The lease, 0 if it waits for somebody and has
  // none; nothing: it is being ended.
  virtual std::optional<std::chrono::milliseconds> Renew(const ThreadId& thread,
                                                         const log::RunRecord& run) = 0;

  // Leases there are.
  virtual size_t size() const = 0;
};

}  // namespace clarion::runs
