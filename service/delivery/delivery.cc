#include "service/delivery/delivery.h"

#include <algorithm>
#include <utility>

#include "proto/contract/error.h"
#include "proto/contract/timestamp.h"
#include "service/delivery/core.h"
#include "telemetry/log.h"

namespace clarion::delivery {
namespace {

constexpr size_t kMaxListed = 10'000;
// Connections written out under one hold of the lock.
constexpr size_t kDescribedAtOnce = 256;
constexpr std::chrono::seconds kRetryDelay{1};

// Owns the core, which sessions, timers and the log's callbacks keep alive as long as they need it.
class DeliveryHandle final : public Delivery {
 public:
  explicit DeliveryHandle(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  ~DeliveryHandle() override { core_->Stop(); }

  std::shared_ptr<link::GatewaySession> OnAttached(
      std::shared_ptr<link::Attachment> attachment) override {
    return core_->OnAttached(std::move(attachment));
  }
  void ReadPage(v1::ReadPageRequest request, link::PageCallback done) override {
    core_->ReadPage(std::move(request), std::move(done));
  }
  void Ask(v1::AskRequest request, link::AskCallback done) override {
    core_->Ask(std::move(request), std::move(done));
  }
  uint32_t Subscriptions(const ThreadId& thread) const override {
    return core_->Subscriptions(thread);
  }
  std::unique_ptr<Cancellation> AwaitReady(
      const UserId& user, const ThreadId& thread, v1::Readiness wanted,
      std::chrono::nanoseconds timeout,
      std::function<void(absl::StatusOr<ReadyState>)> done) override {
    return core_->AwaitReady(user, thread, wanted, timeout, std::move(done));
  }
  std::unique_ptr<Cancellation> AwaitReceipt(const ThreadId& thread, const Position& position,
                                             v1::WaitFor wanted, std::chrono::nanoseconds timeout,
                                             std::function<void(v1::WaitOutcome)> done) override {
    return core_->AwaitReceipt(thread, position, wanted, timeout, std::move(done));
  }
  Milestones MilestonesOf(const ThreadId& thread, const Position& event) const override {
    return core_->MilestonesOf(thread, event);
  }
  std::unique_ptr<Cancellation> WatchReceipts(const ThreadId& thread,
                                              std::shared_ptr<ReceiptWatcher> watcher) override {
    return core_->WatchReceipts(thread, std::move(watcher));
  }
  void BindThread(const UserId& user, const ThreadId& thread, std::chrono::nanoseconds timeout,
                  std::function<void(std::vector<v1::BoundConnection>)> done) override {
    core_->BindThread(user, thread, timeout, std::move(done));
  }
  std::vector<v1::Connection> GetConnections(const UserId& user, const ThreadId& thread,
                                             bool include_gone) const override {
    return core_->GetConnections(user, thread, include_gone);
  }
  std::unique_ptr<Cancellation> WatchConnections(
      const UserId& user, const ThreadId& thread,
      std::shared_ptr<ConnectionWatcher> watcher) override {
    return core_->WatchConnections(user, thread, std::move(watcher));
  }
  std::vector<GatewayInfo> Gateways() const override { return core_->Gateways(); }
  bool OpenCanary(const GatewayId& gateway, v1::OpenCanary canary,
                  std::function<void(v1::CanaryReport)> report) override {
    return core_->OpenCanary(gateway, std::move(canary), std::move(report));
  }
  void Stop() override { core_->Stop(); }

 private:
  const std::shared_ptr<Core> core_;
};

}  // namespace

absl::Status Stopping() {
  return MakeError(Reason::kNotInitialized, "the service is stopping");
}

std::unique_ptr<Delivery> Delivery::Create(Options options, log::Log* log, Scheduler* scheduler) {
  auto core = std::make_shared<Core>(std::move(options), log, scheduler);
  log->WatchOwners(core.get());
  return std::make_unique<DeliveryHandle>(std::move(core));
}

Core::Core(Options options, log::Log* log, Scheduler* scheduler)
    : options_(std::move(options)),
      log_(log),
      scheduler_(scheduler),
      page_turns_({.at_once = options_.pages_at_once, .threads = options_.page_threads}),
      registry_({.connections_per_user = options_.connections_per_user,
                 .memory = options_.connection_memory,
                 .memory_entries = options_.connection_memory_entries},
                scheduler),
      readiness_(scheduler),
      binding_(scheduler),
      passing_({.calls = options_.passing_frames}, scheduler),
      receipts_(scheduler),
      progress_(options_.remembered_threads) {
  resting_.over = true;
  resting_.at_rest = true;
}

uint32_t Core::Subscriptions(const ThreadId& id) const {
  MutexLock lock(mutex_);
  const Followed* thread = FindThread(id);
  return thread == nullptr ? 0 : thread->confirmed;
}

ReadyFacts Core::FactsOf(const UserId& user, const ThreadId& id) const {
  const Followed* thread = FindThread(id);
  const bool owned = thread != nullptr && thread->state().owner == user;
  return {.connections = registry_.OpenConnections(user),
          .subscriptions = owned ? thread->confirmed : 0};
}

void Core::TellWaiters(const UserId& user, const ThreadId* thread, Deferred& after) {
  const auto facts = [&](const ThreadId& id) {
    mutex_.AssertHeld();
    return FactsOf(user, id);
  };
  readiness_.Changed(user, thread, facts, after);
  if (thread != nullptr && readiness_.WantsProof(user, *thread)) ProbePages(user, *thread);
}

std::unique_ptr<Cancellation> Core::AwaitReady(
    const UserId& user, const ThreadId& thread, v1::Readiness wanted,
    std::chrono::nanoseconds timeout, std::function<void(absl::StatusOr<ReadyState>)> done) {
  auto waiter = std::make_shared<Waiter>();
  waiter->user = user;
  waiter->thread = thread;
  waiter->wanted = wanted;
  waiter->done = std::move(done);
  Deferred after;
  MutexLock lock(mutex_);
  const ReadyFacts facts = FactsOf(user, thread);
  const bool reached = facts.ready() && wanted == v1::READINESS_SUBSCRIBED;
  readiness_.Note(*waiter, facts);
  if (stopped_) {
    readiness_.End(waiter, Stopping(), after);
  } else if (reached || timeout <= std::chrono::nanoseconds::zero()) {
    readiness_.Answer(waiter, after);
  } else {
    readiness_.Add(waiter);
    if (wanted == v1::READINESS_VERIFIED) ProbePages(user, thread);
    waiter->timer = After(timeout, [waiter](Core& core, Deferred& later) {
      core.mutex_.AssertHeld();
      core.readiness_.Answer(waiter, later);
    });
  }
  return std::make_unique<CoreCancellation<Waiter>>(shared_from_this(), waiter);
}

void Core::Cancel(const std::shared_ptr<Waiter>& waiter) {
  waiter->gate.Shut();
  std::function<void(absl::StatusOr<ReadyState>)> dropped;  // destroyed without the lock
  MutexLock lock(mutex_);
  dropped.swap(waiter->done);
  if (std::exchange(waiter->answered, true)) return;
  readiness_.Remove(waiter);
  scheduler_->Cancel(waiter->timer);
}

void Core::BindThread(const UserId& user, const ThreadId& thread, std::chrono::nanoseconds timeout,
                      std::function<void(std::vector<v1::BoundConnection>)> done) {
  auto call = std::make_shared<BindCall>();
  call->done = std::move(done);
  Deferred after;
  MutexLock lock(mutex_);
  for (Connection* connection : registry_.OpenOf(user)) {
    if (Follows(*connection, thread)) {
      Binding::Know(*call, *connection, v1::BIND_OUTCOME_CONFIRMED);
    } else {
      // At rest it is said when it polls again.
      SayBind(*connection, binding_.Ask(call, *connection, thread), thread, false);
    }
  }
  if (call->unanswered == 0 || timeout <= std::chrono::nanoseconds::zero()) {
    return binding_.Answer(call, after);
  }
  call->timer = After(timeout, [call](Core& core, Deferred& later) {
    core.mutex_.AssertHeld();
    core.binding_.Answer(call, later);
  });
}

void Core::SayBind(Connection& connection, uint64_t bind_id, const ThreadId& thread, bool all) {
  v1::ServiceMessage message;
  v1::Bind& bind = *message.mutable_bind();
  bind.set_bind_id(bind_id);
  bind.set_connection_id(connection.id.str());
  bind.set_thread_id(thread.str());
  bind.set_all(all);
  connection.attached->Say(std::move(message));
}

std::vector<v1::Connection> Core::GetConnections(const UserId& user, const ThreadId& thread,
                                                 bool include_gone) const {
  // A part at a time: commits wait for this lock.
  const std::vector<ConnectionId> ids = FindConnections(user, thread, include_gone);
  std::vector<v1::Connection> out;
  out.reserve(ids.size());
  for (size_t next = 0; next < ids.size();) {
    const size_t end = std::min(ids.size(), next + kDescribedAtOnce);
    MutexLock lock(mutex_);
    for (; next < end; ++next) {
      const Connection* connection = registry_.Find(ids[next]);
      if (connection == nullptr || (!include_gone && !connection->open())) continue;
      out.push_back(Describe(*connection));
    }
  }
  return out;
}

std::vector<ConnectionId> Core::FindConnections(const UserId& user, const ThreadId& thread,
                                                bool include_gone) const {
  if (user.empty() && thread.empty()) return {};
  MutexLock lock(mutex_);
  const Scheduler::Steady oldest = scheduler_->now() - options_.connection_memory;
  std::vector<const Connection*> found;
  const auto look = [&](const Connection& connection) {
    if (IsCanary(connection.user)) return;
    if (!thread.empty() && !Follows(connection, thread)) return;
    if (!connection.open() && (!include_gone || connection.gone_at < oldest)) return;
    found.push_back(&connection);
  };
  if (!user.empty()) {
    const User* record = registry_.FindUser(user);
    if (record == nullptr) return {};
    for (const auto& [sequence, connection] : record->connections) look(*connection);
  } else if (include_gone) {
    registry_.ForEach(look);
  } else if (const Followed* followed = FindThread(thread); followed != nullptr) {
    for (const Subscription* subscription : followed->started()) {
      if (subscription->confirmed) look(*subscription->connection);
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Connection* a, const Connection* b) { return a->sequence < b->sequence; });
  found.erase(std::unique(found.begin(), found.end()), found.end());
  if (found.size() > kMaxListed) found.resize(kMaxListed);
  std::vector<ConnectionId> ids;
  ids.reserve(found.size());
  for (const Connection* connection : found) ids.push_back(connection->id);
  return ids;
}

std::unique_ptr<Cancellation> Core::WatchConnections(const UserId& user, const ThreadId& thread,
                                                     std::shared_ptr<ConnectionWatcher> watcher) {
  auto watch = std::make_shared<Watch>(user, thread, std::move(watcher), options_.watch_queue);
  Deferred after;
  after.Add([watch] { watch->Drain(); });
  MutexLock lock(mutex_);
  const auto look = [&](const Connection& connection) {
    if (!connection.open() || IsCanary(connection.user)) return;
    if (!thread.empty() && !Follows(connection, thread)) return;
    watch->OfferSnapshot(Describe(connection));
  };
  if (!user.empty()) {
    for (const Connection* connection : registry_.OpenOf(user)) look(*connection);
  } else if (const Followed* followed = FindThread(thread); followed != nullptr) {
    std::map<uint64_t, const Connection*> ordered;
    for (const Subscription* subscription : followed->started()) {
      ordered.emplace(subscription->connection->sequence, subscription->connection);
    }
    for (const auto& [sequence, connection] : ordered) look(*connection);
  }
  if (stopped_) {
    watch->End(Stopping());
  } else {
    watchers_.Add(watch);
  }
  return std::make_unique<CoreCancellation<Watch>>(shared_from_this(), watch);
}

void Core::Cancel(const std::shared_ptr<Watch>& watch) {
  watch->Cancel();
  MutexLock lock(mutex_);
  watchers_.Remove(watch);
}

std::vector<GatewayInfo> Core::Gateways() const {
  MutexLock lock(mutex_);
  std::vector<GatewayInfo> out;
  for (const auto& [id, attached] : gateways_) {
    const auto people =
        std::count_if(attached->connections.begin(), attached->connections.end(),
                      [](const auto& entry) { return !IsCanary(entry.second->user); });
    out.push_back({.id = id, .connections = static_cast<size_t>(people)});
  }
  return out;
}

bool Core::OpenCanary(const GatewayId& gateway, v1::OpenCanary canary,
                      std::function<void(v1::CanaryReport)> report) {
  MutexLock lock(mutex_);
  const auto found = gateways_.find(gateway);
  if (found == gateways_.end()) return false;
  const std::pair key(gateway, canary.check_id());
  const uint64_t generation = ++last_canary_;
  canaries_[key] = {
      .report = std::make_shared<std::function<void(v1::CanaryReport)>>(std::move(report)),
      .generation = generation};
  const auto left = std::chrono::seconds(canary.life().seconds()) +
                    std::chrono::nanoseconds(canary.life().nanos());
  After(left, [key, generation](Core& core, Deferred&) {
    core.mutex_.AssertHeld();
    const auto check = core.canaries_.find(key);
    if (check != core.canaries_.end() && check->second.generation == generation) {
      core.canaries_.erase(check);
    }
  });
  v1::ServiceMessage message;
  *message.mutable_open_canary() = std::move(canary);
  found->second->Say(std::move(message));
  return true;
}

Scheduler::TimerId Core::After(std::chrono::nanoseconds time,
                               std::function<void(Core&, Deferred&)> then) {
  return scheduler_->After(time, [core = weak_from_this(), then = std::move(then)] {
    const std::shared_ptr<Core> self = core.lock();
    if (self == nullptr) return;
    Deferred after;
    MutexLock lock(self->mutex_);
    then(*self, after);
  });
}

void Core::Retry(std::function<void(Core&)> then) {
  scheduler_->After(kRetryDelay, [core = weak_from_this(), then = std::move(then)] {
    if (const std::shared_ptr<Core> self = core.lock(); self != nullptr) then(*self);
  });
}

void Core::Stop() {
  Deferred after;
  MutexLock lock(mutex_);
  if (stopped_) return;
  const absl::Status status = Stopping();
  std::vector<std::shared_ptr<Attached>> attachments = strangers_;
  for (const auto& [id, attached] : gateways_) attachments.push_back(attached);
  for (const auto& attached : attachments) {
    Forsake(*attached, after);  // unfollows what nobody follows any more
    after.Add([carrier = attached->carrier, status] { carrier->Close(status); });
  }
  while (!resting_.connections.empty()) {
    CloseConnection(*resting_.connections.begin()->second, v1::CONNECTION_STATE_DISCONNECTED,
                    NameOf(Reason::kNotInitialized), after);
  }
  stopped_ = true;  // from here on the log is not asked any more
  readiness_.EndAll(status, after);
  binding_.AnswerAll(after);
  watchers_.EndAll(status, after);
  receipts_.EndAll(status, after);
  passing_.EndAll(status, after);
  after.Add([this] { page_turns_.Stop(); });
  canaries_.clear();
}

}  // namespace clarion::delivery
