#include "service/log/embedded_log.h"

#include <string>
#include <utility>

#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "service/log/commit_loop.h"
#include "service/log/engine.h"
#include "service/log/log_reader.h"
#include "service/log/recovery.h"
#include "telemetry/log.h"

namespace clarion::log {
namespace {

// Of an operation in the queue, besides its events.
constexpr size_t kOpBytes = 256;
constexpr size_t kItemBytes = 128;
constexpr size_t kMaxRunDataBytes = 1024;

size_t BytesOf(const AppendRequest& request) {
  size_t bytes = kOpBytes;
  for (const AppendItem& item : request.items) {
    bytes += kItemBytes + item.event->bytes().size() + item.run_data.size();
  }
  return bytes;
}

constexpr std::string_view kRule = "must be 1 to 128 bytes of printable ASCII";

absl::Status CheckUser(const UserId& user, std::string_view operation) {
  if (ValidId(user.str())) return absl::OkStatus();
  return MakeBadRequest({{"user_id", std::string(kRule)}}, {.operation = std::string(operation)});
}

// Nothing, or what makes the ids unfit for keys.
absl::Status CheckIds(const ThreadId& thread, const UserId* user, std::string_view operation) {
  std::vector<FieldViolation> violations;
  if (!ValidId(thread.str())) violations.push_back({"thread_id", std::string(kRule)});
  if (user != nullptr && !ValidId(user->str()))
    violations.push_back({"user_id", std::string(kRule)});
  if (violations.empty()) return absl::OkStatus();
  return MakeBadRequest(violations, {.operation = std::string(operation)});
}

absl::Status CheckAppend(const AppendRequest& request) {
  if (absl::Status status = CheckIds(request.thread, &request.owner, "Append"); !status.ok()) {
    return status;
  }
  for (const AppendItem& item : request.items) {
    if (item.event == nullptr || item.event_id.empty() || item.run_data.size() > kMaxRunDataBytes) {
      return MakeBadRequest(
          {{"items", "each needs an event, an event_id, and at most 1 KiB of run_data"}},
          {.thread_id = request.thread.str(), .operation = "Append"});
    }
  }
  return absl::OkStatus();
}

// Lets a timer's task find out that the log is gone.
class TimerGate {
 public:
  explicit TimerGate(Engine* engine) : engine_(engine) {}
  void Tick() {
    MutexLock lock(mutex_);
    if (engine_ == nullptr) return;
    engine_->queue.PushRetentionTick();
    // The commit thread cannot say so itself while it stands still.
    const absl::Status writable = engine_->health.Get(engine_->options.scheduler->now());
    if (!writable.ok()) clarion::Log(Severity::kError, ToStd(writable.message()));
  }
  bool open() const {
    MutexLock lock(mutex_);
    return engine_ != nullptr;
  }
  void Close() {
    MutexLock lock(mutex_);
    engine_ = nullptr;
  }

 private:
  mutable Mutex mutex_;
  Engine* engine_ ABSL_GUARDED_BY(mutex_);
};

void ScheduleRetention(Scheduler* scheduler, std::chrono::milliseconds interval,
                       std::shared_ptr<TimerGate> gate) {
  scheduler->After(interval, [scheduler, interval, gate] {
    if (!gate->open()) return;
    gate->Tick();
    ScheduleRetention(scheduler, interval, gate);
  });
}

class EmbeddedLog : public Log {
 public:
  explicit EmbeddedLog(EmbeddedOptions options)
      : engine_(std::move(options)),
        reader_(engine_),
        gate_(std::make_shared<TimerGate>(&engine_)) {}
  ~EmbeddedLog() override { Close(); }

  absl::Status Open() {
    absl::StatusOr<Recovered> recovered =
        Recover(engine_.options, std::nullopt, [this] { engine_.queue.PushStoreClosed(); });
    if (!recovered.ok()) return recovered.status();
    loop_ = std::make_unique<CommitLoop>(engine_, *std::move(recovered));
    loop_->Start();
    ScheduleRetention(engine_.options.scheduler, engine_.options.retention_interval, gate_);
    return absl::OkStatus();
  }

  void Append(AppendRequest request, Callback<AppendResult> done) override {
    if (absl::Status status = CheckAppend(request); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    ThreadId thread = std::move(request.thread);
    const size_t bytes = BytesOf(request);
    Enqueue("Append",
            {std::move(thread), bytes, AppendOp{std::move(request), std::move(done), {}}});
  }

  void WatchOwners(OwnerWatcher* watcher) override { engine_.owners = watcher; }
  void WatchRuns(RunWatcher* watcher) override { engine_.runs = watcher; }

  void Assign(ThreadId thread, UserId owner, Callback<bool> done) override {
    if (absl::Status status = CheckIds(thread, &owner, "Assign"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    Enqueue("Assign",
            {std::move(thread), kOpBytes, AssignOp{std::move(owner), std::move(done), false}});
  }

  void TakeOver(ThreadId thread, UserId owner, Producer producer,
                Callback<RunRecord> done) override {
    if (absl::Status status = CheckIds(thread, &owner, "TakeOver"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    const size_t bytes = kOpBytes + producer.data.size();
    Enqueue("TakeOver",
            {std::move(thread), bytes,
             TakeOverOp{std::move(owner), std::move(producer), std::move(done), RunRecord{}}});
  }

  void Ack(ThreadId thread, UserId user, Position position, Callback<AckResult> done) override {
    if (absl::Status status = CheckIds(thread, &user, "Ack"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    Enqueue("Ack", {std::move(thread), kOpBytes,
                    AckOp{std::move(user), std::move(position), std::move(done), AckResult{}}});
  }

  void RaiseFloor(ThreadId thread, Offset floor, FloorReason reason,
                  Callback<Offset> done) override {
    if (absl::Status status = CheckIds(thread, nullptr, "RaiseFloor"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    Enqueue("RaiseFloor",
            {std::move(thread), kOpBytes, FloorOp{floor, reason, std::move(done), {}}});
  }

  void Erase(ThreadId thread, Callback<bool> done) override {
    if (absl::Status status = CheckIds(thread, nullptr, "Erase"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    Enqueue("Erase", {std::move(thread), kOpBytes, EraseOp{std::move(done)}});
  }

  void Delete(ThreadId thread, UserId user, Callback<DeletedThread> done) override {
    if (absl::Status status = CheckIds(thread, &user, "Delete"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    Enqueue("Delete", {std::move(thread), kOpBytes, DeleteOp{std::move(user), std::move(done)}});
  }

  void Follow(ThreadId thread, Follower* follower, Callback<ThreadState> done) override {
    if (absl::Status status = CheckIds(thread, nullptr, "Follow"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    Enqueue("Follow", {std::move(thread), kOpBytes, FollowOp{follower, std::move(done)}});
  }

  void Unfollow(ThreadId thread, Follower* follower, std::function<void()> done) override {
    // Never refused: whoever unfollows must be able to rely on it.
    engine_.queue.PushAlways({std::move(thread), 0, UnfollowOp{follower, std::move(done)}});
  }

  void Read(ReadRequest request, Callback<ReadResult> done) override {
    if (absl::Status status = CheckIds(request.thread, nullptr, "Read"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    reader_.Read(std::move(request), std::move(done));
  }
  void GetState(ThreadId thread, Callback<ThreadState> done) override {
    if (absl::Status status = CheckIds(thread, nullptr, "GetState"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    reader_.GetState(std::move(thread), {}, std::move(done));
  }
  void FindRun(ThreadId thread, RunId run, Callback<ThreadState> done) override {
    if (absl::Status status = CheckIds(thread, nullptr, "FindRun"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    reader_.GetState(std::move(thread), {.one = std::move(run)}, std::move(done));
  }
  void LastRuns(ThreadId thread, size_t count, Callback<ThreadState> done) override {
    if (absl::Status status = CheckIds(thread, nullptr, "LastRuns"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    reader_.GetState(std::move(thread), {.last = count}, std::move(done));
  }
  void Find(ThreadId thread, EventId event_id, Callback<FoundEvent> done) override {
    if (absl::Status status = CheckIds(thread, nullptr, "Find"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    reader_.Find(std::move(thread), std::move(event_id), std::move(done));
  }
  void ListThreadIds(UserId owner, ThreadId after, size_t limit,
                     Callback<std::vector<ThreadId>> done) override {
    if (absl::Status status = CheckUser(owner, "ListThreadIds"); !status.ok()) {
      return Later(std::move(done), std::move(status));
    }
    reader_.ListThreadIds(std::move(owner), std::move(after), limit, std::move(done));
  }
  void ListThreads(UserId owner, std::string page_token, size_t page_size,
                   Callback<ThreadPage> done) override {
    reader_.ListThreads(std::move(owner), std::move(page_token), page_size, std::move(done));
  }

  void GetLedger(Callback<Ledger> done) override { reader_.GetLedger(std::move(done)); }

  absl::Status Writable() const override {
    return engine_.health.Get(engine_.options.scheduler->now());
  }

  void Close() override {
    if (std::exchange(closed_, true)) return;
    gate_->Close();
    if (loop_ != nullptr) {
      engine_.queue.Close();
      loop_->Join();
    }
    // What a purge has not got to is seen to after the next opening.
    if (const auto store = engine_.store.get()) store->db().DisableManualCompaction();
    engine_.purge.Stop();
    // Memory before disk: the one hands reads to the other.
    engine_.memory.Stop();
    engine_.disk.Stop();
    engine_.store.Set(nullptr);
  }

 private:
  // On the memory thread, as an answer must not come inside the call.
  template <class T>
  void Later(Callback<T> done, absl::Status status) {
    engine_.memory.Post([done = std::move(done), status = std::move(status)] { done(status); });
  }

  void Enqueue(std::string_view operation, Op op) {
    if (engine_.queue.Push(op)) return;
    engine_.metrics.overflows.Add();
    absl::Status status = WithRetryAfter(
        MakeError(Reason::kBufferOverflow, "too many calls wait for the event log",
                  {.thread_id = op.thread.str(), .operation = std::string(operation)}),
        std::chrono::seconds(1));
    std::visit(
        [&](auto& call) {
          using T = std::decay_t<decltype(call)>;
          if constexpr (!std::is_same_v<T, RetainOp> && !std::is_same_v<T, UnfollowOp>) {
            Later(std::move(call.done), std::move(status));
          }
        },
        op.what);
  }

  Engine engine_;
  LogReader reader_;
  const std::shared_ptr<TimerGate> gate_;
  std::unique_ptr<CommitLoop> loop_;
  bool closed_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Log>> OpenEmbeddedLog(EmbeddedOptions options) {
  if (options.path.empty()) {
    return absl::InvalidArgumentError("the event log needs a folder, as in embedded:PATH");
  }
  auto log = std::make_unique<EmbeddedLog>(std::move(options));
  if (absl::Status status = log->Open(); !status.ok()) return status;
  return log;
}

}  // namespace clarion::log
