// Probes under way: questions that only a page's own code answers.
//
// Guarded by Core's lock. All who wait for a connection's page share what it is asked with.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/random/random.h"
#include "proto/base/scheduler.h"
#include "service/delivery/records.h"

namespace clarion::delivery {

class Probes {
 public:
  // Serves whoever began to wait so much later as well.
  static constexpr std::chrono::seconds kShared{5};
  // Of one connection: more than are asked while anybody may wait, which is 2 minutes.
  static constexpr size_t kMaxOpen = 32;

  // The nonce to ask with; nothing: one is under way that serves whoever asks now.
  std::optional<std::string> Ask(const Connection& connection, Scheduler::Steady now) {
    std::vector<Open>& open = open_[&connection];
    if (!open.empty() && now - open.back().asked < kShared) return std::nullopt;
    if (open.size() == kMaxOpen) open.erase(open.begin());
    open.push_back({.nonce = absl::Uniform<uint64_t>(absl::IntervalClosed, random_, 1, UINT64_MAX),
                    .asked = now});
    return std::to_string(open.back().nonce);
  }

  // The nonce of the last one under way, to ask with once more; nothing: there is none.
  std::optional<std::string> UnderWay(const Connection& connection) const {
    const auto found = open_.find(&connection);
    if (found == open_.end()) return std::nullopt;
    return std::to_string(found->second.back().nonce);
  }

  // The page repeated `nonce`: when it was first asked with that. Nothing: it was not, or has
  // answered it or a later one.
  std::optional<Scheduler::Steady> Answer(const Connection& connection, std::string_view nonce) {
    const auto found = open_.find(&connection);
    if (found == open_.end()) return std::nullopt;
    std::vector<Open>& open = found->second;
    const auto answered = std::find_if(open.begin(), open.end(), [&](const Open& probe) {
      return std::to_string(probe.nonce) == nonce;
    });
    if (answered == open.end()) return std::nullopt;
    const Scheduler::Steady asked = answered->asked;
    open.erase(open.begin(), answered + 1);
    if (open.empty()) open_.erase(found);
    return asked;
  }

  void OnGone(const Connection& connection) { open_.erase(&connection); }

 private:
  struct Open {
    uint64_t nonce = 0;
    Scheduler::Steady asked;
  };
  // Oldest first; none is empty.
  absl::flat_hash_map<const Connection*, std::vector<Open>> open_;
  absl::BitGen random_;
};

}  // namespace clarion::delivery
