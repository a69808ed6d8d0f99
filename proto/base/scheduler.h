// Time as the program sees it: now, and later. Tests turn the clock by hand (ManualScheduler).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

namespace clarion {

class Scheduler {
 public:
  using Steady = std::chrono::steady_clock::time_point;
  using Wall = std::chrono::system_clock::time_point;
  using TimerId = uint64_t;  // never 0

  virtual ~Scheduler() = default;
  virtual Steady now() const = 0;
  virtual Wall wall_now() const = 0;
  // Calls `task` once, on the scheduler's thread, not before `delay`. Thread-safe.
  virtual TimerId After(std::chrono::nanoseconds delay, std::function<void()> task) = 0;
  // False: the task has begun or is done. A cancelled task never begins. Thread-safe.
  virtual bool Cancel(TimerId timer) = 0;
};

}  // namespace clarion
