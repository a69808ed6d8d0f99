#include "service/log/op.h"

#include <utility>

namespace clarion::log {

void CommitQueue::Taken::Clear() {
  ops.clear();
  loaded.clear();
  purged.clear();
  due.clear();
  retention_tick = false;
  store_closed = false;
}

bool CommitQueue::Push(Op& op) {
  MutexLock lock(mutex_);
  if (ops_ >= max_ops_ || bytes_ + op.bytes > max_bytes_) return false;
  ++ops_;
  bytes_ += op.bytes;
  waiting_.ops.push_back(std::move(op));
  WakeLocked();
  return true;
}

void CommitQueue::PushAlways(Op op) {
  MutexLock lock(mutex_);
  ++ops_;
  bytes_ += op.bytes;
  waiting_.ops.push_back(std::move(op));
  WakeLocked();
}

void CommitQueue::PushLoaded(Loaded loaded) {
  MutexLock lock(mutex_);
  waiting_.loaded.push_back(std::move(loaded));
  WakeLocked();
}

void CommitQueue::PushPurged(Purged purged) {
  MutexLock lock(mutex_);
  waiting_.purged.push_back(std::move(purged));
  WakeLocked();
}

void CommitQueue::PushDue(std::vector<ThreadId> threads) {
  MutexLock lock(mutex_);
  for (ThreadId& thread : threads) waiting_.due.push_back(std::move(thread));
  WakeLocked();
}

void CommitQueue::PushRetentionTick() {
  MutexLock lock(mutex_);
  waiting_.retention_tick = true;
  WakeLocked();
}

void CommitQueue::PushStoreClosed() {
  MutexLock lock(mutex_);
  waiting_.store_closed = true;
  WakeLocked();
}

void CommitQueue::Close() {
  MutexLock lock(mutex_);
  waiting_.closing = true;
  WakeLocked();
}

void CommitQueue::Take(Taken& taken, bool poll,
                       std::optional<std::chrono::steady_clock::time_point> until) {
  const bool closing_known = taken.closing;
  MutexLock lock(mutex_);
  sleeping_ = true;
  while (!poll && !SomethingLocked() && waiting_.closing == closing_known) {
    if (!until) {
      wake_.Wait(mutex_);
    } else if (!wake_.WaitUntil(mutex_, *until)) {
      break;
    }
  }
  sleeping_ = false;
  const bool closing = waiting_.closing;
  std::swap(taken, waiting_);
  taken.closing = waiting_.closing = closing;
}

void CommitQueue::Release(size_t ops, size_t bytes) {
  MutexLock lock(mutex_);
  ops_ -= ops;
  bytes_ -= bytes;
}

bool CommitQueue::SomethingLocked() const {
  return !waiting_.ops.empty() || !waiting_.loaded.empty() || !waiting_.purged.empty() ||
         !waiting_.due.empty() || waiting_.retention_tick || waiting_.store_closed;
}

void CommitQueue::WakeLocked() {
  if (sleeping_) wake_.NotifyOne();
}

}  // namespace clarion::log
