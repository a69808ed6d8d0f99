// What raw sockets need to be a browser's WebSocket, and no more: for tests and figures with so
// many of them that a real client would cost too much. They check nothing of what the server sends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace clarion::testing {

// Nanoseconds of the steady clock; publishers write it into `delta`, who reads it has the delay.
int64_t NowNanos();

// Asks for the stream, with subprotocol clarion.v1.json.
inline constexpr std::string_view kUpgradeRequest =
    "GET /v1/stream HTTP/1.1\r\n"
    "Host: 127.0.0.1\r\n"
    "Connection: Upgrade\r\n"
    "Upgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: clarion.v1.json\r\n"
    "\r\n";
// Takes the answer off `bytes`. False: it is not whole yet, nothing was taken.
bool TakeUpgradeAnswer(std::string_view& bytes);

// A masked text frame of less than 64 KiB; the mask is zero, so the payload stays as it is.
std::string ClientFrame(std::string_view text);

// Takes the whole frames off `bytes`, each payload to `on_frame`; what is left is no whole frame.
template <class OnFrame>
void TakeFrames(std::string_view& bytes, OnFrame on_frame) {
  while (bytes.size() >= 2) {
    size_t head = 2;
    uint64_t length = static_cast<unsigned char>(bytes[1]) & 0x7f;
    const size_t wide = length == 126 ? 2 : length == 127 ? 8 : 0;
    if (bytes.size() < head + wide) return;
    if (wide > 0) {
      length = 0;
      for (size_t i = 0; i < wide; ++i) {
        length = length << 8 | static_cast<unsigned char>(bytes[head + i]);
      }
      head += wide;
    }
    if (bytes.size() - head < length) return;
    on_frame(bytes.substr(head, length));
    bytes.remove_prefix(head + length);
  }
}

}  // namespace clarion::testing
