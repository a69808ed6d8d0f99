#include "service/runs/supervisor.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/container/node_hash_map.h"
#include "proto/base/mutex.h"
#include "proto/base/text.h"
#include "service/runs/start_run.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace clarion::runs {
namespace {

using std::chrono::milliseconds;
using Time = Scheduler::Steady;

// Leases that would be over within so long are looked at together.
constexpr milliseconds kTick{100};
// A timer that is later than this says that the process stood still: producers could not be heard.
constexpr milliseconds kStoodStill{2'000};
// The wall clock was set if it and the steady clock differ by more than before.
constexpr milliseconds kClockWasSet{1'000};
// After a failure of the log.
constexpr milliseconds kFirstRetry{500};
constexpr milliseconds kLastRetry{30'000};
constexpr size_t kThreadsAPage = 500;
constexpr std::string_view kReservedUser = "_clarion";

struct RunKey {
  ThreadId thread;
  RunId run;
  friend bool operator==(const RunKey&, const RunKey&) = default;
  template <class H>
  friend H AbslHashValue(H h, const RunKey& key) {
    return H::combine(std::move(h), key.thread.str(), key.run.str());
  }
};

struct Lease {
  milliseconds duration{0};
  // When it began, as far as is known without the log.
  Time renewed;
  RunId parent;
  // When it is looked at next; not while somebody is at it.
  Time due;
  // It is looked at, or being ended: not in the queue.
  bool busy = false;
  // Nothing but an end is waited for: its parent has ended.
  bool orphan = false;
  milliseconds retry{0};
};

// For somebody: it has no lease.
bool WaitsForever(const log::RunRecord& run) {
  return run.suspended && run.suspended_until == log::WallTime{};
}

class Impl final : public Supervisor, public std::enable_shared_from_this<Impl> {
 public:
  Impl(const SupervisorOptions& options, const LostRunSteps& steps, Scheduler* scheduler,
       Gate* gate)
      : options_(options),
        steps_(steps),
        scheduler_(scheduler),
        gate_(gate),
        wall_offset_(WallOffset()),
        lost_(GetCounter("clarion_runs_lost_total",
                         "Runs that the service ended because their lease was over")),
        open_(GetGauge("clarion_run_leases", "Runs that are supervised")) {}

  void Start() override { Scan({}); }

  void Stop() override {
    MutexLock lock(mutex_);
    stopped_ = true;
    if (timer_ != 0) scheduler_->Cancel(std::exchange(timer_, 0));
  }

  void OnRun(const ThreadId& thread, const log::RunRecord& run) override {
    MutexLock lock(mutex_);
    const RunKey key{thread, run.run_id};
    if (run.end != Offset{}) {
      Ended(key);
    } else if (WaitsForever(run)) {
      Forget(key);
    } else {
      Watch(key, run).renewed = scheduler_->now();
    }
    Arm();
  }

  std::optional<milliseconds> Renew(const ThreadId& thread, const log::RunRecord& run) override {
    MutexLock lock(mutex_);
    const RunKey key{thread, run.run_id};
    if (ending_.contains(key)) return std::nullopt;
    if (WaitsForever(run)) return milliseconds(0);
    Lease& lease = Watch(key, run);
    lease.renewed = scheduler_->now();
    Arm();
    return lease.duration;
  }

  size_t size() const override {
    MutexLock lock(mutex_);
    return leases_.size();
  }

 private:
  // ---- Leases ----

  Lease& Watch(const RunKey& key, const log::RunRecord& run) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto [entry, added] = leases_.try_emplace(key);
    Lease& lease = entry->second;
    if (!added) return lease;
    lease.duration = LeaseOf(run.data).value_or(options_.lease);
    lease.renewed = scheduler_->now();
    lease.parent = run.parent;
    if (!run.parent.empty()) children_[RunKey{key.thread, run.parent}].insert(key);
    Enqueue(entry->first, lease, lease.renewed + lease.duration);
    open_.Set(static_cast<int64_t>(leases_.size()));
    return lease;
  }

  // `key`: that of the map. It may be in the queue already.
  void Enqueue(const RunKey& key, Lease& lease, Time due) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    queue_.erase({lease.due, &key});
    lease.due = due;
    lease.busy = false;
    queue_.emplace(due, &key);
  }

  void Orphan(const RunKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = leases_.find(key);
    if (found == leases_.end()) return;
    found->second.orphan = true;
    // Whoever is at it sees that.
    if (!found->second.busy) Enqueue(found->first, found->second, scheduler_->now());
  }

  // The run is over. Its open children are next. `key` may be that of the map.
  void Ended(RunKey key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Forget(key);
    const auto children = children_.extract(key);
    if (children.empty()) return;
    for (const RunKey& child : children.mapped()) Orphan(child);
  }

  void Forget(const RunKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = leases_.find(key);
    if (found == leases_.end()) return;
    const Lease& lease = found->second;
    queue_.erase({lease.due, &found->first});
    if (!lease.parent.empty()) {
      const auto siblings = children_.find(RunKey{key.thread, lease.parent});
      if (siblings != children_.end()) {
        siblings->second.erase(key);
        if (siblings->second.empty()) children_.erase(siblings);
      }
    }
    leases_.erase(found);
    open_.Set(static_cast<int64_t>(leases_.size()));
  }

  // ---- Time ----

  void Arm() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (stopped_ || queue_.empty() || looks_ >= options_.looks_at_once) return;
    const Time due = queue_.begin()->first;
    if (timer_ != 0) {
      if (due >= timer_due_) return;
      scheduler_->Cancel(timer_);
    }
    const Time now = scheduler_->now();
    timer_due_ = std::max(due, now + (due <= now ? milliseconds(0) : kTick));
    timer_ = scheduler_->After(timer_due_ - now, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->OnTimer();
    });
  }

  void OnTimer() {
    std::vector<RunKey> due;
    {
      MutexLock lock(mutex_);
      timer_ = 0;
      if (stopped_) return;
      const Time now = scheduler_->now();
      if (now - timer_due_ > kStoodStill || ClockWasSet()) RenewAll(now);
      while (!queue_.empty() && queue_.begin()->first <= now && looks_ < options_.looks_at_once) {
        due.push_back(*queue_.begin()->second);
        queue_.erase(queue_.begin());
        leases_.at(due.back()).busy = true;
        ++looks_;
      }
      Arm();
    }
    for (const RunKey& key : due) Look(key);
  }

  void RenewAll(Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Log(Severity::kWarning,
        "the process stood still or its clock was set: leases of runs begin in full",
        {{"runs", Concat(leases_.size())}});
    queue_.clear();
    for (auto& [key, lease] : leases_) {
      lease.renewed = now;
      if (!lease.busy) Enqueue(key, lease, lease.orphan ? now : now + lease.duration);
    }
  }

  milliseconds WallOffset() const {
    return std::chrono::duration_cast<milliseconds>(scheduler_->wall_now().time_since_epoch() -
                                                    scheduler_->now().time_since_epoch());
  }

  bool ClockWasSet() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const milliseconds offset = WallOffset();
    const milliseconds by = std::chrono::abs(offset - std::exchange(wall_offset_, offset));
    return by > kClockWasSet;
  }

  // ---- Looking ----

  void Look(const RunKey& key) {
    steps_.log->FindRun(
        key.thread, key.run,
        [self = shared_from_this(), pass = Gate::Pass(*gate_),
         key](absl::StatusOr<log::ThreadState> state) { self->OnFound(key, std::move(state)); });
  }

  void OnFound(const RunKey& key, absl::StatusOr<log::ThreadState> state) {
    bool end = false;
    WhyEnded why = WhyEnded::kLost;
    milliseconds silent{0};
    {
      MutexLock lock(mutex_);
      --looks_;
      const auto found = leases_.find(key);
      if (found == leases_.end()) {
        Arm();
        return;  // it ended meanwhile
      }
      Lease& lease = found->second;
      if (!state.ok()) {
        Failed(found->first, lease, state.status());
      } else if (state->runs.empty() || state->runs.front().end != Offset{}) {
        Ended(key);
      } else {
        const log::RunRecord& run = state->runs.front();
        lease.retry = {};
        why = lease.orphan ? WhyEnded::kParentEnded : WhyEnded::kLost;
        end = IsOver(found->first, lease, run, &silent);
      }
      if (end) ending_.insert(key);
      Arm();
    }
    if (end) End(key, *std::move(state), why, silent);
  }

  // Otherwise it is in the queue again, or forgotten.
  bool IsOver(const RunKey& key, Lease& lease, const log::RunRecord& run, milliseconds* silent)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (lease.orphan) return true;
    const Time now = scheduler_->now();
    Time heard = std::max(lease.renewed, SteadyOf(run.last_at));
    if (WaitsForever(run)) {
      Forget(key);
      return false;
    }
    if (run.suspended) heard = std::max(heard, SteadyOf(run.suspended_until));
    *silent = std::chrono::duration_cast<milliseconds>(now - heard);
    if (*silent >= lease.duration) return true;
    Enqueue(key, lease, heard + lease.duration);
    return false;
  }

  // The clocks were not set since they were compared last, or all leases begin anew.
  Time SteadyOf(log::WallTime time) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return Time(std::chrono::duration_cast<Time::duration>(time.time_since_epoch() - wall_offset_));
  }

  void Failed(const RunKey& key, Lease& lease, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    LogFailure(WithContext(
        status, {.thread_id = key.thread.str(), .run_id = key.run.str(), .operation = "EndRun"}));
    lease.retry = std::clamp(lease.retry * 2, kFirstRetry, kLastRetry);
    Enqueue(key, lease, scheduler_->now() + lease.retry);
  }

  // ---- Ending ----

  void End(const RunKey& key, log::ThreadState state, WhyEnded why, milliseconds silent) {
    {
      MutexLock lock(mutex_);
      if (ends_ >= options_.ends_at_once) {
        waiting_.push_back({key, std::move(state), why, silent});
        return;
      }
      ++ends_;
    }
    BeginEnd({key, std::move(state), why, silent});
  }

  struct Waiting {
    RunKey key;
    log::ThreadState state;
    WhyEnded why;
    milliseconds silent;
  };

  void BeginEnd(Waiting end) {
    EndRun(steps_, std::move(end.state), end.why, end.silent,
           [self = shared_from_this(), pass = Gate::Pass(*gate_), key = end.key, why = end.why,
            silent = end.silent](absl::StatusOr<bool> ended) {
             self->OnEnd(key, why, silent, std::move(ended));
           });
  }

  void OnEnd(const RunKey& key, WhyEnded why, milliseconds silent, absl::StatusOr<bool> ended) {
    std::optional<Waiting> next;
    {
      MutexLock lock(mutex_);
      ending_.erase(key);
      const auto found = leases_.find(key);
      if (found != leases_.end()) {
        Lease& lease = found->second;
        if (!ended.ok()) {
          Failed(found->first, lease, ended.status());
        } else if (*ended) {
          Ended(key);
        } else {
          Enqueue(found->first, lease, scheduler_->now());  // it moved: when, the log says
        }
      }
      if (ended.ok() && *ended && why == WhyEnded::kLost) lost_.Add();
      if (!waiting_.empty() && !stopped_) {
        next.emplace(std::move(waiting_.front()));
        waiting_.erase(waiting_.begin());
      } else {
        --ends_;
      }
      Arm();
    }
    if (ended.ok() && *ended) {
      Log(Severity::kWarning,
          why == WhyEnded::kLost ? "a run was ended: its lease was over"
                                 : "a run was ended: its parent has ended",
          {{"thread_id", key.thread.str()},
           {"run_id", key.run.str()},
           {"silent_ms", Concat(silent.count())}});
    }
    if (next) BeginEnd(*std::move(next));
  }

  // ---- After a start ----

  void Scan(const std::string& page_token) {
    steps_.log->ListThreads(
        {}, page_token, kThreadsAPage,
        [self = shared_from_this(), pass = Gate::Pass(*gate_), page_token](
            absl::StatusOr<log::ThreadPage> page) { self->OnPage(page_token, std::move(page)); });
  }

  void OnPage(const std::string& page_token, absl::StatusOr<log::ThreadPage> page) {
    std::vector<std::pair<RunKey, RunId>> unsure;
    {
      MutexLock lock(mutex_);
      if (stopped_) return;
      if (!page.ok()) {
        LogFailure(WithContext(page.status(), {.operation = "EndRun"}));
        scheduler_->After(kFirstRetry, [weak = weak_from_this(), page_token] {
          if (const auto self = weak.lock()) self->Scan(page_token);
        });
        return;
      }
      for (const log::ThreadState& thread : page->threads) {
        if (thread.owner.str() != kReservedUser) Found(thread, unsure);
      }
      Arm();
    }
    for (const auto& [child, parent] : unsure) AskForParent(child, parent);
    if (!page->next_page_token.empty()) Scan(page->next_page_token);
  }

  // `unsure`: those whose parent is not among the open runs.
  void Found(const log::ThreadState& thread, std::vector<std::pair<RunKey, RunId>>& unsure)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const log::RunRecord& run : thread.runs) {
      if (WaitsForever(run)) continue;
      const RunKey key{thread.thread, run.run_id};
      Watch(key, run);
      const bool parent_open =
          std::any_of(thread.runs.begin(), thread.runs.end(),
                      [&](const log::RunRecord& other) { return other.run_id == run.parent; });
      if (!run.parent.empty() && !parent_open) unsure.emplace_back(key, run.parent);
    }
  }

  // A parent that ended without its children: the service was killed between the two. One that the
  // thread does not keep is no reason to end anything.
  void AskForParent(const RunKey& child, const RunId& parent) {
    steps_.log->FindRun(
        child.thread, parent,
        [self = shared_from_this(), pass = Gate::Pass(*gate_),
         child](const absl::StatusOr<log::ThreadState>& state) {
          // Without an answer the child's own lease is what ends it.
          if (!state.ok() || state->runs.empty() || state->runs.front().end == Offset{}) return;
          MutexLock lock(self->mutex_);
          self->Orphan(child);
          self->Arm();
        });
  }

  const SupervisorOptions options_;
  const LostRunSteps steps_;
  Scheduler* const scheduler_;
  Gate* const gate_;

  mutable Mutex mutex_;
  absl::node_hash_map<RunKey, Lease> leases_ ABSL_GUARDED_BY(mutex_);
  // By when they are looked at next; the keys are those of leases_.
  std::set<std::pair<Time, const RunKey*>> queue_ ABSL_GUARDED_BY(mutex_);
  // Of a parent, the runs with a lease.
  absl::node_hash_map<RunKey, absl::flat_hash_set<RunKey>> children_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<RunKey> ending_ ABSL_GUARDED_BY(mutex_);
  std::vector<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t looks_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t ends_ ABSL_GUARDED_BY(mutex_) = 0;
  Scheduler::TimerId timer_ ABSL_GUARDED_BY(mutex_) = 0;
  Time timer_due_ ABSL_GUARDED_BY(mutex_);
  milliseconds wall_offset_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  Counter& lost_;
  Gauge& open_;
};

}  // namespace

std::shared_ptr<Supervisor> Supervisor::Create(const SupervisorOptions& options,
                                               const LostRunSteps& steps, Scheduler* scheduler,
                                               Gate* gate) {
  return std::make_shared<Impl>(options, steps, scheduler, gate);
}

}  // namespace clarion::runs
