#include "service/delivery/progress.h"

#include <algorithm>
#include <iterator>

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

void Progress::Sent(const log::ThreadState& state, Range range, Scheduler::Wall at) {
  Touch(state, state.acknowledged).sent.Reach(range.from, range.to, at);
}

void Progress::Acknowledged(const log::ThreadState& state, Offset before, Scheduler::Wall at) {
  Touch(state, before).acknowledged.Reach(state.acknowledged, at);
}

void Progress::Forget(const ThreadId& thread) {
  const auto found = by_thread_.find(thread);
  if (found == by_thread_.end()) return;
  entries_.erase(found->second);
  by_thread_.erase(found);
}

bool Progress::WasSent(const ThreadId& thread, const Position& event) const {
  const Entry* entry = Find(thread, event);
  return entry != nullptr && entry->sent.Passed(event.offset);
}

Milestones Progress::Of(const ThreadId& thread, const Position& event) const {
  const Entry* entry = Find(thread, event);
  if (entry == nullptr) return {};
  return {.first_sent = entry->sent.When(event.offset),
          .acknowledged = entry->acknowledged.When(event.offset)};
}

void Progress::Entry::KeepUp(const log::ThreadState& state, Offset known) {
  const std::vector<log::EpochRecord>& now = state.epochs;
  if (now.empty() || (!epochs.empty() && epochs.back().epoch == now.back().epoch)) return;
  const auto last_seen = std::find_if(now.begin(), now.end(), [&](const log::EpochRecord& record) {
    return !epochs.empty() && record.epoch == epochs.back().epoch;
  });
  if (last_seen != now.end()) {
    const Offset survived = std::next(last_seen)->first.prev();
    sent.FallBack(survived);
    acknowledged.FallBack(survived);
  } else if (!epochs.empty()) {
    sent = acknowledged = History(known);
  }
  epochs = now;
}

Progress::Entry& Progress::Touch(const log::ThreadState& state, Offset known) {
  const ThreadId& thread = state.thread;
  const auto found = by_thread_.find(thread);
  if (found != by_thread_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    entries_.front().KeepUp(state, known);
    return entries_.front();
  }
  if (entries_.size() >= limit_) {
    by_thread_.erase(entries_.back().thread);
    entries_.pop_back();
  }
  entries_.push_front({thread, state.epochs, History(known), History(known)});
  by_thread_.emplace(thread, entries_.begin());
  return entries_.front();
}

const Progress::Entry* Progress::Find(const ThreadId& thread, const Position& event) const {
  const auto found = by_thread_.find(thread);
  if (found == by_thread_.end()) return nullptr;
  const Entry& entry = *found->second;
  const bool seen =
      std::any_of(entry.epochs.begin(), entry.epochs.end(),
                  [&](const log::EpochRecord& record) { return record.epoch == event.epoch; });
  return seen ? &entry : nullptr;
}

}  // namespace clarion::delivery
