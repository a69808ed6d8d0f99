// What one commit does to one thread: the unit that is written to the journal and applied to the
// thread in memory, live and at recovery alike. Made by the judge, which is the only place where
// rules are.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "service/log/log.h"

namespace clarion::log {

// An event with what the log must know of it besides its bytes.
struct LoggedEvent {
  EventPtr event;
  Digest id;       // of the event_id
  Digest content;  // AppendItem::content
  WallTime accepted_at;
  // Where the run it belongs to starts; 0: the thread keeps no such run.
  Offset run;
  bool critical = false;
  // Not stored.
  std::optional<WallTime> committed_at;
};

// An epoch, and the incarnation of the log that opened it.
struct EpochMark {
  Epoch epoch;
  uint64_t incarnation = 0;
  Offset first;
};

// Numbers of a thread, as they are after the commit. The ledger: of L events, `acknowledged_count`
// were acknowledged, `expired_count` expired, and L - max(W, F-1) are pending; the three add up to
// L.
struct Counters {
  Offset last;
  Offset floor{1};
  Offset acknowledged;
  uint64_t acknowledged_count = 0;
  uint64_t expired_count = 0;
  WallTime last_append;
};

struct Effects {
  Counters counters;
  // Given by this commit.
  std::optional<UserId> owner;
  // Opened by this commit; its first event is events.front().
  std::optional<EpochMark> epoch;
  // Offsets: the last ones up to counters.last.
  std::vector<LoggedEvent> events;
  // Runs as they are now, of which more changed than `last`: each once.
  std::vector<RunRecord> runs;
  FloorReason floor_reason = FloorReason::kExpired;
  // What the raise of the floor counted as expired, ascending; one for each epoch.
  std::vector<ExpiredRange> expired;
  // The thread is forgotten; nothing else is set.
  bool erased = false;

  // Keeps memory for the next use.
  void Clear() {
    counters = {};
    owner.reset();
    epoch.reset();
    events.clear();
    runs.clear();
    floor_reason = FloorReason::kExpired;
    expired.clear();
    erased = false;
  }
};

}  // namespace clarion::log
