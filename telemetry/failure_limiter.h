// How many lines about failures of one kind are written: the first 20 of each second.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

namespace clarion {

// Not thread-safe.
class FailureLimiter {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr uint32_t kLinesPerSecond = 20;

  // Nothing: leave this one out. Otherwise: write it, and say that so many were left out before it.
  std::optional<uint64_t> Admit(Time now) {
    if (now - begin_ >= std::chrono::seconds(1)) {
      begin_ = now;
      written_ = 0;
    }
    if (written_ == kLinesPerSecond) {
      ++left_out_;
      return std::nullopt;
    }
    ++written_;
    return std::exchange(left_out_, 0);
  }

 private:
  // Of the second that is running; it begins with its first line.
  Time begin_{};
  uint32_t written_ = 0;
  uint64_t left_out_ = 0;
};

}  // namespace clarion
