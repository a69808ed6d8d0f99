// How far threads have come, and when: written to a browser's socket, acknowledged by the user.
//
// Not thread-safe: guarded by Core's lock. In memory only, and bounded: the threads that moved last
// are remembered, and of each the newest times.
//
// Offsets are those of the epochs that the thread had when it moved last. A log that loses its tail
// gives the offsets of that tail to other events, in a later epoch, perhaps while nobody follows
// the thread: so what is asked names the epoch, and of events of epochs that were not seen nothing
// is said.
#pragma once

#include <cstddef>
#include <deque>
#include <list>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "proto/base/scheduler.h"
#include "proto/contract/ids.h"
#include "service/delivery/delivery.h"
#include "service/log/log.h"

namespace clarion::delivery {

// A mark that moves forward, and when it passed which offset.
class History {
 public:
  static constexpr size_t kTimes = 64;

  // What lies up to `known` is said nothing of.
  explicit History(Offset known) : forgotten_(known), furthest_(known) {}

  // It passed `from` to `offset`. Where it jumped, nothing is said of what it jumped over, nor of
  // what lies before.
  void Reach(Offset from, Offset offset, Scheduler::Wall at);
  void Reach(Offset offset, Scheduler::Wall at) { Reach(furthest_.next(), offset, at); }
  // What lies beyond `last` was lost.
  void FallBack(Offset last);
  Offset furthest() const { return furthest_; }
  // It is known to have passed `offset`.
  bool Passed(Offset offset) const { return offset > forgotten_ && offset <= furthest_; }
  // When it passed `offset`; nothing: not yet, or that is forgotten.
  std::optional<Scheduler::Wall> When(Offset offset) const;

 private:
  struct Time {
    Offset reached;
    Scheduler::Wall at;
  };
  Offset forgotten_;
  Offset furthest_;
  std::deque<Time> times_;  // ascending
};

class Progress {
 public:
  explicit Progress(size_t threads) : limit_(threads) {}

  struct Range {
    Offset from;
    Offset to;
  };
  // The thread of `state`, which has these events.
  void Sent(const log::ThreadState& state, Range range, Scheduler::Wall at);
  // Up to what `state` says; `before` is W before that: of what lies below it nothing is known.
  void Acknowledged(const log::ThreadState& state, Offset before, Scheduler::Wall at);
  void Forget(const ThreadId& thread);

  bool WasSent(const ThreadId& thread, const Position& event) const;
  Milestones Of(const ThreadId& thread, const Position& event) const;

 private:
  struct Entry {
    ThreadId thread;
    std::vector<log::EpochRecord> epochs;
    History sent;
    History acknowledged;
    // Takes over the epochs of now, and drops what was lost before they began.
    void KeepUp(const log::ThreadState& state, Offset known);
  };
  // Makes it the newest; the oldest goes if there are too many.
  Entry& Touch(const log::ThreadState& state, Offset known);
  // Null: nothing is known of it.
  const Entry* Find(const ThreadId& thread, const Position& event) const;

  const size_t limit_;
  std::list<Entry> entries_;  // newest first
  absl::flat_hash_map<ThreadId, std::list<Entry>::iterator> by_thread_;
};

}  // namespace clarion::delivery
