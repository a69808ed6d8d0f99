// How many bytes of messages the process holds for connections that are not authenticated.
//
// A first message may be as long as --max-message-bytes, since the longest `connect` is. Without a
// bound on their sum, --max-connections of them could be kept half sent.
#pragma once

#include <atomic>
#include <cstddef>

#include "telemetry/metrics.h"

namespace clarion::gateway {

// One per process, outlives its shares. Thread-safe.
class HandshakeBytes {
 public:
  // Of each connection these do not count: a `connect` of usual length is heard however full it is.
  static constexpr size_t kFreeBytes = 8 * 1024;

  // What one connection holds. On one thread only.
  class Share {
   public:
    explicit Share(HandshakeBytes& total) : total_(total) {}
    ~Share() { Release(); }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

    // The connection is to hold so many bytes, more than before. False: that would be too many.
    bool TryGrow(size_t bytes);
    // The connection holds none, or is authenticated.
    void Release();

   private:
    HandshakeBytes& total_;
    size_t counted_ = 0;
  };

  explicit HandshakeBytes(size_t max);

 private:
  bool TryAcquire(size_t bytes);
  void Release(size_t bytes);

  const size_t max_;
  std::atomic<size_t> held_{0};
  Gauge& gauge_;
  Counter& refusals_;
};

}  // namespace clarion::gateway
