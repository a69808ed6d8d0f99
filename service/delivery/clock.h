// Time points as protos write them.
#pragma once

#include <chrono>

#include "google/protobuf/timestamp.pb.h"
#include "proto/base/scheduler.h"

namespace clarion::delivery {

inline google::protobuf::Timestamp ToTimestamp(Scheduler::Wall time) {
  const auto since = time.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  google::protobuf::Timestamp timestamp;
  timestamp.set_seconds(seconds.count());
  timestamp.set_nanos(static_cast<int32_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(since - seconds).count()));
  return timestamp;
}

inline Scheduler::Wall FromTimestamp(const google::protobuf::Timestamp& timestamp) {
  return Scheduler::Wall(std::chrono::duration_cast<Scheduler::Wall::duration>(
      std::chrono::seconds(timestamp.seconds()) + std::chrono::nanoseconds(timestamp.nanos())));
}

}  // namespace clarion::delivery
