// The stream under Beast: one owner and one queue for everything a connection writes.
//
// Frames come encoded beforehand, shared by many connections; what Beast writes by itself (the
// handshake's response, pongs, close frames) is copied into the same queue. At the end of the
// loop's turn all that waits leaves in one gathering write. Nothing follows a close frame.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "boost/asio/associated_executor.hpp"
#include "boost/asio/async_result.hpp"
#include "boost/asio/buffers_iterator.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/beast/core/bind_handler.hpp"
#include "boost/beast/core/role.hpp"
#include "gateway/connection/write_turn.h"
#include "gateway/frames.h"
#include "gateway/hub/hub.h"
#include "gateway/loop_types.h"

namespace clarion::gateway {

// On the loop's thread only. Lives inside Beast's stream, which the owner holds.
class FrameStream final : public WriteTurn::Stream, private QueueWatch::Queue {
 public:
  class Owner {
   public:
    // Keeps the stream alive while a wait for the socket is under way.
    virtual std::shared_ptr<void> Hold() = 0;
    // After each attempt to write. May queue and end; must not destroy the stream.
    virtual void OnWritten() = 0;
    // Beast wants to close with this code: the peer did (1000 and what it said), or what came is
    // no WebSocket (1002, 1007, 1009). The owner queues the close frame.
    virtual void OnBeastClose(uint16_t code) = 0;
    // See QueueWatch::Queue.
    virtual void OnRelieve() = 0;
    virtual void OnGiveUp(QueueWatch::Queue::Cause cause) = 0;

   protected:
    ~Owner() = default;
  };

  using executor_type = Socket::executor_type;
  using next_layer_type = Socket;
  using error_code = boost::system::error_code;

  FrameStream(Socket socket, WriteTurn& turn, Owner& owner);
  ~FrameStream();

  executor_type get_executor() { return socket_.get_executor(); }
  Socket& next_layer() { return socket_; }

  // The handshake is done: from here on Beast's bytes are frames.
  void BeginFrames() { framed_ = true; }

  // Queues frames[first..]; their bytes are shared. Dropped after a close frame.
  void Queue(FramesPtr frames, size_t first, FrameTag tag = {});
  // See Subscriber::TakeBack.
  std::vector<Subscriber::TakenBack> TakeBack(const absl::flat_hash_set<uint32_t>& sources);
  // The last thing this connection says; ends with the close frame.
  void QueueLast(FramesPtr frames);
  // Drops what waits, but for the rest of a frame that is half sent.
  void DropUnsent();
  // Gives up: drops everything, closes the socket; the read under way ends.
  void Abort();

  size_t queued_bytes() const override { return queued_bytes_; }
  // In the kernel and on the way. 0: the socket is closed.
  size_t kernel_bytes() override;
  // Taken by the kernel since the start, up to what was dropped: what comes behind a gap does not
  // say that all before it was sent.
  uint64_t written_bytes() const { return std::min(written_bytes_, gap_); }
  // Written, waiting, or dropped unwritten by DropUnsent and Abort.
  uint64_t accepted_bytes() const { return written_bytes_ + queued_bytes_ + dropped_bytes_; }
  // Those that are not written whole, and the others of the same Queue() call.
  size_t queued_frames() const { return queued_frames_; }
  // A close frame was queued.
  bool ended() const { return ended_; }
  // What was queued and the peer has not taken: here, in the kernel and on the way. 0: the socket
  // is closed.
  size_t untaken_bytes() { return socket_.is_open() ? queued_bytes_ + kernel_bytes() : 0; }
  // Everything queued was taken by the kernel, or never will be.
  bool drained() const { return queued_bytes_ == 0; }

  template <class MutableBuffers, class Token>
  auto async_read_some(const MutableBuffers& buffers, Token&& token) {
    return socket_.async_read_some(buffers, std::forward<Token>(token));
  }

  // Beast's own bytes: taken whole, at once.
  template <class ConstBuffers, class Token>
  auto async_write_some(const ConstBuffers& buffers, Token&& token) {
    return boost::asio::async_initiate<Token, void(error_code, size_t)>(
        [this](auto handler, std::string bytes) {
          const size_t taken = bytes.size();
          TakeFromBeast(std::move(bytes));
          boost::asio::post(get_executor(), boost::beast::bind_front_handler(std::move(handler),
                                                                             error_code(), taken));
        },
        token, std::string(boost::asio::buffers_begin(buffers), boost::asio::buffers_end(buffers)));
  }

 private:
  struct Waiting {
    FramesPtr frames;
    uint32_t begin;   // the next byte to write
    uint32_t count;   // of the frames that were queued
    uint32_t source;  // see FrameTag
    bool events;
    bool rest;  // of a frame that is begun: nothing may come before it
  };

  void Flush() override;
  // QueueWatch::Queue
  void Relieve() override { owner_.OnRelieve(); }
  void GiveUp(Cause cause) override { owner_.OnGiveUp(cause); }
  // Leaves of `waiting` the rest of a frame that is begun. The index of the first frame that goes;
  // frames->count(): none.
  static size_t Cut(Waiting& waiting);
  void Recount();
  // Of `before` queued bytes those that are not queued any more were the last.
  void CountDropped(size_t before);
  void TakeFromBeast(std::string bytes);
  // Writes until the socket takes no more.
  void WriteWhatWaits();
  void WaitForRoom();
  // `bytes` were written.
  void Advance(size_t bytes);
  void ReportQueued();

  Socket socket_;
  WriteTurn& turn_;
  Owner& owner_;
  std::vector<Waiting> queue_;
  size_t head_ = 0;  // queue_[head_] is the first that is not written whole
  size_t queued_bytes_ = 0;
  uint64_t written_bytes_ = 0;
  uint64_t dropped_bytes_ = 0;
  // Where the first of them would have begun, as written_bytes_ counts.
  uint64_t gap_ = std::numeric_limits<uint64_t>::max();
  size_t queued_frames_ = 0;
  size_t reported_bytes_ = 0;  // of queued_bytes_, what the gauge knows
  bool framed_ = false;
  bool ended_ = false;
  bool waiting_ = false;  // for room in the socket
};

// Beast tears a stream down when it is done with it; the connection does that itself, after what
// is queued has left.
template <class Handler>
void async_teardown(boost::beast::role_type, FrameStream& stream, Handler&& handler) {
  boost::asio::post(stream.get_executor(),
                    boost::beast::bind_front_handler(std::forward<Handler>(handler),
                                                     boost::system::error_code()));
}

}  // namespace clarion::gateway
