// A small vocabulary for tests of logs: calls that wait for their answers, items in one line, a
// follower that remembers.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/mutex.h"
#include "proto/contract/error.h"
#include "service/log/log.h"

namespace clarion::log {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using enum AppendOutcome;

// Calls `start` with a callback and waits for what it gets.
template <class T>
absl::StatusOr<T> Await(const std::function<void(Log::Callback<T>)>& start) {
  auto promise = std::make_shared<std::promise<absl::StatusOr<T>>>();
  std::future<absl::StatusOr<T>> future = promise->get_future();
  start([promise](absl::StatusOr<T> result) { promise->set_value(std::move(result)); });
  return future.get();
}

struct ItemOptions {
  bool critical = false;
  RunStep effect = RunStep::kInside;
  std::string run = "r";
  // Empty: made of the id.
  std::string text;
  std::string run_data;
  Digest fence;
};

// The event's JSON is the text, its other half is the text again.
AppendItem Item(std::string_view id, const ItemOptions& options = {});
AppendItem Critical(std::string_view id);
AppendItem Start(std::string_view id, std::string_view run, std::string_view data = "");
AppendItem End(std::string_view id, std::string_view run);
std::vector<AppendItem> Items(std::initializer_list<std::string_view> ids);

// What an Item with this id and no text of its own says.
std::string TextOf(std::string_view id);

// The log's calls, waiting. Holds no state.
class LogClient {
 public:
  explicit LogClient(Log* log) : log_(log) {}

  absl::StatusOr<AppendResult> Append(std::string_view thread, std::string_view owner,
                                      std::vector<AppendItem> items, bool stop_at_refusal = false);
  // One plain event for each id; fails the test unless all are appended. The offset of the last.
  uint64_t Add(std::string_view thread, std::string_view owner,
               std::initializer_list<std::string_view> ids);
  absl::StatusOr<ReadResult> Read(ReadRequest request);
  // Everything from `from` on, over as many pages as it takes, as "offset:text".
  std::vector<std::string> ReadAll(std::string_view thread, uint64_t from = 1,
                                   size_t page_events = 1024);
  ThreadState State(std::string_view thread);
  // Nothing: the thread keeps no such run.
  std::optional<RunRecord> Run(std::string_view thread, std::string_view run);
  // Their ids.
  std::vector<std::string> LastRuns(std::string_view thread, size_t count);
  absl::StatusOr<FoundEvent> Find(std::string_view thread, std::string_view event_id);
  absl::StatusOr<ThreadState> Follow(std::string_view thread, Follower* follower);
  void Unfollow(std::string_view thread, Follower* follower);
  absl::StatusOr<bool> Assign(std::string_view thread, std::string_view owner);
  absl::StatusOr<AckResult> Ack(std::string_view thread, std::string_view user, Position position);
  // In the newest epoch.
  absl::StatusOr<AckResult> Ack(std::string_view thread, std::string_view user, uint64_t offset);
  absl::StatusOr<Offset> RaiseFloor(std::string_view thread, uint64_t floor,
                                    FloorReason reason = FloorReason::kExpired);
  absl::StatusOr<bool> Erase(std::string_view thread);
  absl::StatusOr<DeletedThread> Delete(std::string_view thread, std::string_view user);
  Ledger TheLedger();
  absl::StatusOr<std::vector<std::string>> ListIds(std::string_view owner,
                                                   std::string_view after = "", size_t limit = 100);
  absl::StatusOr<ThreadPage> List(std::string_view owner, std::string page_token = "",
                                  size_t page_size = 100);

 private:
  Log* const log_;
};

// What the thread remembers of what expired, as "3-4 2 expired": from, to, count, reason.
std::vector<std::string> RangesOf(const ThreadState& state);

// Outcomes of an append, and where its events went.
std::vector<AppendOutcome> Outcomes(const AppendResult& result);
std::vector<uint64_t> Offsets(const AppendResult& result);
// "offset:text" for each event of a page.
std::vector<std::string> Texts(const std::vector<EventRun>& runs);

// Remembers, as "thread owner".
class RecordingOwners : public OwnerWatcher {
 public:
  void OnThreadOwned(const ThreadId& thread, const UserId& owner) override;
  std::vector<std::string> owned() const;
  // Waits until there are so many.
  void WaitFor(size_t count) const;

 private:
  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::vector<std::string> owned_ ABSL_GUARDED_BY(mutex_);
};

// Remembers what it is told, in order: "appended 1:a 2:b", "floor 3 expired", "acked 2",
// "deleted 2", "interrupted".
class RecordingFollower : public Follower {
 public:
  void OnAppended(const ThreadId& thread, const EventRun& run) override;
  void OnFloorRaised(const ThreadId& thread, Offset floor, FloorReason reason) override;
  void OnAcknowledged(const ThreadId& thread, Offset acknowledged) override;
  void OnInterrupted(const ThreadId& thread) override;
  void OnDeleted(const ThreadId& thread, Offset last) override;

  std::vector<std::string> calls() const;
  // All events it was told, in order.
  std::vector<std::string> events() const;
  // Waits until `call` was made.
  void WaitFor(std::string_view call) const;

 protected:
  void Add(std::string call);

 private:
  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::vector<std::string> calls_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> events_ ABSL_GUARDED_BY(mutex_);
};

// An engine over data of its own, which is gone with it.
class LogUnderTest {
 public:
  virtual ~LogUnderTest() = default;
  virtual Log* log() = 0;
  // Closes it and opens it again over the same data.
  virtual void Reopen() = 0;
  // Makes what is in memory of other threads leave it, as far as the engine keeps any.
  virtual void Evict() = 0;
  // Turns its clock.
  virtual void Pass(std::chrono::milliseconds time) = 0;
  // How many open runs a thread may have.
  virtual size_t max_open_runs() const = 0;
};

// A folder of its own, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

// The error's reason is this one.
MATCHER_P(HasReason, reason, std::string("has reason ") + std::string(NameOf(reason))) {
  const absl::Status& status = arg.status();
  *result_listener << status;
  return ReasonOf(status) == reason;
}

}  // namespace clarion::log
