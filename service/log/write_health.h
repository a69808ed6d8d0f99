// Whether the log can be written, for whoever asks from outside: /readyz.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "proto/base/mutex.h"
#include "proto/base/text.h"

namespace clarion::log {

// The commit thread reports, any thread asks.
class WriteHealth {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // The commit thread never works that long at a time: it waits for the disk.
  static constexpr std::chrono::seconds kStalled{5};

  void WorkBegins(Time now) {
    MutexLock lock(mutex_);
    since_ = now;
  }
  void WorkEnded() {
    MutexLock lock(mutex_);
    since_.reset();
  }
  // Until Mended().
  void Broke(std::string why) {
    MutexLock lock(mutex_);
    why_ = std::move(why);
  }
  void Mended() {
    MutexLock lock(mutex_);
    why_.clear();
  }

  // UNAVAILABLE says why not.
  absl::Status Get(Time now) const {
    MutexLock lock(mutex_);
    if (!why_.empty()) {
      return absl::UnavailableError(Concat("the event log cannot be written: ", why_));
    }
    if (!since_ || now - *since_ < kStalled) return absl::OkStatus();
    const auto seconds = std::chrono::floor<std::chrono::seconds>(now - *since_).count();
    return absl::UnavailableError(
        Concat("the event log stands still: it has waited for its disk for ", seconds, " s"));
  }

 private:
  mutable Mutex mutex_;
  std::optional<Time> since_ ABSL_GUARDED_BY(mutex_);  // nothing: it waits for work
  std::string why_ ABSL_GUARDED_BY(mutex_);            // empty: nothing is broken
};

}  // namespace clarion::log
