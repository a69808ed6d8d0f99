// Work that must not be done under delivery's lock: calls of the log, of callbacks and watchers,
// and closing attachments.
#pragma once

#include <functional>
#include <utility>
#include <vector>

namespace clarion::delivery {

// Does its work when it goes out of scope, in the order it was added. Declare it before the lock,
// so that the lock is gone by then:
//
//   Deferred after;
//   MutexLock lock(mutex_);
class Deferred {
 public:
  Deferred() = default;
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;
  ~Deferred() {
    for (auto& work : work_) work();
  }

  void Add(std::function<void()> work) { work_.push_back(std::move(work)); }

 private:
  std::vector<std::function<void()>> work_;
};

}  // namespace clarion::delivery
