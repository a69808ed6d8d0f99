// What pages may cost the service: so many are read and compacted at a time, the others wait in
// order of arrival; the work on what was read is done on a thread of its own, so that neither
// commits nor other reads wait for it.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "proto/base/mutex.h"

namespace clarion::delivery {

// Thread-safe.
class PageTurns {
 public:
  struct Options {
    size_t at_once = 32;
    // Beyond, a page is refused.
    size_t waiting = 4'096;
    // 0: work is done where it is handed over.
    size_t threads = 0;
  };

  explicit PageTurns(Options options);
  ~PageTurns() { Stop(); }
  PageTurns(const PageTurns&) = delete;
  PageTurns& operator=(const PageTurns&) = delete;

  // Calls `page` when it is its turn, in this call or on another thread; End() follows once it is
  // over. False, and nothing done: too many wait.
  [[nodiscard]] bool Begin(std::function<void()> page);
  void End();
  // Does a piece of a page's work.
  void Work(std::function<void()> task);
  // Ends the threads, after what was handed over; those that wait have their turn. Afterwards
  // everything is done inside the call. Again: does nothing. Not on a thread of its own.
  void Stop();

 private:
  void Run();

  const Options options_;
  Mutex mutex_;
  CondVar wake_;
  size_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace clarion::delivery
