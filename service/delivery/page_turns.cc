#include "service/delivery/page_turns.h"

#include <pthread.h>

#include <utility>

#include "telemetry/metrics.h"

namespace clarion::delivery {
namespace {

Gauge& UnderWay() {
  static Gauge& gauge =
      GetGauge("clarion_pages_under_way", "Pages of replay that are being read and compacted");
  return gauge;
}
Gauge& Waiting() {
  static Gauge& gauge =
      GetGauge("clarion_pages_waiting", "Pages of replay that wait until others are read");
  return gauge;
}

}  // namespace

PageTurns::PageTurns(Options options) : options_(options) {
  for (size_t i = 0; i < options_.threads; ++i) {
    threads_.emplace_back([this] {
      pthread_setname_np(pthread_self(), "pages");
      Run();
    });
  }
}

bool PageTurns::Begin(std::function<void()> page) {
  {
    MutexLock lock(mutex_);
    if (under_way_ >= options_.at_once && !stopping_) {
      if (waiting_.size() >= options_.waiting) return false;
      waiting_.push_back(std::move(page));
      Waiting().Add(1);
      return true;
    }
    ++under_way_;
  }
  UnderWay().Add(1);
  page();
  return true;
}

void PageTurns::End() {
  std::function<void()> next;
  {
    MutexLock lock(mutex_);
    // Stop takes care of those that wait.
    if (waiting_.empty() || stopping_) {
      --under_way_;
      UnderWay().Add(-1);
      return;
    }
    next = std::move(waiting_.front());
    waiting_.pop_front();
  }
  Waiting().Add(-1);
  Work(std::move(next));
}

void PageTurns::Work(std::function<void()> task) {
  {
    MutexLock lock(mutex_);
    if (!threads_.empty() && !stopping_) {
      tasks_.push_back(std::move(task));
      return wake_.NotifyOne();
    }
  }
  task();
}

void PageTurns::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  for (;;) {
    std::function<void()> page;
    {
      MutexLock lock(mutex_);
      if (waiting_.empty()) return;
      page = std::move(waiting_.front());
      waiting_.pop_front();
      ++under_way_;
    }
    Waiting().Add(-1);
    UnderWay().Add(1);
    page();
  }
}

void PageTurns::Run() {
  mutex_.Lock();
  for (;;) {
    while (tasks_.empty() && !stopping_) wake_.Wait(mutex_);
    if (tasks_.empty()) break;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    mutex_.Unlock();
    task();
    task = nullptr;  // what it held goes before Stop returns
    mutex_.Lock();
  }
  mutex_.Unlock();
}

}  // namespace clarion::delivery
