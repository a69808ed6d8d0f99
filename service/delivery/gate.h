// Between a callback and the Cancellation that may forbid it.
#pragma once

#include <thread>

#include "proto/base/mutex.h"

namespace clarion::delivery {

// Once Shut() has returned, no Enter() succeeds, and whoever had entered on another thread has
// left. Shutting from inside the callback does not wait. Thread-safe.
class CallbackGate {
 public:
  // False: shut. True: call the callback, then Leave(). Another caller waits meanwhile.
  bool Enter() {
    MutexLock lock(mutex_);
    return EnterLocked();
  }
  // The same, and nobody enters after this one.
  bool EnterLast() {
    MutexLock lock(mutex_);
    if (!EnterLocked()) return false;
    shut_ = true;
    return true;
  }

  void Leave() {
    MutexLock lock(mutex_);
    inside_ = false;
    left_.NotifyAll();
  }

  void Shut() {
    MutexLock lock(mutex_);
    shut_ = true;
    while (inside_ && who_ != std::this_thread::get_id()) left_.Wait(mutex_);
  }

 private:
  bool EnterLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    while (inside_ && who_ != std::this_thread::get_id()) left_.Wait(mutex_);
    if (shut_) return false;
    inside_ = true;
    who_ = std::this_thread::get_id();
    return true;
  }

  Mutex mutex_;
  CondVar left_;
  bool shut_ ABSL_GUARDED_BY(mutex_) = false;
  bool inside_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread::id who_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace clarion::delivery
