// A Scheduler whose clock stands still until a test moves it; tasks run inside Advance().
#pragma once

#include <map>
#include <utility>

#include "proto/base/mutex.h"
#include "proto/base/scheduler.h"

namespace clarion {

class ManualScheduler : public Scheduler {
 public:
  Steady now() const override {
    MutexLock lock(mutex_);
    return now_;
  }
  Wall wall_now() const override {
    MutexLock lock(mutex_);
    return wall_;
  }
  TimerId After(std::chrono::nanoseconds delay, std::function<void()> task) override {
    MutexLock lock(mutex_);
    const TimerId id = ++last_;
    tasks_.emplace(std::pair(now_ + delay, id), std::move(task));
    return id;
  }
  bool Cancel(TimerId timer) override {
    MutexLock lock(mutex_);
    return std::erase_if(tasks_, [&](const auto& entry) { return entry.first.second == timer; }) >
           0;
  }
  // Moves the clock and runs what falls due, in order of time.
  void Advance(std::chrono::nanoseconds by) {
    const Steady end = now() + by;
    for (;;) {
      std::function<void()> task;
      {
        MutexLock lock(mutex_);
        auto first = tasks_.begin();
        if (first == tasks_.end() || first->first.first > end) {
          wall_ += std::chrono::duration_cast<Wall::duration>(end - now_);
          now_ = end;
          return;
        }
        if (first->first.first > now_) {
          wall_ += std::chrono::duration_cast<Wall::duration>(first->first.first - now_);
          now_ = first->first.first;
        }
        task = std::move(first->second);
        tasks_.erase(first);
      }
      task();
    }
  }

 private:
  mutable Mutex mutex_;
  Steady now_ ABSL_GUARDED_BY(mutex_) = Steady(std::chrono::hours(1));
  Wall wall_ ABSL_GUARDED_BY(mutex_) = Wall(std::chrono::hours(24 * 365 * 56));
  TimerId last_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::pair<Steady, TimerId>, std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace clarion
