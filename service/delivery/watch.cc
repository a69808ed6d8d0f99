#include "service/delivery/watch.h"

#include <utility>

#include "proto/contract/error.h"
#include "service/delivery/registry.h"

namespace clarion::delivery {

void Watch::OfferSnapshot(v1::Connection connection) {
  MutexLock lock(mutex_);
  queue_.push_back({std::move(connection), true});
}

void Watch::Offer(const v1::Connection& connection) {
  MutexLock lock(mutex_);
  if (ended_) return;
  if (queue_.size() >= limit_) {
    ended_ = true;
    end_ = MakeError(
        Reason::kBufferOverflow, "the watcher reads too slowly",
        {.user_id = user.str(), .thread_id = thread.str(), .operation = "WatchConnections"});
    return;
  }
  queue_.push_back({connection, false});
}

void Watch::End(absl::Status status) {
  MutexLock lock(mutex_);
  if (ended_) return;
  ended_ = true;
  end_ = std::move(status);
}

void Watch::Drain() {
  {
    MutexLock lock(mutex_);
    if (draining_) return;
    draining_ = true;
  }
  for (;;) {
    Change change;
    absl::Status end;
    {
      MutexLock lock(mutex_);
      if (!queue_.empty()) {
        change = std::move(queue_.front());
        queue_.pop_front();
      } else if (!end_.ok()) {
        end = std::exchange(end_, absl::OkStatus());
      } else {
        draining_ = false;
        return;
      }
    }
    if (!gate_.Enter()) return;  // cancelled: draining_ stays, so that nobody comes here again
    if (end.ok()) {
      watcher_->OnChange(change.connection, change.snapshot);
    } else {
      watcher_->OnEnded(end);
    }
    gate_.Leave();
  }
}

void Watchers::Add(const std::shared_ptr<Watch>& watch) {
  if (!watch->user.empty()) {
    by_user_[watch->user].push_back(watch);
  } else {
    by_thread_[watch->thread].push_back(watch);
  }
}

void Watchers::Remove(const std::shared_ptr<Watch>& watch) {
  const auto take_out = [&](auto& map, const auto& key) {
    const auto found = map.find(key);
    if (found == map.end()) return;
    std::erase(found->second, watch);
    if (found->second.empty()) map.erase(found);
  };
  if (!watch->user.empty()) {
    take_out(by_user_, watch->user);
  } else {
    take_out(by_thread_, watch->thread);
  }
}

void Watchers::Changed(const Connection& connection, const ThreadId* left, Deferred& after) {
  if (by_user_.empty() && by_thread_.empty()) return;
  if (IsCanary(connection.user)) return;
  const v1::Connection described = Describe(connection);
  const auto offer = [&](const std::shared_ptr<Watch>& watch) {
    watch->Offer(described);
    after.Add([watch] { watch->Drain(); });
  };
  if (const auto found = by_user_.find(connection.user); found != by_user_.end()) {
    for (const auto& watch : found->second) {
      const bool concerns = watch->thread.empty() || Follows(connection, watch->thread) ||
                            (left != nullptr && *left == watch->thread);
      if (concerns) offer(watch);
    }
  }
  const auto offer_thread = [&](const ThreadId& thread) {
    const auto found = by_thread_.find(thread);
    if (found == by_thread_.end()) return;
    for (const auto& watch : found->second) offer(watch);
  };
  for (const ThreadId& thread : connection.followed) offer_thread(thread);
  if (left != nullptr) offer_thread(*left);
}

void Watchers::EndAll(const absl::Status& status, Deferred& after) {
  const auto end = [&](auto& map) {
    for (auto& [key, list] : map) {
      for (const auto& watch : list) {
        watch->End(status);
        after.Add([watch] { watch->Drain(); });
      }
    }
    map.clear();
  };
  end(by_user_);
  end(by_thread_);
}

}  // namespace clarion::delivery
