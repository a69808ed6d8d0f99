// Probes under way: questions that only a page's own code answers.
//
// Guarded by Core's lock. A connection has one at most; all who wait for its page share it.
#pragma once

#include <charconv>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/random/random.h"
#include "proto/base/scheduler.h"
#include "service/delivery/records.h"

namespace clarion::delivery {

class Probes {
 public:
  // One that is younger than this serves whoever asks now as well.
  static constexpr std::chrono::seconds kShared{5};

  // The nonce to ask with; nothing: one is under way. An older one does not count any more.
  std::optional<std::string> Ask(const Connection& connection, Scheduler::Steady now) {
    Open& open = open_[&connection];
    if (open.nonce != 0 && now - open.asked < kShared) return std::nullopt;
    open = {.nonce = absl::Uniform<uint64_t>(absl::IntervalClosed, random_, 1, UINT64_MAX),
            .asked = now};
    return std::to_string(open.nonce);
  }

  // The nonce of the one under way, to ask with once more; nothing: there is none.
  std::optional<std::string> UnderWay(const Connection& connection) const {
    const auto found = open_.find(&connection);
    if (found == open_.end()) return std::nullopt;
    return std::to_string(found->second.nonce);
  }

  // The page repeated `nonce`. False: that is not what it was asked with last.
  bool Answer(const Connection& connection, std::string_view nonce) {
    const auto found = open_.find(&connection);
    if (found == open_.end() || std::to_string(found->second.nonce) != nonce) return false;
    open_.erase(found);
    return true;
  }

  void OnGone(const Connection& connection) { open_.erase(&connection); }

 private:
  struct Open {
    uint64_t nonce = 0;
    Scheduler::Steady asked;
  };
  absl::flat_hash_map<const Connection*, Open> open_;
  absl::BitGen random_;
};

}  // namespace clarion::delivery
