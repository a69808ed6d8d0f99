// Who is still inside: lets a shutdown wait until nobody uses what it is about to take apart.
#pragma once

#include <cstddef>

#include "proto/base/mutex.h"

namespace clarion {

// Thread-safe. Outlives its passes.
class Gate {
 public:
  // Holds the gate open; an asynchronous operation keeps one for as long as it may call anybody.
  class Pass {
   public:
    explicit Pass(Gate& gate) : gate_(gate) {
      MutexLock lock(gate_.mutex_);
      ++gate_.inside_;
    }
    ~Pass() {
      MutexLock lock(gate_.mutex_);
      if (--gate_.inside_ == 0) gate_.empty_.NotifyAll();
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    Gate& gate_;
  };

  void WaitUntilEmpty() {
    MutexLock lock(mutex_);
    while (inside_ > 0) empty_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar empty_;
  size_t inside_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace clarion
