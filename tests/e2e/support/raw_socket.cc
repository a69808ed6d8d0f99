#include "tests/e2e/support/raw_socket.h"

#include <chrono>

namespace clarion::testing {

int64_t NowNanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

bool TakeUpgradeAnswer(std::string_view& bytes) {
  constexpr std::string_view kEnd = "\r\n\r\n";
  const size_t end = bytes.find(kEnd);
  if (end == std::string_view::npos) return false;
  bytes.remove_prefix(end + kEnd.size());
  return true;
}

std::string ClientFrame(std::string_view text) {
  std::string frame = "\x81";
  if (text.size() < 126) {
    frame += static_cast<char>(0x80 | text.size());
  } else {
    frame += static_cast<char>(0x80 | 126);
    frame += static_cast<char>(text.size() >> 8);
    frame += static_cast<char>(text.size());
  }
  return frame.append(4, '\0').append(text);
}

}  // namespace clarion::testing
