// Who is still inside: lets a shutdown wait until nobody uses what it is about to take apart.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "proto/base/mutex.h"

namespace clarion {

// Thread-safe. Outlives its passes.
class Gate {
 public:
  // Holds the gate open; an asynchronous operation keeps one for as long as it may call anybody. A
  // copy is one more; one that was moved from is none.
  class Pass {
   public:
    explicit Pass(Gate& gate) : gate_(&gate) { gate.Enter(); }
    Pass(const Pass& other) : gate_(other.gate_) {
      if (gate_ != nullptr) gate_->Enter();
    }
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass other) noexcept {
      std::swap(gate_, other.gate_);
      return *this;
    }
    ~Pass() {
      if (gate_ != nullptr) gate_->Leave();
    }

   private:
    Gate* gate_;
  };

  void WaitUntilEmpty() {
    MutexLock lock(mutex_);
    while (inside_ > 0) empty_.Wait(mutex_);
  }
  // True: there was a moment at which nobody was inside; who enters after it does not count. False:
  // there was none before the time was over.
  bool WasEmptyWithin(std::chrono::nanoseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    MutexLock lock(mutex_);
    const uint64_t before = times_empty_;
    while (inside_ > 0 && times_empty_ == before && empty_.WaitUntil(mutex_, end)) {
    }
    return inside_ == 0 || times_empty_ != before;
  }

 private:
  void Enter() {
    MutexLock lock(mutex_);
    ++inside_;
  }
  // Notifies under the lock: once the last has left and unlocked, the gate may be gone.
  void Leave() {
    MutexLock lock(mutex_);
    if (--inside_ > 0) return;
    ++times_empty_;
    empty_.NotifyAll();
  }

  Mutex mutex_;
  CondVar empty_;
  size_t inside_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t times_empty_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace clarion
