#include "gateway/connection/user_limit.h"

namespace clarion::gateway {

bool UserLimit::TryAcquire(const UserId& user) {
  MutexLock lock(mutex_);
  size_t& connections = connections_[user];
  if (connections >= max_per_user_) return false;
  ++connections;
  return true;
}

void UserLimit::Release(const UserId& user) {
  MutexLock lock(mutex_);
  const auto found = connections_.find(user);
  if (found != connections_.end() && --found->second == 0) connections_.erase(found);
}

}  // namespace clarion::gateway
