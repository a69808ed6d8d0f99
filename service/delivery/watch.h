// Those who watch connections: a first picture, then every change once, in order.
//
// The list is guarded by Core's lock; each watcher's queue has a lock of its own, under which
// nothing is called. Changes are queued under Core's lock, which gives their order, and handed over
// without it, by whichever thread comes first; other threads only add to the queue meanwhile.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "proto/base/mutex.h"
#include "service/delivery/deferred.h"
#include "service/delivery/delivery.h"
#include "service/delivery/gate.h"
#include "service/delivery/records.h"

namespace clarion::delivery {

class Watch {
 public:
  Watch(UserId user, ThreadId thread, std::shared_ptr<ConnectionWatcher> watcher, size_t limit)
      : user(std::move(user)),
        thread(std::move(thread)),
        watcher_(std::move(watcher)),
        limit_(limit) {}

  // Constant. Empty: any.
  const UserId user;
  const ThreadId thread;

  // The first picture may be longer than the queue's bound.
  void OfferSnapshot(v1::Connection connection);
  // Over the bound the watch ends, after what was queued.
  void Offer(const v1::Connection& connection);
  void End(absl::Status status);
  // Hands over what is queued, unless another thread is at it. Not under any lock.
  void Drain();
  void Cancel() { gate_.Shut(); }

 private:
  struct Change {
    v1::Connection connection;
    bool snapshot = false;
  };

  const std::shared_ptr<ConnectionWatcher> watcher_;
  const size_t limit_;
  CallbackGate gate_;

  Mutex mutex_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
  std::deque<Change> queue_ ABSL_GUARDED_BY(mutex_);
};

class Watchers {
 public:
  void Add(const std::shared_ptr<Watch>& watch);
  void Remove(const std::shared_ptr<Watch>& watch);
  // `connection` changed; `left` is a thread it followed before and does not now.
  void Changed(const Connection& connection, const ThreadId* left, Deferred& after);
  void EndAll(const absl::Status& status, Deferred& after);

 private:
  using List = std::vector<std::shared_ptr<Watch>>;
  absl::flat_hash_map<UserId, List> by_user_;
  absl::flat_hash_map<ThreadId, List> by_thread_;  // of those without a user
};

}  // namespace clarion::delivery
