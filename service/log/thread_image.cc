#include "service/log/thread_image.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

namespace clarion::log {
namespace {

// What an event, a run and a thread cost besides their bytes, about.
constexpr size_t kEventOverhead = sizeof(LoggedEvent) + 96;
constexpr size_t kRunOverhead = sizeof(RunRecord) + 128;
constexpr size_t kThreadOverhead = sizeof(ThreadImage) + 1024;
// Epochs that end below the floor and are kept all the same.
constexpr size_t kOldEpochs = 16;

size_t BytesOf(const RunRecord& run) {
  size_t bytes = kRunOverhead + 2 * run.run_id.str().size() + run.agent_name.size() +
                 run.parent.str().size() + run.data.size();
  for (const OpenPart& part : run.open) bytes += sizeof(OpenPart) + part.name.size();
  return bytes;
}

}  // namespace

bool PageBudget::Take(size_t size) {
  if (!first && (events == 0 || size > bytes)) return false;
  first = false;
  events -= std::min<size_t>(events, 1);
  bytes -= std::min(bytes, size);
  return true;
}

void AppendToRuns(const Epoch& epoch, Offset offset, EventPtr event, std::vector<EventRun>& runs) {
  if (runs.empty() || runs.back().epoch != epoch) runs.push_back({epoch, offset, {}});
  assert(runs.back().last().next() == offset);
  runs.back().events.push_back(std::move(event));
}

void AddExpired(const ExpiredRange& range, size_t most, std::vector<ExpiredRange>& ranges) {
  if (!ranges.empty()) {
    ExpiredRange& newest = ranges.back();
    if (newest.to.next() == range.from && newest.reason == range.reason &&
        newest.epoch == range.epoch) {
      newest.to = range.to;
      newest.count += range.count;
      newest.at = range.at;
      return;
    }
  }
  ranges.push_back(range);
  if (ranges.size() <= most) return;
  ranges[1].from = ranges[0].from;
  ranges[1].count += ranges[0].count;
  ranges.erase(ranges.begin());
}

void ThreadImage::Restore(const StoredMeta& meta) {
  owner_ = meta.owner;
  counters_ = meta.counters;
  epochs_ = meta.epochs;
  expired_ = meta.expired;
  spilled_ = meta.counters.last;
  // A thread whose checkpoint has no events has no chunks either, unless it says so.
  if (meta.counters.last >= meta.counters.floor || meta.oldest != WallTime{})
    hints_ = {meta.oldest, meta.oldest_critical};
}

void ThreadImage::AddRun(const RunRecord& run) {
  PutRun(run);
  changed_runs_.erase(run.start.value());
}

void ThreadImage::AddChunk(const ChunkInfo& chunk, const std::vector<StoredId>& ids) {
  if (chunk.last < counters_.floor) {
    dead_chunks_.push_back(chunk.last);
    return;
  }
  chunks_.push_back(chunk);
  chunk_bytes_ += chunk.bytes;
  const Offset pending = first_pending();
  ids_.reserve(ids_.size() + ids.size());
  Offset offset = chunk.first;
  for (const StoredId& id : ids) {
    if (offset >= counters_.floor) ids_[id.id] = {offset, id.content};
    if (id.critical && offset >= pending) criticals_.push_back({offset, id.accepted_at});
    offset = offset.next();
  }
}

void ThreadImage::Apply(Effects& effects) {
  const Counters& after = effects.counters;
  if (effects.owner) owner_ = *effects.owner;
  if (effects.epoch) epochs_.push_back(*effects.epoch);
  Offset offset = counters_.last;
  for (LoggedEvent& logged : effects.events) {
    offset = offset.next();
    const size_t size = logged.event->bytes().size();
    tail_bytes_ += size;
    unspilled_bytes_ += size;
    if (logged.critical) criticals_.push_back({offset, logged.accepted_at});
    tail_.push_back(std::move(logged));
  }
  assert(offset == after.last);
  for (const RunRecord& run : effects.runs) PutRun(run);
  for (size_t i = tail_.size() - effects.events.size(); i < tail_.size(); ++i) {
    NoteLast(tail_[i], Offset(after.last.value() - (tail_.size() - 1 - i)));
  }
  const Offset floor_before = counters_.floor;
  const Offset pending_before = first_pending();
  counters_ = after;
  counters_.floor = floor_before;
  if (after.floor > floor_before) RaiseFloor(after.floor);
  for (const ExpiredRange& range : effects.expired) AddExpired(range, kMaxExpiredRanges, expired_);
  unseen_ends_.erase(unseen_ends_.begin(), unseen_ends_.upper_bound(after.acknowledged.value()));
  while (!criticals_.empty() && criticals_.front().offset < first_pending()) criticals_.pop_front();
  // Which critical events of the chunks are pending still, only the chunks say.
  if (hints_ && first_pending() > pending_before) hints_->oldest_critical = {};
}

void ThreadImage::IndexEvents(const Effects& effects) {
  Offset offset(effects.counters.last.value() - effects.events.size());
  for (const LoggedEvent& logged : effects.events) {
    offset = offset.next();
    ids_[logged.id] = {offset, logged.content};
  }
}

ThreadImage::Reserved ThreadImage::ReserveId(const Digest& id, const IdSlot& slot) {
  auto [entry, inserted] = ids_.try_emplace(id, slot);
  return {&entry->second, inserted};
}

const IdSlot* ThreadImage::FindId(const Digest& id) const {
  const auto entry = ids_.find(id);
  if (entry == ids_.end()) return nullptr;
  const IdSlot& slot = entry->second;
  return slot.offset < counters_.floor || slot.offset > counters_.last ? nullptr : &slot;
}

Offset ThreadImage::first_pending() const {
  return std::max(counters_.acknowledged.next(), counters_.floor);
}

const EpochMark& ThreadImage::EpochOf(Offset offset) const {
  assert(!epochs_.empty());
  for (auto mark = epochs_.rbegin(); mark != epochs_.rend(); ++mark) {
    if (mark->first <= offset) return *mark;
  }
  return epochs_.front();
}

const RunRecord* ThreadImage::FindRun(const RunId& run) const {
  const auto start = run_starts_.find(run.str());
  return start == run_starts_.end() ? nullptr : RunAt(start->second);
}

const RunRecord* ThreadImage::RunAt(uint64_t start) const {
  const auto run = runs_.find(start);
  return run == runs_.end() ? nullptr : &run->second;
}

ThreadState ThreadImage::State() const {
  ThreadState state;
  state.thread = id_;
  state.deleted = deleted_;
  state.owner = owner_;
  state.epochs.reserve(epochs_.size());
  for (const EpochMark& mark : epochs_) state.epochs.push_back({mark.epoch, mark.first});
  state.last = counters_.last;
  state.floor = counters_.floor;
  state.acknowledged = counters_.acknowledged;
  state.acknowledged_count = counters_.acknowledged_count;
  state.expired_count = counters_.expired_count;
  state.expired = expired_;
  state.last_append = counters_.last_append;
  return state;
}

std::vector<RunRecord> ThreadImage::OpenRuns() const {
  std::vector<RunRecord> runs;
  runs.reserve(open_runs_.size());
  for (const uint64_t start : open_runs_) runs.push_back(*RunAt(start));
  return runs;
}

std::vector<RunRecord> ThreadImage::UnfinishedRuns() const {
  std::vector<uint64_t> starts(open_runs_.begin(), open_runs_.end());
  for (const auto& [end, start] : unseen_ends_) starts.push_back(start);
  std::sort(starts.begin(), starts.end());
  std::vector<RunRecord> runs;
  runs.reserve(starts.size());
  for (const uint64_t start : starts) runs.push_back(*RunAt(start));
  return runs;
}

std::vector<RunRecord> ThreadImage::LastRuns(size_t count) const {
  std::vector<RunRecord> runs;
  for (auto run = runs_.rbegin(); run != runs_.rend() && runs.size() < count; ++run) {
    runs.push_back(run->second);
  }
  std::reverse(runs.begin(), runs.end());
  return runs;
}

StoredMeta ThreadImage::Meta(uint64_t applied) const {
  StoredMeta meta;
  meta.applied = applied;
  meta.owner = owner_;
  meta.counters = counters_;
  meta.epochs = epochs_;
  meta.expired = expired_;
  if (!dead_chunks_.empty()) meta.oldest = StoredMeta::kLongAgo;
  if (!chunks_.empty()) meta.oldest = chunks_.front().last_time;
  if (!criticals_.empty()) meta.oldest_critical = criticals_.front().accepted_at;
  if (hints_) {
    meta.oldest = hints_->oldest;
    meta.oldest_critical = hints_->oldest_critical;
  }
  return meta;
}

const LoggedEvent& ThreadImage::TailAt(Offset offset) const {
  assert(offset >= tail_first() && offset <= counters_.last);
  return tail_[offset.value() - tail_first().value()];
}

bool ThreadImage::ReadTail(Offset from, Offset until, PageBudget& budget,
                           std::vector<EventRun>& out) const {
  for (Offset offset = from; offset <= until; offset = offset.next()) {
    const EventPtr& event = TailAt(offset).event;
    if (!budget.Take(event->bytes().size())) return false;
    AppendToRuns(EpochOf(offset).epoch, offset, event, out);
  }
  return true;
}

void ThreadImage::MarkSpilled(const std::vector<ChunkInfo>& chunks) {
  for (const ChunkInfo& chunk : chunks) {
    chunks_.push_back(chunk);
    chunk_bytes_ += chunk.bytes;
  }
  spilled_ = counters_.last;
  unspilled_bytes_ = 0;
}

void ThreadImage::TrimTail(size_t max_events, size_t max_bytes) {
  while ((tail_.size() > max_events || tail_bytes_ > max_bytes) && !tail_.empty() &&
         tail_first() <= spilled_) {
    tail_bytes_ -= tail_.front().event->bytes().size();
    tail_.pop_front();
  }
}

std::vector<Offset> ThreadImage::TakeDeadChunks(size_t max) {
  const size_t n = std::min(max, dead_chunks_.size());
  const auto first = dead_chunks_.end() - static_cast<ptrdiff_t>(n);
  std::vector<Offset> taken(first, dead_chunks_.end());
  dead_chunks_.erase(first, dead_chunks_.end());
  return taken;
}

size_t ThreadImage::memory_bytes() const {
  return kThreadOverhead + tail_bytes_ + tail_.size() * kEventOverhead +
         ids_.capacity() * (sizeof(Digest) + sizeof(IdSlot) + 1) + run_bytes_ +
         chunks_.size() * sizeof(ChunkInfo) + criticals_.size() * sizeof(PendingCritical);
}

void ThreadImage::PutRun(const RunRecord& run) {
  const uint64_t start = run.start.value();
  auto [entry, inserted] = runs_.try_emplace(start, run);
  if (inserted) {
    run_starts_[run.run_id.str()] = start;
  } else {
    run_bytes_ -= BytesOf(entry->second);
    entry->second = run;
  }
  run_bytes_ += BytesOf(run);
  if (run.end == Offset{}) {
    open_runs_.insert(start);
  } else {
    open_runs_.erase(start);
    if (run.end > counters_.acknowledged) unseen_ends_[run.end.value()] = start;
  }
  changed_runs_.insert(start);
}

void ThreadImage::NoteLast(const LoggedEvent& event, Offset last) {
  if (event.run == Offset{}) return;
  const auto entry = runs_.find(event.run.value());
  // What follows the end is not the run's.
  if (entry == runs_.end() || entry->second.end != Offset{}) return;
  entry->second.last = last;
  entry->second.last_at = event.accepted_at;
  changed_runs_.insert(event.run.value());
}

void ThreadImage::RaiseFloor(Offset floor) {
  const uint64_t gone = floor.value() - counters_.floor.value();
  while (!tail_.empty() && tail_first() < floor) {
    const size_t size = tail_.front().event->bytes().size();
    tail_bytes_ -= size;
    if (tail_first() > spilled_) unspilled_bytes_ -= size;
    tail_.pop_front();
  }
  spilled_ = std::max(spilled_, floor.prev());
  while (!chunks_.empty() && chunks_.front().last < floor) {
    chunk_bytes_ -= chunks_.front().bytes;
    dead_chunks_.push_back(chunks_.front().last);
    chunks_.pop_front();
  }
  counters_.floor = floor;
  PruneRuns();
  PruneEpochs();
  PruneIds(gone);
}

void ThreadImage::PruneRuns() {
  for (auto entry = runs_.begin();
       entry != runs_.end() && entry->first < counters_.floor.value();) {
    const RunRecord& run = entry->second;
    if (run.end == Offset{} || run.end >= counters_.floor) {
      ++entry;
      continue;
    }
    run_bytes_ -= BytesOf(run);
    unseen_ends_.erase(run.end.value());
    // The id may have been started anew after its first record was to go.
    const auto start = run_starts_.find(run.run_id.str());
    if (start != run_starts_.end() && start->second == entry->first) run_starts_.erase(start);
    changed_runs_.insert(entry->first);
    entry = runs_.erase(entry);
  }
}

void ThreadImage::PruneEpochs() {
  size_t old = 0;  // epochs that end below the floor
  while (old + 1 < epochs_.size() && epochs_[old + 1].first <= counters_.floor) ++old;
  if (old > kOldEpochs) {
    epochs_.erase(epochs_.begin(), epochs_.begin() + static_cast<ptrdiff_t>(old - kOldEpochs));
  }
}

void ThreadImage::PruneIds(uint64_t gone) {
  // One look at the whole table for as many ids as are left: constant work for each event.
  stale_ids_ += gone;
  if (stale_ids_ < 1024 || stale_ids_ * 2 < ids_.size()) return;
  absl::erase_if(ids_, [&](const auto& entry) { return entry.second.offset < counters_.floor; });
  stale_ids_ = 0;
}

}  // namespace clarion::log
