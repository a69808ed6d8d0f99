// A log::Log in memory for tests: it does everything in the order the test chooses.
//
// Calls are queued for each thread; Step() either commits the oldest call of some thread, or passes
// the oldest call back (to a follower or callback) that a commit left, or answers a read. So a test
// can stand between a commit and what is said of it, and readers see a commit before followers do.
// Thread-safe: several threads may step at the same time.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/mutex.h"
#include "proto/contract/error.h"
#include "service/delivery/resume.h"
#include "service/log/log.h"

namespace clarion::delivery {

class FakeLog final : public log::Log {
 public:
  explicit FakeLog(uint64_t seed = 1) : random_(seed) {}

  // ---- What a test does ----

  // One random thing that can be done now. False: there is none.
  bool Step() {
    std::function<void()> call;
    Thread* thread = nullptr;
    {
      MutexLock lock(mutex_);
      thread = PickThread();
      if (thread == nullptr) return false;
      const bool say = !thread->calls_back.empty() || !thread->answers.empty();
      if (!say || (!thread->calls.empty() && random_() % 2 == 0)) {
        Commit(*thread);
        return true;
      }
      const bool answer =
          thread->calls_back.empty() || (!thread->answers.empty() && random_() % 2 == 0);
      call = Pop(answer ? thread->answers : thread->calls_back);
      thread->busy = true;
    }
    call();
    MutexLock lock(mutex_);
    thread->busy = false;
    return true;
  }
  void RunAll() {
    while (Step()) {
    }
  }

  // Commits all and answers readers; followers and other callers hear nothing yet.
  void RunReaders(const ThreadId& id) {
    for (;;) {
      std::function<void()> answer;
      {
        MutexLock lock(mutex_);
        Thread& thread = At(id);
        while (!thread.calls.empty()) Commit(thread);
        if (thread.answers.empty()) return;
        answer = Pop(thread.answers);
      }
      answer();
    }
  }

  void AppendText(const ThreadId& thread, const UserId& owner, const std::string& text,
                  log::RunStep effect = log::RunStep::kInside, const RunId& run = RunId("r")) {
    log::AppendRequest request{.thread = thread, .owner = owner};
    request.items.push_back({.event_id = EventId(text),
                             .event = std::make_shared<EncodedEvent>(text, ""),
                             .run_id = run,
                             .run_step = effect,
                             .agent_name = "agent"});
    Append(std::move(request), [](absl::StatusOr<log::AppendResult>) {});
  }
  void GiveTo(const ThreadId& thread, const UserId& owner) {
    Assign(thread, owner, [](absl::StatusOr<bool>) {});
  }
  // The log forgets what lies behind `keep`; the next append opens an epoch there.
  void LoseTail(const ThreadId& id, Offset keep) {
    MutexLock lock(mutex_);
    At(id).calls.push_back([keep](Thread& thread) {
      if (thread.state.last <= keep) return;
      thread.state.last = keep;
      thread.events.resize(keep.value());
      thread.new_epoch = true;
      thread.state.floor = std::min(thread.state.floor, keep.next());
      thread.state.acknowledged = std::min(thread.state.acknowledged, keep);
      std::erase_if(thread.state.runs, [&](const auto& run) { return run.start > keep; });
      for (auto& run : thread.state.runs) {
        if (run.end > keep) run.end = Offset(0);
      }
    });
  }
  // The next append of every thread opens an epoch, nothing being lost.
  void NewEpoch(const ThreadId& id) {
    MutexLock lock(mutex_);
    At(id).calls.push_back([](Thread& thread) { thread.new_epoch = true; });
  }
  void Interrupt(const ThreadId& id) {
    MutexLock lock(mutex_);
    At(id).calls.push_back([id](Thread& thread) {
      for (log::Follower* follower : thread.followers) {
        thread.calls_back.push_back([follower, id] { follower->OnInterrupted(id); });
      }
      thread.followers.clear();
    });
  }
  // The next one only.
  void FailRead(absl::Status status) {
    MutexLock lock(mutex_);
    fail_read_ = std::move(status);
  }
  void FailFollow(absl::Status status) {
    MutexLock lock(mutex_);
    fail_follow_ = std::move(status);
  }

  log::ThreadState StateOf(const ThreadId& id) {
    MutexLock lock(mutex_);
    return At(id).state;
  }
  // Texts from the floor on.
  std::vector<std::string> Texts(const ThreadId& id) {
    MutexLock lock(mutex_);
    std::vector<std::string> texts;
    for (const Stored& stored : At(id).events) texts.emplace_back(stored.event->json());
    return texts;
  }
  size_t followed() {
    MutexLock lock(mutex_);
    size_t count = 0;
    for (auto& [id, thread] : threads_) count += thread.followers.empty() ? 0 : 1;
    return count;
  }
  size_t acks() {
    MutexLock lock(mutex_);
    return acks_;
  }

  // ---- log::Log ----

  void Append(log::AppendRequest request, Callback<log::AppendResult> done) override {
    const ThreadId id = request.thread;
    MutexLock lock(mutex_);
    At(id).calls.push_back(
        [this, request = std::move(request), done = std::move(done)](Thread& thread) {
          mutex_.AssertHeld();
          CommitAppend(thread, request, done);
        });
  }

  void Read(log::ReadRequest request, Callback<log::ReadResult> done) override {
    const ThreadId id = request.thread;
    MutexLock lock(mutex_);
    At(id).calls.push_back([this, request = std::move(request),
                            done = std::move(done)](Thread& thread) {
      mutex_.AssertHeld();
      if (!fail_read_.ok()) {
        thread.answers.push_back([done, status = fail_read_] { done(status); });
        fail_read_ = absl::OkStatus();
        return;
      }
      log::ReadResult result{.floor = thread.state.floor, .last = thread.state.end()};
      Offset at = std::max(request.from, thread.state.floor);
      const Offset until = std::min(thread.state.last, request.until.value_or(thread.state.last));
      size_t bytes = 0;
      for (; at <= until; at = at.next()) {
        const Stored& stored = thread.events[at.value() - 1];
        bytes += stored.event->bytes().size();
        if (!result.runs.empty() && bytes > request.max_bytes) break;
        if (result.runs.empty() || result.runs.back().epoch != stored.epoch) {
          result.runs.push_back({.epoch = stored.epoch, .first = at});
        }
        result.runs.back().events.push_back(stored.event);
      }
      thread.answers.push_back([done, result = std::move(result)] { done(result); });
    });
  }

  void GetState(ThreadId id, Callback<log::ThreadState> done) override {
    FindRun(std::move(id), RunId(), std::move(done));
  }
  void FindRun(ThreadId id, RunId run, Callback<log::ThreadState> done) override {
    MutexLock lock(mutex_);
    At(id).calls.push_back([run, done = std::move(done)](Thread& thread) {
      log::ThreadState state = thread.state;
      std::erase_if(state.runs, [&](const auto& other) { return other.run_id != run; });
      thread.answers.push_back([done, state = std::move(state)] { done(state); });
    });
  }

  void LastRuns(ThreadId id, size_t count, Callback<log::ThreadState> done) override {
    MutexLock lock(mutex_);
    At(id).calls.push_back([count, done = std::move(done)](Thread& thread) {
      log::ThreadState state = thread.state;
      auto& runs = state.runs;
      if (runs.size() > count) runs.erase(runs.begin(), runs.end() - static_cast<ptrdiff_t>(count));
      thread.answers.push_back([done, state = std::move(state)] { done(state); });
    });
  }

  void Find(ThreadId, EventId, Callback<log::FoundEvent>) override {}

  void Follow(ThreadId id, log::Follower* follower, Callback<log::ThreadState> done) override {
    MutexLock lock(mutex_);
    At(id).calls.push_back([this, follower, done = std::move(done)](Thread& thread) {
      mutex_.AssertHeld();
      if (!fail_follow_.ok()) {
        thread.calls_back.push_back([done, status = fail_follow_] { done(status); });
        fail_follow_ = absl::OkStatus();
        return;
      }
      thread.followers.insert(follower);
      log::ThreadState state = thread.state;
      std::erase_if(state.runs, [&](const auto& run) {
        return run.end != Offset(0) && run.end <= state.acknowledged;
      });
      thread.calls_back.push_back([done, state = std::move(state)] { done(state); });
    });
  }

  void Unfollow(ThreadId id, log::Follower* follower, std::function<void()> done) override {
    MutexLock lock(mutex_);
    At(id).calls.push_back([follower, done = std::move(done)](Thread& thread) {
      thread.followers.erase(follower);
      thread.calls_back.push_back(done);
    });
  }

  void WatchOwners(log::OwnerWatcher* watcher) override { owners_ = watcher; }
  void WatchRuns(log::RunWatcher*) override {}
  void TakeOver(ThreadId, UserId, log::Producer, Callback<log::RunRecord> done) override {
    done(absl::UnimplementedError("not needed yet"));
  }

  void Assign(ThreadId id, UserId owner, Callback<bool> done) override {
    MutexLock lock(mutex_);
    At(id).calls.push_back([this, owner, done = std::move(done)](Thread& thread) {
      const bool free = thread.state.owner.empty();
      if (free) SetOwner(thread, owner);
      thread.calls_back.push_back([done, free] { done(free); });
    });
  }

  void Ack(ThreadId id, UserId, Position position, Callback<log::AckResult> done) override {
    MutexLock lock(mutex_);
    ++acks_;
    At(id).calls.push_back([position, done = std::move(done)](Thread& thread) {
      if (position.epoch != thread.state.end().epoch) {
        return thread.calls_back.push_back(
            [done] { done(MakeError(Reason::kEpochChanged, "the epoch changed")); });
      }
      if (position.offset > thread.state.last) {
        return thread.calls_back.push_back(
            [done] { done(MakeError(Reason::kAckInvalid, "beyond the end")); });
      }
      const bool moved = position.offset > thread.state.acknowledged;
      thread.state.acknowledged = std::max(thread.state.acknowledged, position.offset);
      const Offset now = thread.state.acknowledged;
      if (moved) {
        for (log::Follower* follower : thread.followers) {
          thread.calls_back.push_back(
              [follower, id = thread.state.thread, now] { follower->OnAcknowledged(id, now); });
        }
      }
      thread.calls_back.push_back([done, now, moved] { done(log::AckResult{now, moved}); });
    });
  }

  void RaiseFloor(ThreadId id, Offset floor, log::FloorReason reason,
                  Callback<Offset> done) override {
    MutexLock lock(mutex_);
    At(id).calls.push_back([floor, reason, done = std::move(done)](Thread& thread) {
      const Offset raised = std::min(floor, thread.state.last.next());
      if (raised > thread.state.floor) {
        thread.state.floor = raised;
        for (log::Follower* follower : thread.followers) {
          thread.calls_back.push_back([follower, id = thread.state.thread, raised, reason] {
            follower->OnFloorRaised(id, raised, reason);
          });
        }
      }
      thread.calls_back.push_back([done, now = thread.state.floor] { done(now); });
    });
  }

  void Erase(ThreadId, Callback<bool>) override {}
  // Of whoever asks; followers stay.
  void Delete(ThreadId id, UserId, Callback<log::DeletedThread> done) override {
    MutexLock lock(mutex_);
    At(id).calls.push_back([id, done = std::move(done)](Thread& thread) {
      const Offset last = thread.state.last;
      thread.state = {};
      thread.state.thread = id;
      thread.state.deleted = true;
      thread.events.clear();
      for (log::Follower* follower : thread.followers) {
        thread.calls_back.push_back([follower, id, last] { follower->OnDeleted(id, last); });
      }
      thread.calls_back.push_back([done] { done(log::DeletedThread{}); });
    });
  }

  void ListThreadIds(UserId owner, ThreadId after, size_t limit,
                     Callback<std::vector<ThreadId>> done) override {
    MutexLock lock(mutex_);
    At(ThreadId("_list"))
        .calls.push_back([this, owner, after, limit, done = std::move(done)](Thread& list) {
          mutex_.AssertHeld();
          std::vector<ThreadId> page;
          for (auto at = threads_.upper_bound(after); at != threads_.end(); ++at) {
            if (at->second.state.owner != owner || owner.empty()) continue;
            if (page.size() < limit) page.push_back(at->first);
          }
          list.calls_back.push_back([done, page = std::move(page)] { done(page); });
        });
  }

  // By id, whatever happened last; a token is the id that the page before ended with.
  void ListThreads(UserId owner, std::string token, size_t size,
                   Callback<log::ThreadPage> done) override {
    MutexLock lock(mutex_);
    At(ThreadId("_list"))
        .calls.push_back([this, owner, token, size, done = std::move(done)](Thread& list) {
          mutex_.AssertHeld();
          log::ThreadPage page;
          for (auto at = threads_.upper_bound(ThreadId(token)); at != threads_.end(); ++at) {
            if (at->second.state.owner != owner) continue;
            if (page.threads.size() == size) {
              page.next_page_token = page.threads.back().thread.str();
              break;
            }
            page.threads.push_back(at->second.state);
          }
          list.calls_back.push_back([done, page = std::move(page)] { done(page); });
        });
  }

  void GetLedger(Callback<log::Ledger>) override {}

  absl::Status Writable() const override { return absl::OkStatus(); }

  void Close() override { RunAll(); }

 private:
  struct Stored {
    Epoch epoch;
    EventPtr event;
  };
  struct Thread {
    log::ThreadState state;
    std::vector<Stored> events;
    bool new_epoch = true;
    std::set<log::Follower*> followers;
    std::deque<std::function<void(Thread&)>> calls;
    std::deque<std::function<void()>> calls_back;
    std::deque<std::function<void()>> answers;  // of readers
    bool busy = false;
  };

  Thread& At(const ThreadId& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Thread& thread = threads_[id];
    thread.state.thread = id;
    return thread;
  }

  Thread* PickThread() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<Thread*> able;
    for (auto& [id, thread] : threads_) {
      const bool idle = thread.calls.empty() && thread.calls_back.empty() && thread.answers.empty();
      if (!thread.busy && !idle) able.push_back(&thread);
    }
    return able.empty() ? nullptr : able[random_() % able.size()];
  }

  static void Commit(Thread& thread) {
    const auto apply = std::move(thread.calls.front());
    thread.calls.pop_front();
    apply(thread);
  }
  static std::function<void()> Pop(std::deque<std::function<void()>>& calls) {
    auto call = std::move(calls.front());
    calls.pop_front();
    return call;
  }

  // The watcher learns of it twice, as it may.
  void SetOwner(Thread& thread, const UserId& owner) {
    thread.state.owner = owner;
    for (int n = 0; n < 2 && owners_ != nullptr; ++n) {
      thread.calls_back.push_back([watcher = owners_, id = thread.state.thread, owner] {
        watcher->OnThreadOwned(id, owner);
      });
    }
  }

  void CommitAppend(Thread& thread, const log::AppendRequest& request,
                    const Callback<log::AppendResult>& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    log::AppendResult result;
    if (thread.state.owner.empty()) SetOwner(thread, request.owner);
    if (std::exchange(thread.new_epoch, false)) {
      thread.state.epochs.push_back(
          {Epoch(absl::StrCat("e", ++last_epoch_)), thread.state.last.next()});
    }
    log::EventRun run{.epoch = thread.state.end().epoch, .first = thread.state.last.next()};
    for (const log::AppendItem& item : request.items) {
      thread.state.last = thread.state.last.next();
      thread.events.push_back({run.epoch, item.event});
      run.events.push_back(item.event);
      NoteRun(thread, item);
      result.items.push_back({.outcome = log::AppendOutcome::kAppended,
                              .offset = thread.state.last,
                              .epoch = run.epoch});
    }
    for (log::Follower* follower : thread.followers) {
      thread.calls_back.push_back(
          [follower, id = thread.state.thread, run] { follower->OnAppended(id, run); });
    }
    thread.calls_back.push_back([done, result] { done(result); });
  }

  static void NoteRun(Thread& thread, const log::AppendItem& item) {
    if (item.run_step == log::RunStep::kStart) {
      thread.state.runs.push_back(
          {.run_id = item.run_id, .agent_name = item.agent_name, .start = thread.state.last});
    } else if (item.run_step == log::RunStep::kStop) {
      for (auto& run : thread.state.runs) {
        if (run.run_id == item.run_id) run.end = thread.state.last;
      }
    }
  }

  log::OwnerWatcher* owners_ = nullptr;  // before the first call
  Mutex mutex_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  std::map<ThreadId, Thread> threads_ ABSL_GUARDED_BY(mutex_);
  absl::Status fail_follow_ ABSL_GUARDED_BY(mutex_);
  absl::Status fail_read_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_epoch_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t acks_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace clarion::delivery
