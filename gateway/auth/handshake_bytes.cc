#include "gateway/auth/handshake_bytes.h"

#include <utility>

namespace clarion::gateway {

HandshakeBytes::HandshakeBytes(size_t max)
    : max_(max),
      gauge_(
          GetGauge("clarion_handshake_bytes",
                   "Bytes held for connections that are not authenticated, beyond 8 KiB of each")),
      refusals_(GetCounter("clarion_handshake_refusals_total",
                           "Connections closed because --max-handshake-bytes were held")) {}

bool HandshakeBytes::TryAcquire(size_t bytes) {
  if (held_.fetch_add(bytes, std::memory_order_relaxed) + bytes > max_) {
    held_.fetch_sub(bytes, std::memory_order_relaxed);
    refusals_.Add();
    return false;
  }
  gauge_.Add(static_cast<int64_t>(bytes));
  return true;
}

void HandshakeBytes::Release(size_t bytes) {
  held_.fetch_sub(bytes, std::memory_order_relaxed);
  gauge_.Add(-static_cast<int64_t>(bytes));
}

bool HandshakeBytes::Share::TryGrow(size_t bytes) {
  if (bytes <= kFreeBytes) return true;
  const size_t more = bytes - kFreeBytes - counted_;
  if (!total_.TryAcquire(more)) return false;
  counted_ += more;
  return true;
}

void HandshakeBytes::Share::Release() {
  if (counted_ > 0) total_.Release(std::exchange(counted_, 0));
}

}  // namespace clarion::gateway
