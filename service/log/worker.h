// A few threads that work off tasks in order of arrival.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "proto/base/mutex.h"

namespace clarion::log {

// Thread-safe, but Stop only once.
class Worker {
 public:
  // `name`: of its threads, at most 15 characters.
  Worker(const char* name, int threads);
  ~Worker() { Stop(); }

  void Post(std::function<void()> task);
  // False, and nothing done, if `max_queued` tasks wait already. Leaves `task` alone then.
  bool TryPost(std::function<void()>& task, size_t max_queued);
  // Does what was posted, then ends the threads. Tasks may still post.
  void Stop();

 private:
  void Run(const char* name);

  Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  size_t busy_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace clarion::log
