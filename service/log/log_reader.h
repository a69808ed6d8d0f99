// Reading: from the tails in memory where that is enough, else from the disk.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "service/log/checkpoint.h"
#include "service/log/engine.h"
#include "service/log/log.h"

namespace clarion::log {

// Thread-safe. Answers come on the engine's memory and disk threads; never on the commit thread, so
// that neither waits for the other.
class LogReader {
 public:
  explicit LogReader(Engine& engine) : engine_(engine) {}

  void Read(ReadRequest request, Log::Callback<ReadResult> done);
  // Which runs a state is to hold: this one, or the last ones; neither: none.
  struct Runs {
    RunId one;
    size_t last = 0;
    bool none() const { return one.empty() && last == 0; }
  };
  // Also FindRun, LastRuns.
  void GetState(ThreadId thread, Runs runs, Log::Callback<ThreadState> done);
  void GetLedger(Log::Callback<Ledger> done);
  void Find(ThreadId thread, EventId event_id, Log::Callback<FoundEvent> done);
  void ListThreadIds(UserId owner, ThreadId after, size_t limit,
                     Log::Callback<std::vector<ThreadId>> done);
  void ListThreads(UserId owner, std::string page_token, size_t page_size,
                   Log::Callback<ThreadPage> done);

 private:
  // What a read needs to know of a thread as of one moment.
  struct View;

  // Runs `task` on the memory or the disk threads; false: too many wait.
  bool OnMemory(std::function<void()> task);
  bool OnDisk(std::function<void()> task);
  // For `done` when too many wait; on the memory thread.
  template <class T>
  void RefuseLater(Log::Callback<T> done, std::string_view operation, const ThreadId& thread);

  bool ReadFromTail(const ReadRequest& request, ReadResult& result) const;
  absl::StatusOr<ReadResult> ReadFromDisk(const ReadRequest& request) const;
  absl::StatusOr<bool> TryReadFromDisk(const ReadRequest& request, ReadResult& result) const;
  absl::StatusOr<View> Look(const ThreadId& thread, const std::shared_ptr<Store>& store) const;

  // Fit for State().
  absl::StatusOr<std::unique_ptr<ThreadImage>> ImageFromDisk(const ThreadId& thread,
                                                             LoadRuns runs) const;
  // `at`: where it is, if that is known.
  absl::StatusOr<FoundEvent> FindOnDisk(const ThreadId& thread, const Digest& id,
                                        std::optional<Offset> at) const;
  absl::StatusOr<std::vector<ThreadId>> ListIds(const UserId& owner, const ThreadId& after,
                                                size_t limit) const;
  absl::StatusOr<ThreadPage> List(const UserId& owner, std::string_view page_token,
                                  size_t page_size) const;
  absl::StatusOr<ThreadState> ListedState(const ThreadId& thread) const;
  absl::StatusOr<WallTime> LastAppend(Store& store, const ThreadId& thread) const;
  absl::StatusOr<std::shared_ptr<Store>> OpenStore() const;

  Engine& engine_;
};

}  // namespace clarion::log
