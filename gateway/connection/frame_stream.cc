#include "gateway/connection/frame_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "absl/container/flat_hash_map.h"
#include "gateway/connection/farewell.h"

namespace clarion::gateway {
namespace {

constexpr size_t kGather = 64;  // buffers in one write
// An idle connection keeps room for this many waiting entries, a busy one what it needs.
constexpr size_t kIdleEntries = 4;
constexpr uint8_t kOpcodeMask = 0x0F;
constexpr uint8_t kCloseOpcode = 0x08;

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

void FrameStream::Queue(FramesPtr frames, size_t first, FrameTag tag) {
  if (ended_ || first >= frames->count()) return;
  const size_t begin = frames->begin(first);
  const size_t count = frames->count() - first;
  queued_bytes_ += frames->bytes().size() - begin;
  queued_frames_ += count;
  turn_.CountFrames(count);
  queue_.push_back({std::move(frames), static_cast<uint32_t>(begin), static_cast<uint32_t>(count),
                    tag.source, tag.events, /*rest=*/false});
  turn_.Add(*this);
}

void FrameStream::QueueLast(FramesPtr frames) {
  Queue(std::move(frames), 0);
  ended_ = true;
  turn_.Add(*this);
}

void FrameStream::DropUnsent() {
  const size_t before = queued_bytes_;
  std::vector<Waiting> kept;
  if (head_ < queue_.size()) {
    Waiting& head = queue_[head_];
    if (!head.rest) Cut(head);
    if (head.frames != nullptr) kept.push_back(std::move(head));
  }
  queue_ = std::move(kept);
  head_ = 0;
  Recount();
  CountDropped(before);
  ReportQueued();
}

void FrameStream::CountDropped(size_t before) {
  if (before == queued_bytes_) return;
  dropped_bytes_ += before - queued_bytes_;
  gap_ = std::min(gap_, written_bytes_ + queued_bytes_);
}

std::vector<Subscriber::TakenBack> FrameStream::TakeBack(
    const absl::flat_hash_set<uint32_t>& sources) {
  // Behind which of its frames a source has nothing but events.
  absl::flat_hash_map<uint32_t, size_t> barriers;
  for (size_t i = head_; i < queue_.size(); ++i) {
    if (!queue_[i].events) barriers[queue_[i].source] = i;
  }
  absl::flat_hash_map<uint32_t, Offset> first;
  std::vector<Waiting> kept;
  for (size_t i = head_; i < queue_.size(); ++i) {
    Waiting& waiting = queue_[i];
    const auto barrier = barriers.find(waiting.source);
    const bool goes = waiting.events && sources.contains(waiting.source) &&
                      (barrier == barriers.end() || barrier->second < i);
    if (goes) {
      const uint32_t source = waiting.source;
      const FramesPtr frames = waiting.frames;
      const size_t cut = Cut(waiting);
      if (cut < frames->count()) first.emplace(source, frames->first_offset(cut));
    }
    if (waiting.frames != nullptr) kept.push_back(std::move(waiting));
  }
  queue_ = std::move(kept);
  head_ = 0;
  Recount();
  ReportQueued();
  std::vector<Subscriber::TakenBack> taken;
  taken.reserve(first.size());
  for (const auto& [source, offset] : first) taken.push_back({source, offset});
  return taken;
}

size_t FrameStream::Cut(Waiting& waiting) {
  const Frames& frames = *waiting.frames;
  size_t frame = 0;
  while (frame < frames.count() && frames.begin(frame) < waiting.begin) ++frame;
  const size_t rest = frames.begin(frame) - waiting.begin;
  // The bytes of a frame are its own now: those of the others are let go.
  FramesPtr begun;
  if (rest > 0) begun = Frames::OfBytes(std::string(frames.bytes().substr(waiting.begin, rest)));
  waiting = {.frames = std::move(begun),
             .begin = 0,
             .count = 1,
             .source = 0,
             .events = false,
             .rest = true};
  return frame;
}

void FrameStream::Recount() {
  queued_bytes_ = 0;
  queued_frames_ = 0;
  for (size_t i = head_; i < queue_.size(); ++i) {
    queued_bytes_ += queue_[i].frames->bytes().size() - queue_[i].begin;
    queued_frames_ += queue_[i].count;
  }
}

void FrameStream::Abort() {
  queue_.clear();
  head_ = 0;
  CountDropped(std::exchange(queued_bytes_, 0));
  queued_frames_ = 0;
  ended_ = true;
  QueueWatch::Queue::unlink();
  ReportQueued();
  error_code ignored;
  socket_.close(ignored);
}

size_t FrameStream::kernel_bytes() {
  return socket_.is_open() ? KernelBytesOf(socket_.native_handle()) : 0;
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
  turn_.queues().OnBlocked(*this, QueueWatch::Clock::now());
  socket_.async_wait(Socket::wait_write, [this, hold = owner_.Hold()](error_code error) {
    waiting_ = false;
    QueueWatch::Queue::unlink();
    if (!error) WriteWhatWaits();
    ReportQueued();
    owner_.OnWritten();
  });
}

void FrameStream::Advance(size_t bytes) {
  queued_bytes_ -= bytes;
  written_bytes_ += bytes;
  while (bytes > 0) {
    Waiting& waiting = queue_[head_];
    const size_t rest = waiting.frames->bytes().size() - waiting.begin;
    const size_t taken = std::min(rest, bytes);
    waiting.begin += static_cast<uint32_t>(taken);
    bytes -= taken;
    if (taken == rest) {
      queued_frames_ -= waiting.count;
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
  turn_.queues().budget().Change(reported_bytes_, queued_bytes_);
  reported_bytes_ = queued_bytes_;
}

}  // namespace clarion::gateway
