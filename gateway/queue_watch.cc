#include "gateway/queue_watch.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>

namespace clarion::gateway {

QueueBudget::QueueBudget(size_t limit)
    : limit_(static_cast<int64_t>(limit)),
      bytes_gauge_(GetGauge("clarion_queued_bytes", "Bytes that wait for browsers' sockets")),
      queues_gauge_(GetGauge("clarion_queued_connections",
                             "Connections whose socket takes less than what waits for it")) {}

void QueueBudget::Change(size_t before, size_t after) {
  const int64_t more = static_cast<int64_t>(after) - static_cast<int64_t>(before);
  bytes_.fetch_add(more, std::memory_order_relaxed);
  if ((before == 0) != (after == 0)) {
    const int64_t one = before == 0 ? 1 : -1;
    queues_.fetch_add(one, std::memory_order_relaxed);
    queues_gauge_.Add(one);
  }
  bytes_gauge_.Add(more);
}

size_t QueueBudget::fair_share() const {
  const int64_t queues = queues_.load(std::memory_order_relaxed);
  return static_cast<size_t>(limit_ / std::max<int64_t>(queues, 1));
}

size_t KernelBytesOf(int socket) {
  int bytes = 0;
  return ::ioctl(socket, SIOCOUTQ, &bytes) == 0 ? static_cast<size_t>(bytes) : 0;
}

void CountSlowConnectionClosed(const char* cause) {
  GetCounter("clarion_slow_connections_closed_total",
             "Connections closed because they did not take what was sent to them, by cause",
             {{"cause", cause}})
      .Add();
}

void QueueWatch::OnBlocked(Queue& queue, Clock::time_point now) {
  queue.since_ = now;
  queue.kernel_bytes_ = queue.kernel_bytes();
  queue.unlink();
  blocked_.push_back(queue);
}

void QueueWatch::CheckStalls(Clock::time_point now) {
  while (!blocked_.empty() && now - blocked_.front().since_ >= stall_timeout_) {
    Queue& queue = blocked_.front();
    const size_t kernel_bytes = queue.kernel_bytes_;
    OnBlocked(queue, now);  // as it still is, with what it says at last
    if (queue.kernel_bytes_ >= kernel_bytes) queue.GiveUp(Queue::Cause::kStalled);
  }
}

void QueueWatch::CheckBudget() {
  if (!budget_.over()) return;
  GiveWay(Step::kRelieve);
  if (budget_.over()) GiveWay(Step::kGiveUp);
}

void QueueWatch::GiveWay(Step step) {
  List seen;
  while (!blocked_.empty() && budget_.over()) {
    Queue& queue = blocked_.front();
    blocked_.pop_front();
    seen.push_back(queue);
    if (queue.queued_bytes() <= budget_.fair_share()) continue;
    if (step == Step::kRelieve) {
      queue.Relieve();
    } else {
      queue.GiveUp(Queue::Cause::kMemory);
    }
  }
  blocked_.splice(blocked_.begin(), seen);
}

}  // namespace clarion::gateway
