// One-time tickets of canaries: each stands in for a token, once, until it expires.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "proto/base/mutex.h"

namespace clarion::gateway {

// One per process: a canary's socket may land on any loop. Thread-safe.
class Tickets {
 public:
  using Time = std::chrono::system_clock::time_point;

  // Drops what has expired by `now`.
  void Add(std::string ticket, Time expires_at, Time now);
  // The ticket's expiry, and it is gone; nothing for what is no valid ticket.
  std::optional<Time> Redeem(std::string_view ticket, Time now);
  void Remove(std::string_view ticket);

 private:
  Mutex mutex_;
  std::map<std::string, Time, std::less<>> tickets_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace clarion::gateway
