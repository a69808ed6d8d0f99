// Frames on their way to the gateways that hold their connections, and those who wait to hear that
// they are there.
//
// Guarded by Core's lock; timers are Core's, callbacks are done after the lock is gone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "proto/base/scheduler.h"
#include "proto/link/link.h"
#include "service/delivery/deferred.h"
#include "service/delivery/records.h"

namespace clarion::delivery {

class Passing {
 public:
  struct Limits {
    // Calls that wait at a time, and the bytes of their frames.
    size_t calls = 4'096;
    size_t bytes = 64 * 1024 * 1024;
    // Calls that wait for one connection: nobody fills the room of all by himself.
    size_t calls_per_connection = 64;
  };

  Passing(Limits limits, Scheduler* scheduler) : limits_(limits), scheduler_(scheduler) {}

  // OK, or why there is no room: RATE_LIMITED with RetryInfo.
  absl::Status Room(const Connection& connection, size_t bytes) const;
  // `connection` is open on an attachment, and there is room. What to ask with.
  uint64_t Add(const Connection& connection, size_t bytes, link::AskCallback done);
  // To be cancelled with the call.
  void SetTimer(uint64_t id, Scheduler::TimerId timer);

  // An answer from the gateway that was asked; unknown ids have no effect.
  void OnDelivered(const Attached& attached, const v1::FramesDelivered& delivered, Deferred& after);
  // The gateway that was asked has the connection no more: GATEWAY_UNAVAILABLE.
  void OnGone(const Connection& connection, Deferred& after);
  // `done` gets `status`, unless it got something before.
  void Fail(uint64_t id, const absl::Status& status, Deferred& after);
  void EndAll(const absl::Status& status, Deferred& after);

 private:
  struct Call {
    const Connection* connection = nullptr;
    const Attached* attached = nullptr;
    size_t bytes = 0;
    link::AskCallback done;
    Scheduler::TimerId timer = 0;
  };
  void Answer(uint64_t id, absl::StatusOr<v1::AskResponse> answer, Deferred& after);

  const Limits limits_;
  Scheduler* const scheduler_;
  uint64_t last_id_ = 0;
  size_t bytes_ = 0;
  absl::flat_hash_map<uint64_t, Call> calls_;
  absl::flat_hash_map<const Connection*, std::vector<uint64_t>> by_connection_;
};

}  // namespace clarion::delivery
