// The end of a loop's turn: the streams that have something new to write, written once each.
//
// However many frames were queued on a stream while the loop handled what had arrived, they leave
// in one gathering write.
#pragma once

#include <chrono>
#include <cstdint>

#include "boost/asio/io_context.hpp"
#include "boost/intrusive/list.hpp"
#include "gateway/queue_watch.h"
#include "telemetry/metrics.h"

namespace clarion::gateway {

// On the loop's thread only; outlives the loop's streams.
class WriteTurn {
 public:
  class Stream : public boost::intrusive::list_base_hook<
                     boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
   protected:
    ~Stream() = default;

   private:
    friend class WriteTurn;
    virtual void Flush() = 0;
  };

  WriteTurn(boost::asio::io_context& loop, QueueBudget& budget,
            std::chrono::milliseconds stall_timeout = QueueWatch::kDefaultStallTimeout);
  WriteTurn(const WriteTurn&) = delete;
  WriteTurn& operator=(const WriteTurn&) = delete;

  // Flushes `stream` at the end of this turn; no effect when it is due already.
  void Add(Stream& stream);

  QueueWatch& queues() { return queues_; }

  void CountFrames(uint64_t frames) { frames_ += frames; }
  void CountWrite() { ++writes_; }
  // Writes to sockets since the start.
  uint64_t writes() const { return writes_; }

 private:
  void Run();

  boost::asio::io_context& loop_;
  QueueWatch queues_;
  boost::intrusive::list<Stream, boost::intrusive::constant_time_size<false>> due_;
  bool posted_ = false;
  uint64_t frames_ = 0;
  uint64_t writes_ = 0;
  // What of the two above the metrics know.
  uint64_t counted_frames_ = 0;
  uint64_t counted_writes_ = 0;
  Counter& frames_counter_;
  Counter& writes_counter_;
};

}  // namespace clarion::gateway
