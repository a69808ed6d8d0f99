#include "service/front/stream_threads.h"

#include <utility>

namespace clarion::front {
namespace {

// Of one append: enough to make its cost small, little enough not to hold up the commits of others.
constexpr size_t kAppendEvents = 1024;
constexpr size_t kAppendBytes = 1024 * 1024;

}  // namespace

std::optional<StreamStop> StreamThreads::Offer(const ThreadId& thread, const UserId& owner,
                                               log::AppendItem item, StreamTicket ticket) {
  Queue& queue = queues_[thread];
  if (queue.stop) return queue.stop;
  queue.waiting.push_back({owner, std::move(item), ticket});
  return std::nullopt;
}

std::optional<StreamAppend> StreamThreads::Next(const ThreadId& thread) {
  const auto found = queues_.find(thread);
  if (found == queues_.end()) return std::nullopt;
  Queue& queue = found->second;
  if (queue.under_way || queue.waiting.empty()) return std::nullopt;

  StreamAppend append;
  append.request.thread = thread;
  append.request.owner = queue.waiting.front().owner;
  size_t bytes = 0;
  auto next = queue.waiting.begin();
  while (next != queue.waiting.end() && append.tickets.size() < kAppendEvents &&
         bytes < kAppendBytes && next->owner == append.request.owner) {
    const bool starts_run = next->item.run_step == log::RunStep::kStart;
    bytes += next->item.event->bytes().size();
    append.request.items.push_back(std::move(next->item));
    append.tickets.push_back(next->ticket);
    ++next;
    if (starts_run) break;
  }
  queue.waiting.erase(queue.waiting.begin(), next);
  queue.under_way = true;
  return append;
}

void StreamThreads::Answered(const ThreadId& thread) {
  const auto found = queues_.find(thread);
  if (found == queues_.end()) return;
  found->second.under_way = false;
  DropIfIdle(thread);
}

std::vector<StreamTicket> StreamThreads::Stop(const ThreadId& thread, StreamStop stop) {
  Queue& queue = queues_[thread];
  if (!queue.stop) ++stopped_;
  queue.stop = std::move(stop);
  std::vector<StreamTicket> tickets;
  tickets.reserve(queue.waiting.size());
  for (const Waiting& waiting : queue.waiting) tickets.push_back(waiting.ticket);
  queue.waiting.clear();
  return tickets;
}

void StreamThreads::Resume(const ThreadId& thread, const EventId& refused) {
  const auto found = queues_.find(thread);
  if (found == queues_.end() || !found->second.stop) return;
  if (found->second.stop->refused != refused) return;
  found->second.stop.reset();
  --stopped_;
  DropIfIdle(thread);
}

void StreamThreads::DropIfIdle(const ThreadId& thread) {
  const auto found = queues_.find(thread);
  const Queue& queue = found->second;
  if (!queue.under_way && !queue.stop && queue.waiting.empty()) queues_.erase(found);
}

}  // namespace clarion::front
