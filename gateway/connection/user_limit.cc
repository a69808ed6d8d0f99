#include "gateway/connection/user_limit.h"

namespace clarion::gateway {

bool UserLimit::TryAcquire(const UserId& user) {
  MutexLock lock(mutex_);
  size_t& held = held_[user];
  if (held >= max_per_user_) return false;
  ++held;
  return true;
}

void UserLimit::Release(const UserId& user) {
  MutexLock lock(mutex_);
  const auto found = held_.find(user);
  if (found != held_.end() && --found->second == 0) held_.erase(found);
}

}  // namespace clarion::gateway
