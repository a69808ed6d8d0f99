// A Scheduler with a thread and real time.
#pragma once

#include <memory>

#include "proto/base/scheduler.h"

namespace clarion {

// Destroying it cancels what has not begun and waits for what has.
std::unique_ptr<Scheduler> MakeThreadScheduler();

}  // namespace clarion
