#include "telemetry/runtime/thread_scheduler.h"

#include <map>
#include <thread>
#include <unordered_map>
#include <utility>

#include "proto/base/mutex.h"

namespace clarion {
namespace {

class ThreadScheduler : public Scheduler {
 public:
  ThreadScheduler() : thread_([this] { Run(); }) {}

  ~ThreadScheduler() override {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
    }
    changed_.NotifyOne();
    thread_.join();
  }

  Steady now() const override { return std::chrono::steady_clock::now(); }
  Wall wall_now() const override { return std::chrono::system_clock::now(); }

  TimerId After(std::chrono::nanoseconds delay, std::function<void()> task) override {
    const Steady due = now() + delay;
    MutexLock lock(mutex_);
    const TimerId id = ++last_;
    const auto place = tasks_.emplace(Key(due, id), std::move(task)).first;
    due_.emplace(id, due);
    // Only an earlier end of the wait concerns the thread.
    if (place == tasks_.begin()) changed_.NotifyOne();
    return id;
  }

  bool Cancel(TimerId timer) override {
    std::function<void()> cancelled;  // destroyed outside the lock
    MutexLock lock(mutex_);
    const auto due = due_.find(timer);
    if (due == due_.end()) return false;
    const auto task = tasks_.find(Key(due->second, timer));
    cancelled = std::move(task->second);
    tasks_.erase(task);
    due_.erase(due);
    return true;
  }

 private:
  // By time, then by order of After().
  using Key = std::pair<Steady, TimerId>;

  void Run() {
    while (const auto task = Next()) task();
  }

  // Waits for the next task that is due. Empty: stop.
  std::function<void()> Next() {
    MutexLock lock(mutex_);
    while (!stopping_) {
      if (tasks_.empty()) {
        changed_.Wait(mutex_);
        continue;
      }
      const auto first = tasks_.begin();
      if (first->first.first > now()) {
        changed_.WaitUntil(mutex_, Steady(first->first.first));
        continue;
      }
      std::function<void()> task = std::move(first->second);
      due_.erase(first->first.second);
      tasks_.erase(first);
      return task;
    }
    return nullptr;
  }

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  TimerId last_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<Key, std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<TimerId, Steady> due_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // the last: it uses all of the above
};

}  // namespace

std::unique_ptr<Scheduler> MakeThreadScheduler() {
  return std::make_unique<ThreadScheduler>();
}

}  // namespace clarion
