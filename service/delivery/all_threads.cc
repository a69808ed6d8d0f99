// `subscribe` {all}: every thread of the connection's user is bound to it, those there are and
// those that come.
#include <algorithm>
#include <utility>

#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "proto/contract/limits.h"
#include "service/delivery/core.h"
#include "telemetry/log.h"

namespace clarion::delivery {
namespace {

constexpr size_t kPage = 500;

}  // namespace

void Core::SubscribeAll(Attached& attached, const v1::SubscribeAll& all, Deferred& after) {
  const ConnectionId id(all.connection_id());
  const auto found = attached.connections.find(id);
  const bool known = found != attached.connections.end();
  if (!all.on()) {
    if (known) found->second->all.reset();
    return;
  }
  v1::ServiceMessage answer;
  v1::AllSubscribed& subscribed = *answer.mutable_all_subscribed();
  subscribed.set_subscription_id(all.subscription_id());
  if (!known) {
    const absl::Status status = NoConnection(attached, id);
    subscribed.set_reason(std::string(NameOf(*ReasonOf(status))));
    subscribed.set_message(std::string(status.message()));
  }
  attached.Say(std::move(answer));
  if (!known) return;
  Connection& connection = *found->second;
  if (connection.all != nullptr) {
    connection.all->subscription = all.subscription_id();
    if (connection.all->listed) SayListed(connection);
    return;
  }
  connection.all = std::make_unique<AllThreads>();
  connection.all->subscription = all.subscription_id();
  connection.all->generation = ++last_all_generation_;
  if (connection.polling != nullptr) {
    // Its page names these in each poll, and no more than it may name.
    for (const Subscription* subscription : connection.subscriptions) {
      if (!subscription->resting()) connection.all->bound.insert(subscription->thread->id());
    }
  }
  after.Add([core = shared_from_this(), id = connection.id, user = connection.user,
             generation = connection.all->generation] { core->ListAll(id, user, generation, {}); });
}

void Core::ListAll(const ConnectionId& id, const UserId& user, uint64_t generation,
                   const ThreadId& after) {
  log_->ListThreadIds(user, after, kPage,
                      [core = shared_from_this(), id, user, generation,
                       after](absl::StatusOr<std::vector<ThreadId>> page) {
                        core->OnListed(id, user, generation, after, std::move(page));
                      });
}

void Core::OnListed(const ConnectionId& id, const UserId& user, uint64_t generation,
                    const ThreadId& after, absl::StatusOr<std::vector<ThreadId>> page) {
  Deferred then;
  MutexLock lock(mutex_);
  Connection* connection = registry_.Find(id);
  if (connection == nullptr || connection->all == nullptr || stopped_) return;
  if (connection->all->generation != generation) return;
  if (!page.ok()) {
    LogFailure(WithContext(page.status(), {.user_id = user.str(), .operation = "subscribe"}));
    return Retry(
        [id, user, generation, after](Core& core) { core.ListAll(id, user, generation, after); });
  }
  for (const ThreadId& thread : *page) BindAll(*connection, thread);
  if (page->size() < kPage || connection->all->full) {
    connection->all->listed = true;
    return SayListed(*connection);
  }
  then.Add([core = shared_from_this(), id, user, generation, last = page->back()] {
    core->ListAll(id, user, generation, last);
  });
}

void Core::SayListed(const Connection& connection) {
  v1::ServiceMessage message;
  message.mutable_all_subscribed()->set_subscription_id(connection.all->subscription);
  connection.attached->Say(std::move(message));
}

void Core::BindAll(Connection& connection, const ThreadId& thread) {
  AllThreads& all = *connection.all;
  if (all.bound.contains(thread)) return;
  const size_t most = connection.polling != nullptr ? std::min(options_.all_threads, kMaxPositions)
                                                    : options_.all_threads;
  if (all.bound.size() >= most) {
    if (std::exchange(all.full, true)) return;
    if (connection.polling != nullptr && connection.polling->limit_told) return;
    const std::string text =
        Concat("subscribe {all} follows ", most, " threads and no more; the user has more, ",
               thread.str(), " is the first of them");
    LogFailure(MakeError(
        Reason::kRateLimited, text,
        {.user_id = connection.user.str(), .thread_id = thread.str(), .operation = "subscribe"}));
    v1::ServiceMessage message;
    v1::AllLimited& limited = *message.mutable_all_limited();
    limited.set_connection_id(connection.id.str());
    limited.set_thread_id(thread.str());
    limited.set_message(text);
    connection.attached->Say(std::move(message));
    return;
  }
  all.bound.insert(thread);
  SayBind(connection, binding_.NextId(), thread, true);
}

}  // namespace clarion::delivery
