// The hub: what browsers ask for, frame by frame.
#include <algorithm>
#include <utility>

#include "gateway/hub/hub_impl.h"
#include "proto/contract/ids.h"

namespace clarion::gateway {
namespace {

// `subscribe` frames for one thread that wait for the answer to the first.
constexpr size_t kMaxLater = 8;
// Questions that wait for the service, all connections together.
constexpr size_t kMaxQueries = 100'000;

Position FromProto(const v1::Position& position) {
  return {Epoch(position.epoch()), Offset(position.offset())};
}

bool WantsFull(const v1::Subscribe& subscribe) {
  return subscribe.history() == v1::HISTORY_FULL;
}

}  // namespace

void HubImpl::Subscribe(Subscriber* subscriber, const v1::Subscribe& subscribe,
                        const std::string& request_id) {
  HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return;
  const std::string& thread = subscribe.thread_id();
  if (subscribe.all()) return SubscribeAll(*connection, subscribe, request_id);
  StartAt start{.from = subscribe.from()};
  if (subscribe.has_after()) start.after = FromProto(subscribe.after());

  Subscription* existing = FindSubscription(*connection, thread);
  const bool counts = existing == nullptr || existing->by_all;
  if (counts && connection->counted >= options_.subscriptions_per_connection) {
    return SendError(subscriber, Reason::kRateLimited,
                     {"the connection holds as many subscriptions as it may", request_id, thread});
  }
  if (existing == nullptr && connection->names_no_more()) {
    return SendError(subscriber, Reason::kRateLimited,
                     {"a connection that polls follows 1,024 threads at most", request_id, thread});
  }
  if (existing != nullptr) {
    if (std::exchange(existing->by_all, false)) ++connection->counted;
    existing->full = WantsFull(subscribe);
    SubscribeAgain(*existing, request_id, std::move(start));
  } else {
    Subscription& subscription = AddSubscription(*connection, thread, /*by_all=*/false);
    subscription.full = WantsFull(subscribe);
    subscription.request->id = request_id;
    subscription.request->start = std::move(start);
    AwaitAnswer(subscription.id);
    SaySubscribe(subscription);
  }
  puller_.Pump();
}

void HubImpl::Resume(Subscriber* subscriber, const Resumption& resumption) {
  HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return;
  const std::string& thread = resumption.at.thread_id();
  if (FindSubscription(*connection, thread) != nullptr) return;  // said twice
  if (!resumption.by_all && connection->counted >= options_.subscriptions_per_connection) {
    return SendError(subscriber, Reason::kRateLimited,
                     {"the connection holds as many subscriptions as it may", {}, thread});
  }
  Subscription& subscription = AddSubscription(*connection, thread, resumption.by_all);
  subscription.full = resumption.full;
  subscription.heard = !connection->info.unseen;
  subscription.request->resumed = true;
  subscription.request->start.after =
      Position{Epoch(resumption.at.epoch()), Offset(resumption.at.offset())};
  AwaitAnswer(subscription.id);
  SaySubscribe(subscription);
}

void HubImpl::ResumeAll(Subscriber* subscriber, bool full) {
  HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return;
  v1::Subscribe subscribe;
  subscribe.set_all(true);
  subscribe.set_history(full ? v1::HISTORY_FULL : v1::HISTORY_COMPACTED);
  SubscribeAll(*connection, subscribe, {});
  if (connection->all != nullptr) connection->all->resumed = true;
}

void HubImpl::SubscribeAgain(Subscription& subscription, std::string request_id, StartAt start) {
  Request* request = subscription.request.get();
  const Join::State state = subscription.join.state();
  const bool under_way = request != nullptr && !request->claim_told && !request->set_aside;
  if (under_way && state == Join::State::kWaiting) {
    if (request->later.size() >= kMaxLater) {
      return SendError(
          subscription.subscriber(), Reason::kRateLimited,
          {"this thread has unanswered subscribes", request_id, subscription.feed->thread().str()});
    }
    request->later.push_back({std::move(request_id), std::move(start)});
    return;
  }
  if (request != nullptr && request->set_aside && start.in_place() && !subscription.join.told()) {
    return AskAgain(subscription, std::move(request_id), std::move(request->start));
  }
  if (request != nullptr && request->claim_told && start.in_place()) {
    request->id = std::move(request_id);
    return OnClaim(subscription);
  }
  if (start.in_place() && subscription.join.running())
    return AskInPlace(subscription, std::move(request_id));
  AskAgain(subscription, std::move(request_id), std::move(start));
}

void HubImpl::AskInPlace(Subscription& subscription, std::string request_id) {
  if (queries_.size() >= kMaxQueries) {
    return SendError(
        subscription.subscriber(), Reason::kRateLimited,
        {"too many subscribes at once", request_id, subscription.feed->thread().str()});
  }
  const uint64_t id = ++last_subscription_;
  ++subscription.queries;
  queries_.emplace(id, Query{SubscriptionPtr(&subscription), std::move(request_id)});
  SayQuery(subscription, id);
}

void HubImpl::AskAgain(Subscription& subscription, std::string request_id, StartAt start) {
  sent_.Report({&subscription});
  Join& join = subscription.join;
  if (start.in_place() && join.told()) {
    start.after = Position{Epoch(join.position().epoch.str()), join.position().offset};
    // What it left out at its beginning is left out still.
    if (subscription.live) start.from = v1::START_FROM_LIVE;
  } else {
    subscription.began = Offset(0);
  }
  const std::unique_ptr<Request> former = std::move(subscription.request);
  const bool claim = former != nullptr && former->claim_told;
  subscription.request = std::make_unique<Request>();
  subscription.request->id = std::move(request_id);
  subscription.request->start = std::move(start);
  if (former != nullptr) subscription.request->later = std::move(former->later);

  const uint64_t old_id = Rename(subscription);
  subscription.page_pending = false;
  join.Ask();
  subscription.feed->OnStopped();
  AwaitAnswer(subscription.id);
  // A claim's slot is given back before another is taken; otherwise the old one stays until the new
  // one is confirmed.
  if (claim) {
    SayUnsubscribe(old_id);
  } else {
    subscription.request->replaces = old_id;
  }
  SaySubscribe(subscription);
}

uint64_t HubImpl::Rename(Subscription& subscription) {
  const SubscriptionPtr keep(&subscription);
  const uint64_t old_id = std::exchange(subscription.id, ++last_subscription_);
  subscriptions_.erase(old_id);
  EndRestore(old_id);
  subscriptions_.emplace(subscription.id, keep);
  return old_id;
}

void HubImpl::SubscribeAll(HubConnection& connection, const v1::Subscribe& subscribe,
                           const std::string& request_id) {
  if (connection.all == nullptr) {
    if (connection.counted >= options_.subscriptions_per_connection) {
      return SendError(connection.subscriber, Reason::kRateLimited,
                       {"the connection holds as many subscriptions as it may", request_id, {}});
    }
    ++connection.counted;
    connection.all = std::make_unique<AllThreads>();
  }
  if (connection.all->requests.size() >= kMaxLater) {
    return SendError(connection.subscriber, Reason::kRateLimited,
                     {"there are unanswered subscribes to all", request_id, {}});
  }
  for (const v1::ThreadPosition& position : subscribe.positions()) {
    if (FindSubscription(connection, position.thread_id()) != nullptr) continue;
    connection.all->positions.insert_or_assign(
        ThreadId(position.thread_id()),
        Position{Epoch(position.epoch()), Offset(position.offset())});
  }
  AllThreads& all = *connection.all;
  all.full = WantsFull(subscribe);
  all.requests.push_back(request_id);
  if (all.requests.size() > 1) return;  // the answer serves all who wait by then
  if (all.asked == 0) AskAll(connection);
  AwaitAnswer(all.asked);
}

void HubImpl::Unsubscribe(Subscriber* subscriber, const v1::Unsubscribe& unsubscribe,
                          const std::string& request_id) {
  HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return;
  if (unsubscribe.all()) {
    UnsubscribeAll(*connection);
  } else if (Subscription* subscription = FindSubscription(*connection, unsubscribe.thread_id())) {
    if (subscription->of_all) {
      // Its name is taken back: it goes on with all others.
      if (!std::exchange(subscription->by_all, true)) --connection->counted;
    } else {
      sent_.Report({subscription});
      SayUnsubscribe(subscription->id);
      Remove(*subscription);
    }
  }
  v1::ServerFrame frame;
  frame.set_id(request_id);
  frame.mutable_unsubscribed()->set_thread_id(unsubscribe.thread_id());
  frame.mutable_unsubscribed()->set_all(unsubscribe.all());
  subscriber->Send(Frames::OfMessage(subscriber->encoding(), frame), 0);
  puller_.Pump();
}

void HubImpl::UnsubscribeAll(HubConnection& connection) {
  if (connection.all == nullptr) return;
  all_asked_.erase(connection.all->asked);
  all_listing_.erase(connection.all->listing);
  EndRestore(connection.all->asked);
  connection.all.reset();
  --connection.counted;
  SaySubscribeAll(connection);
  const std::vector<Subscription*> subscriptions = connection.subscriptions;
  sent_.Report(subscriptions);
  for (Subscription* subscription : subscriptions) {
    subscription->of_all = false;
    if (!subscription->by_all) continue;
    SayUnsubscribe(subscription->id);
    Remove(*subscription);
  }
}

void HubImpl::EndAllWithError(HubConnection& connection, std::string_view code,
                              std::string_view message) {
  std::vector<std::string> requests = std::move(connection.all->requests);
  // Nobody asked just now: it was restored.
  if (requests.empty()) requests.emplace_back();
  UnsubscribeAll(connection);
  for (const std::string& id : requests) SendError(connection.subscriber, code, {message, id, {}});
}

void HubImpl::Ack(Subscriber* subscriber, const v1::Ack& ack, const std::string& request_id) {
  HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return;
  Subscription* subscription = FindSubscription(*connection, ack.thread_id());
  if (subscription == nullptr) {
    return SendError(subscriber, Reason::kNotFound,
                     {"the connection does not follow this thread", request_id, ack.thread_id()});
  }
  if (!connection->opened) {
    return SendError(
        subscriber, Reason::kGatewayUnavailable,
        {"the service cannot be reached; ack again later", request_id, ack.thread_id()});
  }
  if (subscription->request != nullptr && subscription->request->set_aside) {
    return SendError(
        subscriber, Reason::kLogUnavailable,
        {"the thread is not to be had for now; ack again later", request_id, ack.thread_id()});
  }
  if (connection->acks.size() >= options_.acks_per_connection || acks_.size() >= options_.acks) {
    return SendError(subscriber, Reason::kRateLimited,
                     {"too many acks at once", request_id, ack.thread_id()});
  }
  const uint64_t id = ++last_ack_;
  acks_.emplace(id, PendingAck{connection, FeedPtr(subscription->feed), request_id});
  connection->acks.push_back(id);
  v1::GatewayMessage message;
  v1::AckThread& said = *message.mutable_ack();
  said.set_subscription_id(subscription->id);
  said.mutable_position()->set_epoch(ack.epoch());
  said.mutable_position()->set_offset(ack.offset());
  said.set_last_sent_offset(subscription->join.position().offset.value());
  said.set_ack_id(id);
  Say(std::move(message));
}

void HubImpl::ProbeReply(Subscriber* subscriber, const v1::ProbeReply& reply) {
  const HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return;
  // It may have been asked by another gateway: the service knows what.
  v1::GatewayMessage message;
  message.mutable_probe_answered()->set_connection_id(connection->info.id.str());
  message.mutable_probe_answered()->set_nonce(reply.nonce());
  Say(std::move(message));
}

void HubImpl::AwaitAnswer(uint64_t id) {
  waiting_.push_back(id);
  if (waiting_armed_) return;
  waiting_armed_ = true;
  options_.after(options_.subscribe_timeout / 2, [this, alive = alive_] {
    if (*alive) ExpireAnswers();
  });
}

void HubImpl::ExpireAnswers() {
  waiting_armed_ = false;
  for (const uint64_t id : std::exchange(waiting_longer_, std::exchange(waiting_, {}))) {
    if (const auto all = all_asked_.find(id); all != all_asked_.end()) {
      EndAllWithError(*all->second, NameOf(Reason::kGatewayUnavailable),
                      "the service does not answer");
      continue;
    }
    const auto found = subscriptions_.find(id);
    if (found == subscriptions_.end()) continue;
    Subscription& subscription = *found->second;
    // A claim has had its answer.
    const bool unanswered = !subscription.join.told() &&
                            subscription.join.state() == Join::State::kWaiting &&
                            !subscription.request->claim_told && !subscription.request->set_aside;
    if (!unanswered) continue;
    SayUnsubscribe(id);
    EndOrSetAside(subscription, NameOf(Reason::kGatewayUnavailable), "the service does not answer");
  }
  if (waiting_longer_.empty()) return;
  waiting_armed_ = true;
  options_.after(options_.subscribe_timeout / 2, [this, alive = alive_] {
    if (*alive) ExpireAnswers();
  });
}

void HubImpl::EndWithError(Subscription& subscription, std::string_view code,
                           std::string_view message) {
  Subscriber* const subscriber = subscription.subscriber();
  const std::string thread = subscription.feed->thread().str();
  // They outlive the subscription.
  const std::vector<std::string> asked = TakeAsked(subscription);
  Remove(subscription);
  for (const std::string& id : asked) SendError(subscriber, code, {message, id, thread});
}

std::vector<std::string> HubImpl::TakeAsked(Subscription& subscription) {
  Request* const request = subscription.request.get();
  if (request == nullptr) return {std::string()};
  std::vector<std::string> asked{std::exchange(request->id, {})};
  for (Request::Later& later : std::exchange(request->later, {}))
    asked.push_back(std::move(later.id));
  return asked;
}

void HubImpl::EndOrSetAside(Subscription& subscription, std::string_view code,
                            std::string_view message) {
  const std::optional<Reason> reason = ReasonFromName(code);
  const bool later = reason.has_value() && RowOf(*reason).retry == Retry::kLater;
  const bool told = subscription.join.told() ||
                    (subscription.request != nullptr && subscription.request->claim_told);
  const bool kept = subscription.of_all || (told && reason != Reason::kRateLimited);
  if (!kept || !later) return EndWithError(subscription, code, message);
  if (subscription.join.running()) {
    // As if the link were down for it alone.
    subscription.join.Interrupt();
    subscription.page_pending = false;
    subscription.feed->OnStopped();
  }
  if (subscription.request == nullptr) subscription.request = std::make_unique<Request>();
  AnswerBinds(subscription, v1::BIND_OUTCOME_UNSPECIFIED);
  subscription.request->set_aside = true;
  for (const std::string& id : TakeAsked(subscription)) {
    SendError(subscription.subscriber(), code, {message, id, subscription.feed->thread().str()});
  }
  set_aside_.emplace_back(&subscription);
  if (set_aside_armed_) return;
  set_aside_armed_ = true;
  options_.after(pause_, [this, alive = alive_] {
    if (*alive) AskSetAside();
  });
  pause_ = std::min(pause_ * 2, kLongestPause);
}

void HubImpl::AskSetAside() {
  set_aside_armed_ = false;
  for (const SubscriptionPtr& subscription : std::exchange(set_aside_, {})) {
    // While the link is down it stays aside: all are asked for when it comes up.
    if (!subscription->ended() && up_) due_again_.push_back(subscription);
  }
  Restore();
}

void HubImpl::AskSetAside(Subscription& subscription) {
  if (subscription.request == nullptr || !std::exchange(subscription.request->set_aside, false))
    return;
  Rename(subscription);
  AwaitAnswer(subscription.id);
  restoring_.insert(subscription.id);
  SaySubscribe(subscription);
}

}  // namespace clarion::gateway
