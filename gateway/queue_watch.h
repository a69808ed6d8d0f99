// Who does not take what is sent to it, and what all queues of the process hold together.
//
// Queues are bounded one by one by their connections (connection/connection.h); an answer to a
// plain HTTP request that is being written counts as one. Beyond that:
//   A connection whose peer has taken no byte for `stall_timeout` while something waited for it is
//   closed. The kernel holds more than a slow peer takes in that time, so it is asked too: what the
//   peer took of that begins the time anew. (So who stops may stay for twice as long.) While all
//   queues together hold more than --max-queued-bytes-total, those loops give way whose connections
//   hold more than a fair share of it (the bound, divided by the connections that have something
//   waiting): of these, the one that has taken nothing for longest first, each is relieved of the
//   events it can get again, then, if that was not enough, closed. Somebody always holds more than
//   a fair share, and who holds less is left alone.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "boost/intrusive/list.hpp"
#include "telemetry/metrics.h"

namespace clarion::gateway {

// One per process, outlives its loops. Thread-safe.
class QueueBudget {
 public:
  explicit QueueBudget(size_t limit = 256 * 1024 * 1024);

  // A queue that held `before` bytes holds `after`.
  void Change(size_t before, size_t after);
  bool over() const { return bytes() > limit_; }
  // Half full: replays, which can wait, leave the rest to live events.
  bool tight() const { return bytes() > limit_ / 2; }
  // Of those that have something waiting now.
  size_t fair_share() const;

 private:
  int64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

  const int64_t limit_;
  std::atomic<int64_t> bytes_{0};
  std::atomic<int64_t> queues_{0};
  Gauge& bytes_gauge_;
  Gauge& queues_gauge_;
};

// What the kernel holds that the peer of this TCP socket has not taken.
size_t KernelBytesOf(int socket);
// clarion_slow_connections_closed_total{cause}
void CountSlowConnectionClosed(const char* cause);

// On the loop's thread only; outlives its queues.
class QueueWatch {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kDefaultStallTimeout{30'000};

  // A queue whose socket takes no more; linked while that is so.
  struct Tag;
  class Queue : public boost::intrusive::list_base_hook<
                    boost::intrusive::tag<Tag>,
                    boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
   public:
    virtual size_t queued_bytes() const = 0;
    // Was written to the socket, and the peer has not taken it. Only falls while the socket takes
    // no more.
    virtual size_t kernel_bytes() = 0;
    // Gives up events that can be had again. May free nothing. Ends nothing.
    virtual void Relieve() = 0;
    // It has to go: frees all, tells its page why, and closes. Ends nothing inside the call.
    enum class Cause : uint8_t { kStalled, kMemory };
    virtual void GiveUp(Cause cause) = 0;

   protected:
    ~Queue() = default;

   private:
    friend class QueueWatch;
    Clock::time_point since_;  // it has taken nothing
    size_t kernel_bytes_ = 0;  // then
  };

  QueueWatch(QueueBudget& budget, std::chrono::milliseconds stall_timeout)
      : budget_(budget), stall_timeout_(stall_timeout) {}
  std::chrono::milliseconds stall_timeout() const { return stall_timeout_; }

  QueueBudget& budget() { return budget_; }
  // The socket takes no more, or took something and then no more.
  void OnBlocked(Queue& queue, Clock::time_point now);
  // Now and then, and after each turn of writing: cheap while nothing is wrong.
  void CheckStalls(Clock::time_point now);
  void CheckBudget();

 private:
  using Hook =
      boost::intrusive::list_base_hook<boost::intrusive::tag<Tag>,
                                       boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;
  using List = boost::intrusive::list<Queue, boost::intrusive::base_hook<Hook>,
                                      boost::intrusive::constant_time_size<false>>;
  enum class Step : uint8_t { kRelieve, kGiveUp };

  void GiveWay(Step step);

  QueueBudget& budget_;
  const std::chrono::milliseconds stall_timeout_;
  List blocked_;  // who has taken nothing for longest first
};

}  // namespace clarion::gateway
