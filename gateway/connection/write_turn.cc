#include "gateway/connection/write_turn.h"

#include "boost/asio/post.hpp"

namespace clarion::gateway {

WriteTurn::WriteTurn(boost::asio::io_context& loop, QueueBudget& budget,
                     std::chrono::milliseconds stall_timeout)
    : loop_(loop),
      queues_(budget, stall_timeout),
      frames_counter_(GetCounter("clarion_frames_sent_total", "Frames queued for browsers")),
      writes_counter_(GetCounter("clarion_socket_writes_total", "Writes to browsers' sockets")) {}

void WriteTurn::Add(Stream& stream) {
  if (stream.is_linked()) return;
  due_.push_back(stream);
  if (posted_) return;
  posted_ = true;
  // Behind every handler that is ready now: those are this turn.
  boost::asio::post(loop_, [this] { Run(); });
}

void WriteTurn::Run() {
  posted_ = false;
  // A flush may queue more, on this or another stream: that is the next turn.
  decltype(due_) flushing;
  flushing.swap(due_);
  while (!flushing.empty()) {
    Stream& stream = flushing.front();
    flushing.pop_front();
    stream.Flush();
  }
  queues_.CheckBudget();
  frames_counter_.Add(frames_ - counted_frames_);
  writes_counter_.Add(writes_ - counted_writes_);
  counted_frames_ = frames_;
  counted_writes_ = writes_;
}

}  // namespace clarion::gateway
