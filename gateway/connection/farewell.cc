#include "gateway/connection/farewell.h"

#include <string>

namespace clarion::gateway {
namespace {

constexpr char kFinClose = static_cast<char>(0x88);

// An unmasked close frame: a code, most significant byte first, and a reason of at most 123 bytes.
std::string CloseFrame(uint16_t code, std::string_view reason) {
  std::string frame(1, kFinClose);
  if (code == kNoCode) return frame + '\0';
  frame += static_cast<char>(2 + reason.size());
  frame += static_cast<char>(code >> 8);
  frame += static_cast<char>(code & 0xFF);
  return frame.append(reason);
}

v1::ServerFrame ErrorByRow(const CloseRow& row, std::string_view message, uint32_t retry_after_ms) {
  v1::ServerFrame frame = ErrorFrame(row.reason, message, "", "");
  frame.mutable_error()->set_user_message(std::string(row.user_message));
  frame.mutable_error()->set_reconnect(row.reconnect != Reconnect::kNo);
  frame.mutable_error()->set_retry_after_ms(retry_after_ms);
  return frame;
}

}  // namespace

v1::ServerFrame ErrorFrame(Reason reason, std::string_view message, std::string_view thread_id,
                           std::string_view request_id) {
  v1::ServerFrame frame;
  frame.set_id(std::string(request_id));
  v1::StreamError& error = *frame.mutable_error();
  error.set_code(std::string(NameOf(reason)));
  error.set_message(std::string(message));
  error.set_user_message(std::string(RowOf(reason).user_message));
  error.set_thread_id(std::string(thread_id));
  return frame;
}

FramesPtr Farewell(Encoding encoding, const CloseRow& row, std::string_view message,
                   uint32_t retry_after_ms) {
  std::string bytes;
  if (row.code == CloseCode::kGoingAway) {
    v1::ServerFrame frame;
    frame.mutable_going_away()->set_reconnect_after_ms(retry_after_ms);
    bytes.append(Frames::OfMessage(encoding, frame)->bytes());
  }
  if (row.code != CloseCode::kNormal) {
    bytes.append(Frames::OfMessage(encoding, ErrorByRow(row, message, retry_after_ms))->bytes());
  }
  if (encoding == Encoding::kJson || encoding == Encoding::kProto) {
    bytes.append(CloseFrame(static_cast<uint16_t>(row.code), row.name));
  } else if (encoding == Encoding::kEventStream && row.reconnect != Reconnect::kNo) {
    bytes.append(RetryField(retry_after_ms));
  }
  return Frames::OfBytes(std::move(bytes));
}

std::string RetryField(uint32_t ms) {
  return "retry: " + std::to_string(ms) + "\n\n";
}

FramesPtr BareClose(uint16_t code) {
  return Frames::OfBytes(CloseFrame(code, ""));
}

}  // namespace clarion::gateway
