#include "service/log/worker.h"

#include <pthread.h>

#include <utility>

namespace clarion::log {

Worker::Worker(const char* name, int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this, name] { Run(name); });
}

void Worker::Post(std::function<void()> task) {
  MutexLock lock(mutex_);
  tasks_.push_back(std::move(task));
  wake_.NotifyOne();
}

void Worker::PostFirst(std::function<void()> task) {
  MutexLock lock(mutex_);
  first_.push_back(std::move(task));
  wake_.NotifyOne();
}

bool Worker::TryPost(std::function<void()>& task, size_t max_queued) {
  MutexLock lock(mutex_);
  if (tasks_.size() >= max_queued) return false;
  tasks_.push_back(std::move(task));
  wake_.NotifyOne();
  return true;
}

void Worker::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void Worker::Run(const char* name) {
  pthread_setname_np(pthread_self(), name);
  mutex_.Lock();
  for (;;) {
    while (IdleLocked() && !(stopping_ && busy_ == 0)) wake_.Wait(mutex_);
    if (IdleLocked()) break;
    auto& queue = first_.empty() ? tasks_ : first_;
    std::function<void()> task = std::move(queue.front());
    queue.pop_front();
    ++busy_;
    mutex_.Unlock();
    task();
    task = nullptr;  // what it held goes before Stop returns
    mutex_.Lock();
    --busy_;
    if (stopping_) wake_.NotifyAll();
  }
  mutex_.Unlock();
}

}  // namespace clarion::log
