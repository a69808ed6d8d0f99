#include "service/delivery/resume.h"

#include <algorithm>
#include <cstddef>

namespace clarion::delivery {
namespace {

// The last offset that still is what `epoch` said it was; 0 for an epoch that nobody remembers.
// Each later epoch may have begun further back than the one before it.
Offset LastSurviving(const log::ThreadState& state, const Epoch& epoch) {
  Offset surviving = state.last;
  for (size_t i = state.epochs.size(); i-- > 0;) {
    if (state.epochs[i].epoch == epoch) return surviving;
    surviving = std::min(surviving, state.epochs[i].first.prev());
  }
  return Offset(0);
}

v1::Missed MakeMissed(const log::ThreadState& state, Offset from, Offset to,
                      v1::MissedReason reason) {
  v1::Missed missed;
  missed.set_epoch(state.end().epoch.str());
  missed.set_from_offset(from.value());
  missed.set_to_offset(to.value());
  missed.set_reason(reason);
  return missed;
}

// From the least of W+1 and the start of every run that is open or ends beyond W.
Offset FirstUnfinished(const log::ThreadState& state) {
  Offset first = state.acknowledged.next();
  for (const log::RunRecord& run : state.runs) {
    const bool open = run.end == Offset(0);
    if (open || run.end > state.acknowledged) first = std::min(first, run.start);
  }
  return std::min(first, state.last.next());
}

// What the follower keeps of its position; what it must discard goes to `missed`.
Offset KeepSurviving(const log::ThreadState& state, const Position& position,
                     std::vector<v1::Missed>* missed) {
  if (Seamless(state, position)) return position.offset;
  const Offset keep = LastSurviving(state, position.epoch);
  v1::Missed lost =
      MakeMissed(state, keep.next(), position.offset, v1::MISSED_REASON_LOG_ROLLED_BACK);
  lost.set_discard_after(keep.value());
  missed->push_back(std::move(lost));
  return keep;
}

// The offset after which to go on, before the floor is looked at.
Offset Wanted(const log::ThreadState& state, const Start& start, std::vector<v1::Missed>* missed) {
  if (start.after.has_value()) return KeepSurviving(state, *start.after, missed);
  switch (start.from) {
    case v1::START_FROM_START:
      return Offset(0);
    case v1::START_FROM_LIVE:
      return state.last;
    default:
      return FirstUnfinished(state).prev();
  }
}

}  // namespace

bool Seamless(const log::ThreadState& state, const Position& position) {
  return position.offset == Offset(0) || position.offset <= LastSurviving(state, position.epoch);
}

bool Ahead(const log::ThreadState& state, const Position& position) {
  return position.offset > state.last && position.epoch == state.end().epoch;
}

bool HasEpoch(const log::ThreadState& state, const Epoch& epoch) {
  return std::any_of(state.epochs.begin(), state.epochs.end(),
                     [&](const auto& start) { return start.epoch == epoch; });
}

Resolution Resolve(const log::ThreadState& state, const Start& start) {
  Resolution resolution;
  resolution.from = Wanted(state, start, &resolution.missed).next();
  if (resolution.from < state.floor) {
    resolution.missed.push_back(
        MakeMissed(state, resolution.from, state.floor.prev(), v1::MISSED_REASON_EXPIRED));
    resolution.from = state.floor;
  }
  return resolution;
}

Epoch EpochAt(const log::ThreadState& state, Offset offset) {
  for (size_t i = state.epochs.size(); i-- > 0;) {
    if (i == 0 || state.epochs[i].first <= offset) return state.epochs[i].epoch;
  }
  return Epoch();
}

}  // namespace clarion::delivery
