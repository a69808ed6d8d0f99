// Where a follower goes on in a thread, and what it must be told is missing before that.
//
// Pure functions over a log::ThreadState: no clock, no log, no lock.
#pragma once

#include <optional>
#include <vector>

#include "clarion/v1/position.pb.h"
#include "proto/contract/ids.h"
#include "service/log/log.h"

namespace clarion::delivery {

struct Start {
  // Go on after this position; or ...
  std::optional<Position> after;
  // ... by rule. UNSPECIFIED is UNFINISHED.
  v1::StartFrom from = v1::START_FROM_UNFINISHED;

  static Start After(Position position) { return {.after = std::move(position)}; }
};

struct Resolution {
  // The first offset to send; L+1 when there is none yet.
  Offset from;
  // To be told before that, in order: at most LOG_ROLLED_BACK, then EXPIRED.
  std::vector<v1::Missed> missed;
};

// Everything up to `position` is still what it was when the follower saw it: its offset is not
// after the last surviving offset of its epoch. Whoever has seen nothing (offset 0) can go on
// anywhere. Says nothing about the floor.
bool Seamless(const log::ThreadState& state, const Position& position);

// `position` is of the epoch of now, but beyond its end: `state` is older than what it comes from
// (readers see a commit before followers do), or the log has lost its tail since. Only the log
// knows which.
bool Ahead(const log::ThreadState& state, const Position& position);

bool HasEpoch(const log::ThreadState& state, const Epoch& epoch);

// Needs `state.runs` for UNFINISHED only.
Resolution Resolve(const log::ThreadState& state, const Start& start);

// The epoch that `offset` belongs to, or will belong to when it is beyond the end. Empty while the
// thread has no epoch.
Epoch EpochAt(const log::ThreadState& state, Offset offset);

}  // namespace clarion::delivery
