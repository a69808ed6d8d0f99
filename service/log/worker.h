// A few threads that work off tasks in order of arrival, those first that others wait behind.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "proto/base/mutex.h"

namespace clarion::log {

// Thread-safe.
class Worker {
 public:
  // `name`: of its threads, at most 15 characters.
  Worker(const char* name, int threads);
  ~Worker() { Stop(); }

  void Post(std::function<void()> task);
  // Before all tasks that were not posted like this.
  void PostFirst(std::function<void()> task);
  // False, and nothing done, if `max_queued` tasks wait already. Leaves `task` alone then.
  bool TryPost(std::function<void()>& task, size_t max_queued);
  // Does what was posted, then ends the threads. Tasks may still post. Again: does nothing. Not
  // from two threads at once.
  void Stop();

 private:
  void Run(const char* name);
  bool IdleLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return first_.empty() && tasks_.empty();
  }

  Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> first_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  size_t busy_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace clarion::log
