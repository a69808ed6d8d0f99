// How many connections, or questions under way, each user has, over all loops of the process.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <utility>

#include "absl/hash/hash.h"
#include "proto/base/mutex.h"
#include "proto/contract/ids.h"

namespace clarion::gateway {

// Thread-safe.
class UserLimit {
 public:
  explicit UserLimit(size_t max_per_user) : max_per_user_(max_per_user) {}

  // False: the user has as many as allowed. Otherwise Release follows.
  bool TryAcquire(const UserId& user);
  void Release(const UserId& user);

  // Releases with its end what was acquired.
  class Share {
   public:
    Share(UserLimit& limit, UserId user) : limit_(limit), user_(std::move(user)) {}
    ~Share() { limit_.Release(user_); }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

   private:
    UserLimit& limit_;
    const UserId user_;
  };

 private:
  const size_t max_per_user_;
  Mutex mutex_;
  std::unordered_map<UserId, size_t, absl::Hash<UserId>> held_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace clarion::gateway
