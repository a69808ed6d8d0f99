// A call on its way to the commit thread, and the queue it waits in.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/base/mutex.h"
#include "service/log/log.h"
#include "service/log/thread_image.h"

namespace clarion::log {

struct AppendOp {
  AppendRequest request;
  Log::Callback<AppendResult> done;
  AppendResult result;
};
struct AckOp {
  UserId user;
  Position position;
  Log::Callback<AckResult> done;
  absl::StatusOr<AckResult> result;
};
struct FloorOp {
  Offset floor;
  FloorReason reason;
  Log::Callback<Offset> done;
  Offset result;
};
struct AssignOp {
  UserId owner;
  Log::Callback<bool> done;
  absl::StatusOr<bool> result;
};
struct TakeOverOp {
  UserId owner;
  Producer producer;
  Log::Callback<RunRecord> done;
  absl::StatusOr<RunRecord> result;
};
struct EraseOp {
  Log::Callback<bool> done;
};
struct DeleteOp {
  UserId user;
  Log::Callback<DeletedThread> done;
};
struct FollowOp {
  Follower* follower;
  Log::Callback<ThreadState> done;
};
struct UnfollowOp {
  Follower* follower;
  std::function<void()> done;
};
// The engine's own: raise the floor by the retention limits.
struct RetainOp {};

struct Op {
  ThreadId thread;
  // Taken from the queue's room until the call is answered.
  size_t bytes = 0;
  std::variant<AppendOp, AckOp, FloorOp, AssignOp, TakeOverOp, EraseOp, DeleteOp, FollowOp,
               UnfollowOp, RetainOp>
      what;
};

// A thread that was read from disk, or why not.
struct Loaded {
  ThreadId thread;
  // Of the database it was asked for in: an answer of a former one does not count.
  uint64_t generation = 0;
  absl::StatusOr<std::unique_ptr<ThreadImage>> image;
};

// What became of a purge (purge.h).
struct Purged {
  uint64_t generation = 0;  // as in Loaded
  absl::Status status;
};

// Thread-safe; one thread takes.
class CommitQueue {
 public:
  CommitQueue(size_t max_ops, size_t max_bytes) : max_ops_(max_ops), max_bytes_(max_bytes) {}

  struct Taken {
    std::vector<Op> ops;
    std::vector<Loaded> loaded;
    std::vector<Purged> purged;
    std::vector<ThreadId> due;  // retention, of threads that are not in memory
    bool retention_tick = false;
    bool store_closed = false;
    bool closing = false;
    // Ready for the next Take.
    void Clear();
  };

  // False, and `op` left alone: full.
  bool Push(Op& op);
  void PushAlways(Op op);
  void PushLoaded(Loaded loaded);
  void PushPurged(Purged purged);
  void PushDue(std::vector<ThreadId> threads);
  void PushRetentionTick();
  void PushStoreClosed();
  void Close();

  // Waits until there is something or `until` has passed (nothing: for ever); with `poll` does not
  // wait. `taken` must be clear.
  void Take(Taken& taken, bool poll, std::optional<std::chrono::steady_clock::time_point> until);
  // These were answered.
  void Release(size_t ops, size_t bytes);

 private:
  bool SomethingLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_ops_;
  const size_t max_bytes_;
  Mutex mutex_;
  CondVar wake_;
  Taken waiting_ ABSL_GUARDED_BY(mutex_);
  bool sleeping_ ABSL_GUARDED_BY(mutex_) = false;
  size_t ops_ ABSL_GUARDED_BY(mutex_) = 0;    // waiting or taken, not yet released
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // likewise
};

}  // namespace clarion::log
