// How long to wait before the next attempt: exponential, with full jitter, so that many who lost
// the same service do not come back at the same moment.
#pragma once

#include <algorithm>
#include <chrono>
#include <random>

#include "absl/status/status.h"
#include "proto/contract/error.h"

namespace clarion::link {

class Backoff {
 public:
  using Delay = std::chrono::milliseconds;

  Backoff(Delay first, Delay most) : first_(first), most_(most), bound_(first) {}

  // Between 1 ms and the bound, which then doubles.
  Delay Next() {
    const Delay delay(
        std::uniform_int_distribution<int64_t>(1, std::max<int64_t>(1, bound_.count()))(random_));
    bound_ = std::min(most_, bound_ * 2);
    return delay;
  }
  // The attempt succeeded.
  void Reset() { bound_ = first_; }

 private:
  const Delay first_;
  const Delay most_;
  Delay bound_;
  std::minstd_rand random_{std::random_device{}()};
};

// Between two attachments of a gateway. One that another with its id displaced does not fight for
// its place: it asks more and more rarely, and so takes over soon after the other has gone.
class AttachBackoff {
 public:
  AttachBackoff(Backoff broken, Backoff displaced) : broken_(broken), displaced_(displaced) {}

  Backoff::Delay After(const absl::Status& end) {
    return ReasonOf(end) == Reason::kGatewayDisplaced ? displaced_.Next() : broken_.Next();
  }
  // The service took the attachment.
  void Reset() {
    broken_.Reset();
    displaced_.Reset();
  }

 private:
  Backoff broken_;
  Backoff displaced_;
};

}  // namespace clarion::link
