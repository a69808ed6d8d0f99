#include "gateway/connection/frame_stream.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "telemetry/metrics.h"

namespace clarion::gateway {
namespace {

constexpr size_t kGather = 64;  // buffers in one write
// An idle connection keeps room for this many waiting entries, a busy one what it needs.
constexpr size_t kIdleEntries = 4;
constexpr uint8_t kOpcodeMask = 0x0F;
constexpr uint8_t kCloseOpcode = 0x08;
constexpr uint16_t kNoCode = 1005;  // RFC 6455, 7.4.1

Gauge& QueuedBytesGauge() {
  static Gauge& gauge = GetGauge("clarion_queued_bytes", "Bytes that wait for browsers' sockets");
  return gauge;
}

bool IsCloseFrame(const std::string& bytes) {
  return !bytes.empty() && (static_cast<uint8_t>(bytes[0]) & kOpcodeMask) == kCloseOpcode;
}

// Of an unmasked close frame, as servers write them.
uint16_t CloseCodeOf(const std::string& bytes) {
  if (bytes.size() < 4) return kNoCode;
  return static_cast<uint16_t>(static_cast<uint8_t>(bytes[2]) << 8 |
                               static_cast<uint8_t>(bytes[3]));
}

}  // namespace

FrameStream::FrameStream(Socket socket, WriteTurn& turn, Owner& owner)
    : socket_(std::move(socket)), turn_(turn), owner_(owner) {
  error_code ignored;
  socket_.non_blocking(true, ignored);
}

FrameStream::~FrameStream() {
  queued_bytes_ = 0;
  ReportQueued();
}

void FrameStream::Queue(FramesPtr frames, size_t first) {
  if (ended_ || first >= frames->count()) return;
  const size_t begin = frames->begin(first);
  queued_bytes_ += frames->bytes().size() - begin;
  turn_.CountFrames(frames->count() - first);
  queue_.push_back({std::move(frames), static_cast<uint32_t>(begin)});
  turn_.Add(*this);
}

void FrameStream::QueueLast(FramesPtr frames) {
  Queue(std::move(frames), 0);
  ended_ = true;
  turn_.Add(*this);
}

void FrameStream::DropUnsent() {
  const bool half_sent = head_ < queue_.size() && queue_[head_].begin != 0;
  FramesPtr rest_of_frame;
  if (half_sent) {
    const Waiting& half = queue_[head_];
    size_t frame = 0;
    while (half.frames->begin(frame) < half.begin) ++frame;
    const size_t rest = half.frames->begin(frame) - half.begin;
    if (rest > 0)
      rest_of_frame = Frames::OfBytes(std::string(half.frames->bytes().substr(half.begin, rest)));
  }
  queue_.clear();
  head_ = 0;
  queued_bytes_ = 0;
  if (rest_of_frame) {
    queued_bytes_ = rest_of_frame->bytes().size();
    queue_.push_back({std::move(rest_of_frame), 0});
  }
}

void FrameStream::Abort() {
  queue_.clear();
  head_ = 0;
  queued_bytes_ = 0;
  ended_ = true;
  ReportQueued();
  error_code ignored;
  socket_.close(ignored);
}

size_t FrameStream::untaken_bytes() const {
  if (!socket_.is_open()) return 0;
  int in_kernel = 0;
  // native_handle() of a socket is not const.
  if (::ioctl(const_cast<Socket&>(socket_).native_handle(), SIOCOUTQ, &in_kernel) != 0) return 0;
  return queued_bytes_ + static_cast<size_t>(in_kernel);
}

void FrameStream::TakeFromBeast(std::string bytes) {
  if (framed_ && IsCloseFrame(bytes)) {
    owner_.OnBeastClose(CloseCodeOf(bytes));
  } else {
    Queue(Frames::OfBytes(std::move(bytes)), 0);
  }
}

void FrameStream::Flush() {
  if (!waiting_) WriteWhatWaits();
  ReportQueued();
  owner_.OnWritten();
}

void FrameStream::WriteWhatWaits() {
  while (queued_bytes_ > 0 && socket_.is_open()) {
    std::array<iovec, kGather> buffers;
    size_t count = 0;
    for (size_t i = head_; i < queue_.size() && count < kGather; ++i) {
      const std::string_view rest = queue_[i].frames->bytes().substr(queue_[i].begin);
      buffers[count++] = {const_cast<char*>(rest.data()), rest.size()};
    }
    msghdr message{};
    message.msg_iov = buffers.data();
    message.msg_iovlen = count;
    const ssize_t written =
        ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    turn_.CountWrite();
    if (written >= 0) {
      Advance(static_cast<size_t>(written));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return WaitForRoom();
    } else if (errno != EINTR) {
      return Abort();  // the peer is gone
    }
  }
}

void FrameStream::WaitForRoom() {
  waiting_ = true;
  socket_.async_wait(Socket::wait_write, [this, hold = owner_.Hold()](error_code error) {
    waiting_ = false;
    if (!error) WriteWhatWaits();
    ReportQueued();
    owner_.OnWritten();
  });
}

void FrameStream::Advance(size_t bytes) {
  queued_bytes_ -= bytes;
  while (bytes > 0) {
    Waiting& waiting = queue_[head_];
    const size_t rest = waiting.frames->bytes().size() - waiting.begin;
    const size_t taken = std::min(rest, bytes);
    waiting.begin += static_cast<uint32_t>(taken);
    bytes -= taken;
    if (taken == rest) {
      waiting.frames.reset();
      ++head_;
    }
  }
  if (queued_bytes_ == 0) {
    queue_.clear();
    if (queue_.capacity() > kIdleEntries) std::vector<Waiting>().swap(queue_);
    head_ = 0;
  } else if (head_ > kGather && head_ > queue_.size() / 2) {
    queue_.erase(queue_.begin(), queue_.begin() + static_cast<ptrdiff_t>(head_));
    head_ = 0;
  }
}

void FrameStream::ReportQueued() {
  if (queued_bytes_ == reported_bytes_) return;
  QueuedBytesGauge().Add(static_cast<int64_t>(queued_bytes_) -
                         static_cast<int64_t>(reported_bytes_));
  reported_bytes_ = queued_bytes_;
}

}  // namespace clarion::gateway
