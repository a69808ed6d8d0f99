// Wall-clock times as protos write them.
#pragma once

#include <chrono>
#include <cstdint>

#include "google/protobuf/timestamp.pb.h"

namespace clarion {

template <class Duration>
google::protobuf::Timestamp ToTimestamp(
    std::chrono::time_point<std::chrono::system_clock, Duration> time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  google::protobuf::Timestamp timestamp;
  timestamp.set_seconds(seconds.time_since_epoch().count());
  timestamp.set_nanos(static_cast<int32_t>(std::chrono::nanoseconds(time - seconds).count()));
  return timestamp;
}

// What is finer than a millisecond is cut off.
inline std::chrono::sys_time<std::chrono::milliseconds> ToSysTime(
    const google::protobuf::Timestamp& timestamp) {
  return std::chrono::sys_time<std::chrono::milliseconds>(
      std::chrono::seconds(timestamp.seconds()) +
      std::chrono::floor<std::chrono::milliseconds>(std::chrono::nanoseconds(timestamp.nanos())));
}

}  // namespace clarion
