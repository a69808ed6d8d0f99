// Those who wait until an event is sent or acknowledged, and those who watch how far a thread is.
//
// Guarded by Core's lock, apart from the gates; timers and callbacks are Core's.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "proto/base/scheduler.h"
#include "service/delivery/deferred.h"
#include "service/delivery/delivery.h"
#include "service/delivery/gate.h"

namespace clarion::delivery {

// One AwaitReceipt call.
struct ReceiptWait {
  ThreadId thread;
  Position position;
  v1::WaitFor wanted = v1::WAIT_FOR_UNSPECIFIED;
  std::function<void(v1::WaitOutcome)> done;
  Scheduler::TimerId timer = 0;
  bool answered = false;
  CallbackGate gate;
};

// One WatchReceipts call.
struct ReceiptWatch {
  ThreadId thread;
  std::shared_ptr<ReceiptWatcher> watcher;
  // It was told the first picture, and this is what it heard last.
  bool begun = false;
  Offset told;
  CallbackGate gate;
};

class Receipts {
 public:
  explicit Receipts(Scheduler* scheduler) : scheduler_(scheduler) {}

  void Add(const std::shared_ptr<ReceiptWait>& wait);
  void Remove(const std::shared_ptr<ReceiptWait>& wait);
  // The furthest that somebody waits for; nothing: nobody waits.
  const Position* Awaited(const ThreadId& thread) const;
  // Events `from` to `to` of `thread` are: REACHED for whoever waits for that. What is acknowledged
  // was sent.
  void OnReached(const ThreadId& thread, Offset from, Offset to, v1::WaitFor what, Deferred& after);
  // Nobody will see any more of the thread: those who wait have waited in vain, watchers are told
  // NOT_FOUND.
  void OnDeleted(const ThreadId& thread, Deferred& after);
  // `done` gets `outcome`, unless it got something before.
  void Answer(const std::shared_ptr<ReceiptWait>& wait, v1::WaitOutcome outcome, Deferred& after);

  void Add(const std::shared_ptr<ReceiptWatch>& watch);
  // Ends those who have no first picture, which cannot be had; answers how many they were.
  uint32_t EndWithoutPicture(const ThreadId& thread, const absl::Status& status, Deferred& after);
  // False: it was not there (any more).
  bool Remove(const std::shared_ptr<ReceiptWatch>& watch);
  // Tells those who have not heard it, and each whether it is the first picture.
  void Tell(const ThreadId& thread, const Receipt& receipt, Deferred& after);

  void EndAll(const absl::Status& status, Deferred& after);

 private:
  static void End(const std::shared_ptr<ReceiptWatch>& watch, const absl::Status& status,
                  Deferred& after);

  template <class T>
  using ByThread = absl::flat_hash_map<ThreadId, std::vector<std::shared_ptr<T>>>;

  Scheduler* const scheduler_;
  ByThread<ReceiptWait> waits_;
  ByThread<ReceiptWatch> watches_;
};

}  // namespace clarion::delivery
