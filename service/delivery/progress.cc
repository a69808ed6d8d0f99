#include "service/delivery/progress.h"

#include <algorithm>

namespace clarion::delivery {

void History::Reach(Offset from, Offset offset, Scheduler::Wall at) {
  if (offset <= furthest_) return;
  if (from > furthest_.next()) {
    times_.clear();
    forgotten_ = from.prev();
  }
  furthest_ = offset;
  times_.push_back({offset, at});
  if (times_.size() <= kTimes) return;
  forgotten_ = times_.front().reached;
  times_.pop_front();
}

void History::FallBack(Offset last) {
  if (last >= furthest_) return;
  furthest_ = last;
  forgotten_ = std::min(forgotten_, last);
  // The first that goes beyond says when `last` was passed.
  while (times_.size() > 1 && times_[times_.size() - 2].reached >= last) times_.pop_back();
  if (times_.empty()) return;
  if (last <= forgotten_) {
    times_.clear();
  } else {
    times_.back().reached = std::min(times_.back().reached, last);
  }
}

std::optional<Scheduler::Wall> History::When(Offset offset) const {
  if (offset <= forgotten_ || offset > furthest_) return std::nullopt;
  const auto passed =
      std::lower_bound(times_.begin(), times_.end(), offset,
                       [](const Time& time, Offset wanted) { return time.reached < wanted; });
  return passed == times_.end() ? std::nullopt : std::optional(passed->at);
}

void Progress::Sent(const ThreadId& thread, Range range, Scheduler::Wall at, Offset acknowledged) {
  Touch(thread, acknowledged).sent.Reach(range.from, range.to, at);
}

void Progress::Acknowledged(const ThreadId& thread, Offset offset, Scheduler::Wall at,
                            Offset before) {
  Touch(thread, before).acknowledged.Reach(offset, at);
}

void Progress::FallBack(const ThreadId& thread, Offset last) {
  const auto found = by_thread_.find(thread);
  if (found == by_thread_.end()) return;
  found->second->sent.FallBack(last);
  found->second->acknowledged.FallBack(last);
}

void Progress::Forget(const ThreadId& thread) {
  const auto found = by_thread_.find(thread);
  if (found == by_thread_.end()) return;
  entries_.erase(found->second);
  by_thread_.erase(found);
}

bool Progress::WasSent(const ThreadId& thread, Offset offset) const {
  const Entry* entry = Find(thread);
  return entry != nullptr && entry->sent.Passed(offset);
}

Milestones Progress::Of(const ThreadId& thread, Offset offset) const {
  const Entry* entry = Find(thread);
  if (entry == nullptr) return {};
  return {.first_sent = entry->sent.When(offset), .acknowledged = entry->acknowledged.When(offset)};
}

Progress::Entry& Progress::Touch(const ThreadId& thread, Offset known) {
  const auto found = by_thread_.find(thread);
  if (found != by_thread_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    return entries_.front();
  }
  if (entries_.size() >= limit_) {
    by_thread_.erase(entries_.back().thread);
    entries_.pop_back();
  }
  entries_.push_front({thread, History(known), History(known)});
  by_thread_.emplace(thread, entries_.begin());
  return entries_.front();
}

const Progress::Entry* Progress::Find(const ThreadId& thread) const {
  const auto found = by_thread_.find(thread);
  return found == by_thread_.end() ? nullptr : &*found->second;
}

}  // namespace clarion::delivery
