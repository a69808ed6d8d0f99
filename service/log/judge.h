// The rules of the log: what a call may do to a thread, given what was committed and what earlier
// calls of the same commit will do. The only place where rules are; no input or output.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "service/log/effects.h"
#include "service/log/embedded_options.h"
#include "service/log/thread_image.h"

namespace clarion::log {

// The same for all calls of one commit.
struct CommitContext {
  WallTime now;
  uint64_t incarnation = 0;
  const EmbeddedOptions* options = nullptr;
  // A name that no epoch of any thread has had.
  std::function<Epoch()> new_epoch;
};

// What one commit will do to one thread.
struct Staged {
  // The journal's section. Its counters are valid from Begin on.
  Effects effects;
  // As committed.
  Counters before;
  // Repetitions that were judged.
  uint64_t duplicates = 0;
  uint64_t event_bytes = 0;
  // Runs of `effects` that began, ended, were suspended or went on: where they start.
  std::vector<Offset> turned_runs;
  // An accepted item is critical, or an epoch opened: the commit must be on stable storage first.
  bool needs_sync = false;
  bool changed = false;

  void Begin(const Counters& committed);
};

// Judges calls on one thread, one after the other. Only its thread's ids are changed at once
// (ThreadImage::ReserveId); all else is staged. If the commit fails the image is not fit to be
// judged by any more.
class Judge {
 public:
  Judge(ThreadImage& image, Staged& staged, const CommitContext& context)
      : image_(image), staged_(staged), context_(context) {}

  // The events are moved out of `request`.
  AppendResult Append(AppendRequest& request);
  absl::StatusOr<AckResult> Ack(const UserId& user, const Position& position);
  Offset RaiseFloor(Offset floor, FloorReason reason);
  // By the retention limits.
  void Retain();
  absl::StatusOr<bool> Assign(const UserId& owner);
  absl::StatusOr<RunRecord> TakeOver(const UserId& user, const Producer& producer);

  // With what was staged.
  const UserId& owner() const;

 private:
  AppendedItem AppendOne(AppendItem& item, RunRules rules, bool moved);
  // After `item` was refused: with what mends its run in front of it.
  AppendedItem AppendMended(AppendItem& item, AppendedItem refused, const AppendRequest& request,
                            size_t& mends);
  AppendedItem Duplicate(const AppendItem& item, const IdSlot& slot) const;
  bool Moved(const RunMark& mark) const;
  std::optional<AppendOutcome> RefuseForRun(const AppendItem& item, RunRules rules,
                                            AppendedItem& answer) const;
  void Accept(AppendItem& item, const Digest& id);
  void OpenEpochIfNeeded();
  // Where the run starts that the item belongs to; 0: none that is kept.
  Offset TakeRunStep(const AppendItem& item, Offset offset);
  RunRecord& Stage(const RunRecord& run);
  void RetainWithinLimits();
  // The ledger counts what the floor passes from `first` to `last`.
  void CountExpired(Offset first, Offset last, FloorReason reason);

  // Times never go back within a thread, whatever the clock does.
  WallTime now() const { return std::max(context_.now, counters().last_append); }
  const EpochMark& EpochOf(Offset offset) const;
  // The last offset that survived of an epoch; nothing: unknown epoch.
  std::optional<Offset> LastOf(const Epoch& epoch) const;
  const RunRecord* FindRun(const RunId& run) const;
  size_t OpenRuns() const;
  Counters& counters() { return staged_.effects.counters; }
  const Counters& counters() const { return staged_.effects.counters; }

  ThreadImage& image_;
  Staged& staged_;
  const CommitContext& context_;
};

}  // namespace clarion::log
