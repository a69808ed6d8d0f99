// The event log: what every engine promises, checked by one contract suite
// (tests/contract/log_contract.h). One engine is built, the embedded one; that a Redis one can be
// is shown in redis_append.md.
//
// The log numbers, keeps and forgets events; it knows threads, owners, runs' bounds and the
// user's acknowledged offset W, because the order in which these change is the order of its
// commits. It does not know connections.
//
// All calls are asynchronous, may be made from any thread, and never block on a disk or a peer.
// Each callback is called exactly once, on one of the engine's threads, never inside the call
// that took it; it must be short, must not block, and may call the log again.
//
// Guarantees, for each thread (the conversation):
//   Order.      Appends that one caller makes one after the other are committed in that order,
//               offsets count up by one, a refused item takes no offset.
//   Visibility. Nothing is passed to a callback, reader or follower before it is committed: what
//               has been seen survives the death of this process; a batch with a critical item
//               is on stable storage first. What a machine crash or a failover takes back is
//               followed by a new epoch at the next append, never by a second event under a
//               (epoch, offset) that anybody has seen.
//   Atomicity.  The accepted items of one append, their effect on owner and runs, and the ledger
//               change in one commit. Items are judged one by one: a refused item does not
//               hold back the others, unless AppendRequest::stop_at_refusal.
//   Bounds.     Calls that find the engine's queue full fail with BUFFER_OVERFLOW at once; an
//               engine that cannot write fails them with LOG_UNAVAILABLE. An append that failed
//               with LOG_UNAVAILABLE may have happened: repeat it, idempotency sorts it out.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/contract/encoded_event.h"
#include "proto/contract/ids.h"

namespace clarion::log {

// Milliseconds since 1970, by the engine's clock.
using WallTime = std::chrono::sys_time<std::chrono::milliseconds>;

// 128 bits that stand for some bytes; equal bytes, equal digest. XXH3, stable on disk.
struct Digest {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(const Digest&, const Digest&) = default;
  static Digest Of(std::string_view bytes);
};

// What an event is to its run; run_rules.h has the rules.
enum class RunStep : uint8_t {
  kInside,  // anything between start and end
  kStart,
  kOpenTool,
  kUseTool,
  kCloseTool,
  kOpenStep,
  kCloseStep,
  kSuspend,    // waits for somebody
  kComplete,   // ends the run, in which everything is closed
  kStop,       // ends the run and what is open in it
  kAftermath,  // may also follow the end
};

// What stands against a step.
enum class RunRule : uint8_t {
  kNone,
  kNotStarted,   // the thread keeps no run of this id
  kStarted,      // it has one: AppendOutcome::kRunExists says so
  kEnded,        // nothing but kAftermath follows
  kOpenAlready,  // the tool call or step
  kNotOpen,
  kStillOpen,    // tool calls or steps, and the run is to be complete
  kTooManyOpen,  // more than kMaxOpenParts
};

// Tool calls and steps of one run at a time.
inline constexpr size_t kMaxOpenParts = 128;

// A tool call or step that is open.
struct OpenPart {
  enum class Kind : uint8_t { kTool, kStep };
  Kind kind = Kind::kTool;
  // The call's id; the step's name.
  std::string name;
  // Of a call.
  std::string tool_name;
  friend bool operator==(const OpenPart&, const OpenPart&) = default;
};

// One event to append.
struct AppendItem {
  EventId event_id;
  // Of run_id and payload: tells a repetition from another event under the same id.
  Digest content;
  EventPtr event;
  RunId run_id;
  RunStep run_step = RunStep::kInside;
  // The tool call's id, or the step's name.
  std::string run_key;
  // kOpenTool: kept while the call is open.
  std::string tool_name;
  // kStart: kept with the run; see RunRecord.
  std::string agent_name;
  RunId parent;
  std::string run_data;
  // kStart: kept with the run. Others: 0, or the run's.
  Digest fence;
  // kSuspend: until when; 1970: for ever.
  WallTime suspended_until;
  // kComplete, kStop: kept with the run.
  uint8_t run_outcome = 0;
  // kComplete, kStop: takes the place of the run's fence, so that its producer is told.
  std::optional<Digest> next_fence;
  bool critical = false;
};

// A run's place in its thread. Kept while the run is open or its end is not below the floor.
struct RunRecord {
  RunId run_id;
  std::string agent_name;
  // As given with kStart, at most 1 KiB: whoever started the run keeps its own facts here.
  std::string data;
  // What events of the run must name if they name any; 0: they may name none.
  Digest fence;
  // The run that handed over to this one; empty: none.
  RunId parent;
  Offset start;
  // Offset{0}: open.
  Offset end;
  // Of the run's events, and when that was accepted; of one that has ended: as `end`.
  Offset last;
  WallTime last_at;
  // As given with the end.
  uint8_t outcome = 0;
  // It waits for somebody, until then; 1970: for ever.
  bool suspended = false;
  WallTime suspended_until;
  // In the order of their opening.
  std::vector<OpenPart> open;
};

// Which rules of run_rules.h hold. Those of kStart always do.
enum class RunRules : uint8_t {
  kNone,
  // What is refused is an event of a run that the thread does not keep (kNotStarted) or that has
  // ended (kEnded), and completion with something open (kStillOpen): the caller can mend the first
  // and the last.
  kLenient,
  kStrict,
};

// Who produces a run; see RunRecord.
struct Producer {
  RunId run;
  Digest fence;
  std::string data;
};

// How a run stood when somebody looked.
struct RunMark {
  RunId run;
  Digest fence;
  Offset last;
};

struct AppendRequest {
  ThreadId thread;
  // Must own the thread; becomes its owner with the first accepted item if it has none.
  UserId owner;
  std::vector<AppendItem> items;
  // After a refused item the rest are kSkipped.
  bool stop_at_refusal = false;
  RunRules run_rules = RunRules::kNone;
  // Asked, in the commit, about an item that is kRunProtocol: what to append in front of it, under
  // no rules, so that it can be judged once more; nothing: it is refused. `run`: as the item's
  // AppendedItem would have it. Must be quick, must not block nor call the log; an engine may ask
  // twice.
  std::function<std::vector<AppendItem>(const AppendItem& item, RunRule rule,
                                        const std::optional<RunRecord>& run)>
      mend;
  // If the run has not ended, nor moved since: otherwise all are kRunMoved, but for repetitions.
  std::optional<RunMark> unless_moved;
};

enum class AppendOutcome : uint8_t {
  kAppended,
  kDuplicate,    // accepted before; offset and epoch of the first time
  kIdConflict,   // the event_id exists with other content
  kNotOwner,     // the thread is another user's
  kRunExists,    // kStart for a run_id that the thread has; `run` says which
  kTooManyRuns,  // more open runs than --max-open-runs
  kFenced,       // the thread keeps no run of this id with this fence
  kRunProtocol,  // `rule` says why; `run` how the run stands, if the thread keeps it
  kRunMoved,     // unless_moved
  kDeleted,      // the thread was deleted
  kSkipped,      // stop_at_refusal
};

struct AppendedItem {
  AppendOutcome outcome = AppendOutcome::kSkipped;
  Offset offset;  // kAppended, kDuplicate
  Epoch epoch;    // kAppended, kDuplicate
  RunRule rule = RunRule::kNone;
  // kRunExists, kRunProtocol; kDuplicate of a run's start while its record is kept.
  std::optional<RunRecord> run;
};

struct AppendResult {
  std::vector<AppendedItem> items;  // one for each of the request's
  size_t mends = 0;                 // that AppendRequest::mend had appended
  WallTime committed_at;
  // When retention may remove what was appended, as far as it is not critical.
  WallTime expires_at;
};

// One unbroken numbering: from `first` until the next epoch's first.
struct EpochRecord {
  Epoch epoch;
  Offset first;
};

enum class FloorReason : uint8_t { kExpired, kDeleted };

// Events of one epoch that the floor passed before anybody acknowledged them.
struct ExpiredRange {
  Epoch epoch;
  Offset from;
  Offset to;
  // As many as there are from `from` to `to`, unless older ranges were drawn together: then those
  // between that were acknowledged are not counted, and `epoch` is that of `to`.
  uint64_t count = 0;
  FloorReason reason = FloorReason::kExpired;
  // When the newest of them expired.
  WallTime at;
};

// The ledger of many threads: of `accepted` events, so many were acknowledged or expired; the rest
// is pending.
struct LedgerCounts {
  uint64_t accepted = 0;
  uint64_t acknowledged = 0;
  uint64_t expired = 0;
  uint64_t pending() const { return accepted - acknowledged - expired; }
  friend bool operator==(const LedgerCounts&, const LedgerCounts&) = default;
};

// Of everybody's threads as of one commit; what belongs to the reserved user of wiring checks is
// left out.
struct Ledger {
  LedgerCounts total;
  // The part of `total` that belonged to threads which were deleted since: nothing of it is
  // pending.
  LedgerCounts deleted_threads;
  friend bool operator==(const Ledger&, const Ledger&) = default;
};

// A thread as of one commit.
struct ThreadState {
  ThreadId thread;
  UserId owner;  // empty: nobody's (the thread may not exist at all)
  // Oldest first; empty while nothing was ever appended. Epochs that end below the floor may be
  // left out except the newest 16.
  std::vector<EpochRecord> epochs;
  Offset last;          // L; 0: no events yet
  Offset floor{1};      // F: the first offset still kept
  Offset acknowledged;  // W
  // The ledger: what acks and what raises of the floor counted. With pending() they add up to L.
  uint64_t acknowledged_count = 0;
  uint64_t expired_count = 0;
  // What expired, ascending: the newest ranges, adjacent ones of one epoch and reason as one; what
  // would be more than kMaxExpiredRanges is drawn together at the old end. Their counts add up to
  // expired_count.
  std::vector<ExpiredRange> expired;
  WallTime last_append;  // 1970 while nothing was appended
  // Ascending by start. A thread may keep many thousands: each call says which of them it answers.
  std::vector<RunRecord> runs;
  // It was, and Delete removed it: nothing else is set, and nothing is accepted for it.
  bool deleted = false;

  Position end() const { return {epochs.empty() ? Epoch() : epochs.back().epoch, last}; }
  uint64_t pending() const {
    return last.value() - std::max(acknowledged.value(), floor.prev().value());
  }
};

// Of one thread.
inline constexpr size_t kMaxExpiredRanges = 16;

// Contiguous events of one epoch.
struct EventRun {
  Epoch epoch;
  Offset first;
  std::vector<EventPtr> events;
  Offset last() const { return Offset(first.value() + events.size() - 1); }
};

struct ReadRequest {
  ThreadId thread;
  // The first offset wanted; below the floor the read begins at the floor.
  Offset from;
  // The last one wanted; nothing: the end.
  std::optional<Offset> until;
  // The page ends before the event that would exceed either, but holds at least one event.
  size_t max_bytes = 256 * 1024;
  size_t max_events = 1024;
};

struct ReadResult {
  std::vector<EventRun> runs;  // ascending, without gaps
  Offset floor;                // when the page was read: nothing below it is in `runs`
  Position last;
};

struct FoundEvent {
  Epoch epoch;
  Offset offset;
  EventPtr event;
  bool critical = false;
  WallTime accepted_at;
  // When its commit was done; nothing: before the engine was opened, or long enough ago that the
  // event was read from the disk.
  std::optional<WallTime> committed_at;
};

// Learns of everything that happens in the threads it follows. Calls come one at a time for each
// thread, in order of commit.
class Follower {
 public:
  virtual ~Follower() = default;
  // Contiguous with what came before, or with the snapshot; a new epoch is a call of its own.
  virtual void OnAppended(const ThreadId& thread, const EventRun& run) = 0;
  virtual void OnFloorRaised(const ThreadId& thread, Offset floor, FloorReason reason) = 0;
  virtual void OnAcknowledged(const ThreadId& thread, Offset acknowledged) = 0;
  // All of it is gone, up to `last`, and it is nobody's; nothing is appended to it for as long as
  // its tombstone stands.
  virtual void OnDeleted(const ThreadId& thread, Offset last) = 0;
  // The engine could not keep the order (a remote one lost messages it cannot repeat): `follow
  // again`.
  virtual void OnInterrupted(const ThreadId& thread) = 0;
};

// Learns which threads get an owner.
class OwnerWatcher {
 public:
  virtual ~OwnerWatcher() = default;
  virtual void OnThreadOwned(const ThreadId& thread, const UserId& owner) = 0;
};

// Learns which runs begin, end, are suspended and go on.
class RunWatcher {
 public:
  virtual ~RunWatcher() = default;
  // As it is now.
  virtual void OnRun(const ThreadId& thread, const RunRecord& run) = 0;
};

struct AckResult {
  // W after the ack.
  Offset acknowledged;
  // The ack moved W.
  bool moved = false;
};

struct DeletedThread {
  // It had been deleted before: nothing else is set.
  bool already_deleted = false;
  uint64_t events = 0;   // that were still kept
  uint64_t expired = 0;  // those of them that nobody had acknowledged
};

struct ThreadPage {
  std::vector<ThreadState> threads;
  std::string next_page_token;  // empty: that was all
};

class Log {
 public:
  template <class T>
  using Callback = std::function<void(absl::StatusOr<T>)>;

  virtual ~Log() = default;

  virtual void Append(AppendRequest request, Callback<AppendResult> done) = 0;

  // An unknown thread reads as an empty one without owner.
  virtual void Read(ReadRequest request, Callback<ReadResult> done) = 0;
  // Without runs: who reads events or checks the owner needs none.
  virtual void GetState(ThreadId thread, Callback<ThreadState> done) = 0;
  // `runs` holds this run alone, if the thread keeps it.
  virtual void FindRun(ThreadId thread, RunId run, Callback<ThreadState> done) = 0;
  // `runs` holds those `count` that started last, ascending, of the runs that the thread keeps.
  virtual void LastRuns(ThreadId thread, size_t count, Callback<ThreadState> done) = 0;
  // NOT_FOUND when the thread does not keep such an event (any more).
  virtual void Find(ThreadId thread, EventId event_id, Callback<FoundEvent> done) = 0;

  // Makes `follower` learn of every commit in `thread` after the state that `done` gets, which is
  // called before the first of them. Following again, with the same follower, is how one gets a
  // fresh state in its place between the follower's calls: everything up to `state.last` has been
  // passed, nothing beyond it. Its runs are those that are open or end beyond W: where one goes on
  // who has seen nothing of what is unfinished. One follower per log is enough: delivery. It must
  // outlive the log's threads (see Close) or unfollow all.
  virtual void Follow(ThreadId thread, Follower* follower, Callback<ThreadState> done) = 0;
  // No call for this thread begins after `done`.
  virtual void Unfollow(ThreadId thread, Follower* follower, std::function<void()> done) = 0;

  // `watcher` learns of every thread that gets its owner, by whatever call and whether its caller
  // heard the answer or not: after the commit, before followers and callers do. Of some it learns
  // again. One watcher, before the first call; it must outlive the log's threads (see Close).
  virtual void WatchOwners(OwnerWatcher* watcher) = 0;
  // Likewise of every run that began, ended, was suspended or went on since; not of those that were
  // deleted with their threads, nor of threads of the reserved user.
  virtual void WatchRuns(RunWatcher* watcher) = 0;

  // Gives the thread to `owner` if it is nobody's. THREAD_OWNERSHIP if it is somebody else's,
  // EVENT_DROPPED if it was deleted.
  // True: it was nobody's.
  virtual void Assign(ThreadId thread, UserId owner, Callback<bool> done) = 0;

  // Gives `owner`'s open run to another producer, on stable storage before the answer, which is the
  // run as it is then: it has this fence and these data, and is not suspended any more.
  // THREAD_OWNERSHIP: the thread is not the owner's; NOT_FOUND: it keeps no such run; RUN_PROTOCOL:
  // the run has ended.
  virtual void TakeOver(ThreadId thread, UserId owner, Producer producer,
                        Callback<RunRecord> done) = 0;

  // Moves W to `position` if that is further. The caller has checked that the position is seamless
  // with a state it saw; the commit checks the epoch and the end again: EPOCH_CHANGED, ACK_INVALID.
  virtual void Ack(ThreadId thread, UserId user, Position position, Callback<AckResult> done) = 0;

  // Raises the floor to `floor`, or to L+1 if that is less, if it is further; the ledger counts
  // what nobody acknowledged. The answer is the floor afterwards.
  virtual void RaiseFloor(ThreadId thread, Offset floor, FloorReason reason,
                          Callback<Offset> done) = 0;

  // Deletes `user`'s thread, in one commit and on stable storage before the answer: the floor goes
  // beyond L, the ledger counts what nobody acknowledged as expired, and events, runs, ids and
  // owner go. Its part of the sums moves to Ledger::deleted_threads. A tombstone under a hash of
  // its id stays for a while (engine's option), refuses whoever still writes (kDeleted,
  // EVENT_DROPPED), and makes the repetition of this call succeed. The bytes leave the disk within
  // a bounded time (likewise). THREAD_OWNERSHIP: it is somebody else's; NOT_FOUND: nobody's.
  virtual void Delete(ThreadId thread, UserId user, Callback<DeletedThread> done) = 0;

  // Forgets the thread altogether, owner and ledger included: for canaries only.
  virtual void Erase(ThreadId thread, Callback<bool> done) = 0;

  // Ids of threads of `owner`, ascending by bytes, from the first after `after` (empty: the first
  // of all); fewer than `limit`, at least 1, say that there are no more. A thread that was the
  // owner's when the first page was asked for is on one of them, whatever happens meanwhile.
  virtual void ListThreadIds(UserId owner, ThreadId after, size_t limit,
                             Callback<std::vector<ThreadId>> done) = 0;

  // Threads of `owner`, most recently active first: for people to look at, as a thread that gets an
  // event between two pages moves to the front and is on none. `owner` empty: everybody's, in no
  // particular order, each on one page. Their runs are the open ones.
  virtual void ListThreads(UserId owner, std::string page_token, size_t page_size,
                           Callback<ThreadPage> done) = 0;

  // The sums over all threads, kept by each commit: they cost no look at any thread.
  virtual void GetLedger(Callback<Ledger> done) = 0;

  // OK while the log takes what is written to it. UNAVAILABLE: it refuses everything, or its
  // storage stands still; the text says since when or why. At once, unlike all else.
  virtual absl::Status Writable() const = 0;

  // Commits what was accepted, answers every callback, stops. No call may follow.
  virtual void Close() = 0;
};

}  // namespace clarion::log
