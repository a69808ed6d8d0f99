// What the service says, and what is said to it.
#include <chrono>
#include <utility>

#include "absl/algorithm/container.h"
#include "gateway/hub/hub_impl.h"
#include "proto/contract/error.h"
#include "proto/contract/limits.h"
#include "proto/link/capability.h"
#include "telemetry/log.h"

namespace clarion::gateway {
namespace {

// Adjacent live messages of a thread become one up to here: one write to each socket.
constexpr size_t kMaxMergedEvents = 1'024;

google::protobuf::Timestamp ToProto(std::chrono::system_clock::time_point time) {
  const auto since = time.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  google::protobuf::Timestamp timestamp;
  timestamp.set_seconds(seconds.count());
  timestamp.set_nanos(static_cast<int32_t>(std::chrono::nanoseconds(since - seconds).count()));
  return timestamp;
}

// `next` goes on where `live` ends, and was taken into it.
bool Merge(link::Live& live, link::ToGateway& next) {
  auto* more = std::get_if<link::Live>(&next);
  const bool fits = more != nullptr && !live.events.empty() && more->first == live.last().next() &&
                    live.events.size() + more->events.size() <= kMaxMergedEvents &&
                    more->epoch == live.epoch && more->thread == live.thread;
  if (!fits) return false;
  live.events.insert(live.events.end(), std::make_move_iterator(more->events.begin()),
                     std::make_move_iterator(more->events.end()));
  return true;
}

}  // namespace

void HubImpl::OnUp() {
  if (link_lines_.Admit(std::chrono::steady_clock::now()).has_value()) {
    Log(Severity::kInfo, "the link to the service is up", {{"gateway_id", options_.gateway_id}});
  }
  up_ = true;
  answered_ = true;  // the time of the last link's is not this one's
  puller_.OnUp();
  v1::GatewayMessage message;
  v1::Hello& hello = *message.mutable_hello();
  hello.set_gateway_id(options_.gateway_id);
  hello.set_instance(options_.instance);
  hello.add_versions(1);
  hello.set_want_json(true);
  hello.set_want_proto(true);
  Say(std::move(message));
  for (const auto& [subscriber, connection] : connections_)
    unopened_.push_back(connection->subscriber);
  Restore();
  if (draining_) BeginDrain();
}

void HubImpl::Restore() {
  while (restoring_.size() < options_.restoring) {
    if (!unopened_.empty()) {
      HubConnection* const connection = Find(unopened_.back());
      unopened_.pop_back();
      if (connection != nullptr && !connection->opened) Restore(*connection);
    } else if (!due_again_.empty()) {
      const SubscriptionPtr subscription = std::move(due_again_.back());
      due_again_.pop_back();
      if (!subscription->ended()) AskSetAside(*subscription);
    } else {
      return;
    }
  }
  const bool more = !unopened_.empty() || !due_again_.empty();
  if (!more || std::exchange(restore_armed_, true)) return;
  answered_ = false;
  options_.after(kRestoreWait, [this, alive = alive_] {
    if (*alive) OnRestoreWait();
  });
}

void HubImpl::Restore(HubConnection& connection) {
  SayOpened(connection);
  if (connection.all != nullptr) {
    AskAll(connection);
    restoring_.insert(connection.all->asked);
  }
  for (Subscription* subscription : connection.subscriptions) {
    const bool was_set_aside =
        subscription->request != nullptr && std::exchange(subscription->request->set_aside, false);
    if (was_set_aside) AwaitAnswer(subscription->id);
    restoring_.insert(subscription->id);
    SaySubscribe(*subscription);
  }
}

void HubImpl::OnRestoreWait() {
  restore_armed_ = false;
  if (!answered_) restoring_.clear();
  Restore();
}

void HubImpl::OnDown(const absl::Status& status) {
  if (link_lines_.Admit(std::chrono::steady_clock::now()).has_value()) {
    Log(Severity::kError, "the link to the service is down",
        {{"gateway_id", options_.gateway_id}, {"cause", std::string(Text(status))}});
  }
  CountFailure(NameOf(ReasonOf(status).value_or(Reason::kGatewayUnavailable)));
  up_ = false;
  attached_ = status;
  user_pages_ = false;
  unopened_.clear();
  due_again_.clear();
  restoring_.clear();
  for (const auto& [subscriber, connection] : connections_) connection->opened = false;
  if (ReasonOf(status) == Reason::kGatewayDisplaced) SendAway();
  puller_.OnDown();
  for (const FeedPtr& feed : feeds_) feed->OnLinkDown();
  for (const auto& [id, subscription] : subscriptions_) {
    subscription->join.Interrupt();
    subscription->page_pending = false;
    subscription->failing_since = {};
    if (subscription->unheard != nullptr) subscription->unheard->binds.clear();
    if (subscription->request != nullptr) subscription->request->replaces = 0;
  }
  for (const auto& [id, query] : std::exchange(queries_, {})) {
    query.subscription->queries = 0;
    if (query.subscription->ended()) continue;
    auto& request = query.subscription->request;
    if (request == nullptr) request = std::make_unique<Request>();
    request->later.push_back({query.request_id, {}});  // asked again when it is restored
  }
  for (const auto& [id, ack] : std::exchange(acks_, {})) {
    ack.connection->acks.clear();
    SendError(ack.connection->subscriber, Reason::kGatewayUnavailable,
              {Text(status), ack.request_id, ack.feed->thread().str()});
  }
  for (const auto& [subscriber, connection] : connections_) connection->subscriber->OnDone();
}

// Nothing will come for them here, perhaps for long: they may find the gateway that is attached.
void HubImpl::SendAway() {
  for (const auto& [subscriber, connection] : connections_) {
    connection->subscriber->Close(CloseCode::kUnavailable,
                                  "another gateway took the place of this one");
  }
}

void HubImpl::OnMessages(std::vector<link::ToGateway> batch) {
  for (size_t i = 0; i < batch.size(); ++i) {
    if (auto* live = std::get_if<link::Live>(&batch[i])) {
      while (i + 1 < batch.size() && Merge(*live, batch[i + 1])) ++i;
      OnLive(std::move(*live));
    } else {
      OnMessage(std::get<v1::ServiceMessage>(batch[i]));
    }
  }
  Restore();
  puller_.Pump();
}

void HubImpl::OnMessage(const v1::ServiceMessage& message) {
  switch (message.message_case()) {
    case v1::ServiceMessage::kStarted:
      return OnStarted(message.started());
    case v1::ServiceMessage::kRefused:
      return OnRefused(message.refused());
    case v1::ServiceMessage::kAllSubscribed:
      return OnAllSubscribed(message.all_subscribed());
    case v1::ServiceMessage::kAllLimited:
      return OnAllLimited(message.all_limited());
    case v1::ServiceMessage::kConnectionRefused:
      return OnConnectionRefused(message.connection_refused());
    case v1::ServiceMessage::kLagging:
      return OnLagging(message.lagging());
    case v1::ServiceMessage::kBind:
      return OnBind(message.bind());
    case v1::ServiceMessage::kAckResult:
      return OnAckResult(message.ack_result());
    case v1::ServiceMessage::kFloorRaised:
      return OnFloorRaised(message.floor_raised());
    case v1::ServiceMessage::kProbe:
      return OnProbe(message.probe());
    case v1::ServiceMessage::kAwaitSent: {
      const v1::AwaitSent& await = message.await_sent();
      Feed* feed = FindFeed(await.thread_id());
      if (feed != nullptr) sent_.Await(*feed, Offset(await.position().offset()));
      return;
    }
    case v1::ServiceMessage::kThreadBusy:
      if (Feed* feed = FindFeed(message.thread_busy().thread_id())) feed->busy = true;
      return;
    case v1::ServiceMessage::kDeliverFrames:
      return OnDeliverFrames(message.deliver_frames());
    case v1::ServiceMessage::kOpenCanary:
      if (canary_) canary_(message.open_canary());
      return;
    case v1::ServiceMessage::kWelcome:
      attached_ = absl::OkStatus();
      user_pages_ = absl::c_linear_search(message.welcome().capabilities(), link::kUserPages);
      all_listed_ = absl::c_linear_search(message.welcome().capabilities(), link::kAllListed);
      return;
    default:
      // Heartbeat says nothing more; what a newer service says beyond that is ignored.
      return;
  }
}

void HubImpl::OnLive(link::Live live) {
  Feed* feed = FindFeed(live.thread.str());
  if (feed == nullptr || live.events.empty()) return;
  if (newest_epoch_.str() != live.epoch.str())
    newest_epoch_ = feed->Intern(live.epoch.str(), newest_epoch_);
  feed->OnLive(
      EventRun(feed->Intern(live.epoch.str(), newest_epoch_), live.first, std::move(live.events)));
  AfterFeed(*feed);
}

void HubImpl::OnStarted(const v1::SubscriptionStarted& started) {
  EndRestore(started.subscription_id());
  if (const auto query = queries_.extract(started.subscription_id())) {
    SayUnsubscribe(started.subscription_id());
    return OnAnswered(query.mapped(), started);
  }
  const auto found = subscriptions_.find(started.subscription_id());
  if (found == subscriptions_.end()) return;  // ended meanwhile
  const SubscriptionPtr subscription = found->second;
  if (started.claim()) return OnClaim(*subscription);
  Feed& feed = *subscription->feed;
  const std::string& name = started.last().epoch();
  if (newest_epoch_.str() != name) newest_epoch_ = feed.Intern(name, newest_epoch_);
  const Cursor last{feed.Intern(name, newest_epoch_), Offset(started.last().offset())};

  subscription->page_pending = false;
  if (subscription->by_all || subscription->join.told()) pause_ = kFirstPause;
  if (started.was_claim()) {
    subscription->heard = false;
    if (subscription->request != nullptr) subscription->request->resumed = false;
  }
  // Named without an epoch: empty, or a claim as far as its page knows.
  if (subscription->request != nullptr && subscription->request->resumed && !name.empty() &&
      subscription->request->start.after->epoch.str().empty())
    subscription->heard = false;
  if (!subscription->join.told() && subscription->request != nullptr) {
    const StartAt& start = subscription->request->start;
    subscription->live = start.from == v1::START_FROM_LIVE;
  }
  if (subscription->began == Offset(0)) subscription->began = Offset(started.from_offset());
  subscription->join.OnStarted(started, last.epoch, *subscription);
  feed.OnStarted(subscription->join.position(), last);
  ConfirmOnceHeard(*subscription);
  const std::unique_ptr<Request> request = std::move(subscription->request);
  if (request != nullptr && request->replaces != 0) SayUnsubscribe(request->replaces);
  Settle(*subscription, subscription->join.position() == last ? LogEnd::kThere : LogEnd::kUnknown);
  if (request == nullptr) return;
  for (Request::Later& later : request->later) {
    SubscribeAgain(*subscription, std::move(later.id), std::move(later.start));
  }
}

void HubImpl::ConfirmOnceHeard(Subscription& subscription) {
  const HubConnection& connection = *subscription.connection;
  if (connection.info.unseen) return;
  // What a poll is told its page hears with the answer.
  const bool later = connection.info.transport == v1::TRANSPORT_POLLING && !subscription.heard;
  if (!later) return Confirm(subscription);
  if (subscription.unheard == nullptr) subscription.unheard = std::make_unique<Unheard>();
  Unheard& unheard = *subscription.unheard;
  if (unheard.until == Unheard::kNotSaid && !connection.hears_no_more)
    unheard.until = connection.subscriber->mark().queued;
}

void HubImpl::Confirm(Subscription& subscription) {
  subscription.heard = true;
  v1::GatewayMessage message;
  message.mutable_confirmed()->set_subscription_id(subscription.id);
  Say(std::move(message));
  AnswerBinds(subscription, v1::BIND_OUTCOME_CONFIRMED);
}

void HubImpl::OnAnswered(const Query& query, const v1::SubscriptionStarted& started) {
  Subscription& subscription = *query.subscription;
  --subscription.queries;
  if (subscription.ended()) return;
  // Asked for another place meanwhile: this answer waits for that one's.
  if (!subscription.join.running()) return SubscribeAgain(subscription, query.request_id, {});
  const bool spare = subscription.request == nullptr;
  if (spare) subscription.request = std::make_unique<Request>();
  subscription.request->id = query.request_id;
  subscription.join.Restate(
      started, subscription.feed->Intern(started.last().epoch(), newest_epoch_), subscription);
  if (spare) subscription.request.reset();
}

// Also said again to a page that asks again.
void HubImpl::OnClaim(Subscription& subscription) {
  if (subscription.no_claim && !subscription.by_all && subscription.request != nullptr) {
    // Its page has asked for it by name since: the service is to keep it.
    std::string id = std::exchange(subscription.request->id, {});
    return AskAgain(subscription, std::move(id), std::move(subscription.request->start));
  }
  subscription.heard = false;
  subscription.of_all = false;  // it is none of the user's
  const bool was_running = subscription.join.running();
  subscription.join.OnClaim();
  if (was_running) subscription.feed->OnStopped();
  if (subscription.request == nullptr) subscription.request = std::make_unique<Request>();
  Request& request = *subscription.request;
  if (request.claim_told && request.id.empty()) {
    return subscription.subscriber()->OnDone();  // restored: the page knows
  }
  request.claim_told = true;
  v1::ServerFrame frame;
  frame.set_id(std::exchange(request.id, {}));
  frame.mutable_subscribed()->set_thread_id(subscription.feed->thread().str());
  frame.mutable_subscribed()->set_claim(true);
  // It has no epoch because it was told so.
  const bool known =
      std::exchange(request.resumed, false) && request.start.after->epoch.str().empty();
  subscription.Send(frame, known);
  if (subscription.by_all) {
    // It is none of the user's: nothing is waited for, and no slot is held.
    SayUnsubscribe(subscription.id);
    return Remove(subscription);
  }
  for (Request::Later& later : std::exchange(request.later, {})) {
    SubscribeAgain(subscription, std::move(later.id), std::move(later.start));
  }
}

void HubImpl::OnRefused(const v1::SubscriptionRefused& refused) {
  EndRestore(refused.subscription_id());
  if (const auto query = queries_.extract(refused.subscription_id())) {
    // It runs all the same; only what the service would have added is not known.
    return OnAnswered(query.mapped(), {});
  }
  const auto found = subscriptions_.find(refused.subscription_id());
  if (found == subscriptions_.end()) return;
  Subscription& subscription = *found->second;
  AnswerBinds(subscription, refused.reason() == NameOf(Reason::kRateLimited)
                                ? v1::BIND_OUTCOME_LIMIT
                                : v1::BIND_OUTCOME_UNSPECIFIED);
  const bool told = subscription.join.told() ||
                    (subscription.request != nullptr && subscription.request->resumed);
  if (refused.has_missed() && told) subscription.OnMissed(refused.missed());
  EndOrSetAside(subscription, refused.reason(), refused.message());
}

void HubImpl::OnAllSubscribed(const v1::AllSubscribed& subscribed) {
  EndRestore(subscribed.subscription_id());
  if (const auto listing = all_listing_.extract(subscribed.subscription_id())) {
    listing.mapped()->all->listing = 0;
    return listing.mapped()->subscriber->OnDone();
  }
  const auto asked = all_asked_.extract(subscribed.subscription_id());
  if (asked.empty()) return;
  HubConnection& connection = *asked.mapped();
  AllThreads& all = *connection.all;
  all.asked = 0;
  const bool known = std::exchange(all.resumed, false);
  if (!subscribed.reason().empty())
    return EndAllWithError(connection, subscribed.reason(), subscribed.message());
  if (all_listed_) {
    all.listing = subscribed.subscription_id();
    all_listing_.emplace(all.listing, &connection);
  }
  for (const std::string& id : std::exchange(all.requests, {})) {
    v1::ServerFrame frame;
    frame.set_id(id);
    frame.mutable_subscribed()->set_all(true);
    connection.subscriber->Send(Frames::OfMessage(connection.subscriber->encoding(), frame), 0,
                                {.known = known && id.empty()});
  }
  for (auto& [thread, position] : std::exchange(all.positions, {})) {
    if (FindSubscription(connection, thread.str()) != nullptr) continue;
    if (all.named == kMaxPositions || connection.names_no_more()) {
      SendError(connection.subscriber, Reason::kRateLimited,
                {"subscribe {all} has named as many threads as it may", {}, thread.str()});
      continue;
    }
    ++all.named;
    Subscription& subscription = AddSubscription(connection, thread.str(), /*by_all=*/true);
    subscription.full = all.full;
    subscription.request->start.after = std::move(position);
    subscription.request->tell_bound = true;
    AwaitAnswer(subscription.id);
    SaySubscribe(subscription);
  }
}

void HubImpl::OnAllLimited(const v1::AllLimited& limited) {
  const auto found = connections_by_id_.find(limited.connection_id());
  if (found == connections_by_id_.end() || found->second->all == nullptr) return;
  HubConnection& connection = *found->second;
  if (connection.hears_no_more) return;
  SendError(connection.subscriber, Reason::kRateLimited,
            {limited.message(), {}, limited.thread_id()});
  connection.limit_said_until = connection.subscriber->mark().queued;
}

// Whatever it asks for is refused too: its page does better to come back later.
void HubImpl::OnConnectionRefused(const v1::ConnectionRefused& refused) {
  const auto found = connections_by_id_.find(refused.connection_id());
  if (found == connections_by_id_.end()) return;
  if (refused.opening() != 0 && refused.opening() != found->second->opening) return;
  CloseCode code = CloseCode::kInternal;
  if (refused.reason() == NameOf(Reason::kRateLimited)) code = CloseCode::kRateLimited;
  // It named another user's connection as its own.
  if (refused.reason() == NameOf(Reason::kNotFound)) code = CloseCode::kForbidden;
  Subscriber* const subscriber = found->second->subscriber;
  if (refused.overtaken()) code = OvertakenCode(subscriber);
  subscriber->Close(code, refused.message());
}

void HubImpl::OnLagging(const v1::Lagging& lagging) {
  Feed* feed = FindFeed(lagging.thread_id());
  if (feed == nullptr) return;
  feed->OnLagging();
  AfterFeed(*feed);
}

void HubImpl::OnFloorRaised(const v1::FloorRaised& raised) {
  if (Feed* feed = FindFeed(raised.thread_id())) feed->OnFloorRaised(Offset(raised.floor()));
}

void HubImpl::OnProbe(const v1::ProbeConnection& probe) {
  const auto found = connections_by_id_.find(probe.connection_id());
  if (found == connections_by_id_.end()) return;
  const HubConnection& connection = *found->second;
  if (connection.info.unseen) return;
  v1::ServerFrame frame;
  frame.mutable_probe()->set_nonce(probe.nonce());
  connection.subscriber->Send(Frames::OfMessage(connection.subscriber->encoding(), frame), 0);
}

void HubImpl::OnDeliverFrames(const v1::DeliverFrames& deliver) {
  const v1::PassFrames& frames = deliver.frames();
  const auto found = connections_by_id_.find(frames.connection_id());
  Subscriber::Passed passed{.problem = "no such connection"};
  if (found != connections_by_id_.end() && found->second->info.user.str() == frames.user_id()) {
    passed = found->second->subscriber->Pass(frames.sequence(), frames.frames());
  }
  v1::GatewayMessage message;
  v1::FramesDelivered& answer = *message.mutable_frames_delivered();
  answer.set_deliver_id(deliver.deliver_id());
  answer.set_next_sequence(passed.next_sequence);
  if (!passed.ok) {
    answer.set_reason(std::string(NameOf(passed.reason)));
    answer.set_message(passed.problem);
  }
  Say(std::move(message));
}

void HubImpl::OnBind(const v1::Bind& bind) {
  const auto found = connections_by_id_.find(bind.connection_id());
  if (found == connections_by_id_.end())
    return SayBindResult(bind.bind_id(), v1::BIND_OUTCOME_GONE);
  HubConnection& connection = *found->second;
  if (connection.hears_no_more) return;  // the service says it again
  // Said before the service heard that the page wants no more of it.
  const bool unwanted = bind.all() && connection.all == nullptr;
  if (unwanted || connection.info.unseen)
    return SayBindResult(bind.bind_id(), v1::BIND_OUTCOME_GONE);
  if (Subscription* existing = FindSubscription(connection, bind.thread_id())) {
    existing->of_all |= bind.all();
    if (existing->join.running() && existing->heard)
      return SayBindResult(bind.bind_id(), v1::BIND_OUTCOME_CONFIRMED);
    if (existing->unheard == nullptr) existing->unheard = std::make_unique<Unheard>();
    existing->unheard->binds.push_back(bind.bind_id());
    return AskSetAside(*existing);
  }
  // Of {all} the service hears with the next poll that this one follows as many as it may.
  const bool full = !bind.all() && connection.counted >= options_.subscriptions_per_connection;
  if (full || connection.names_no_more()) {
    return SayBindResult(bind.bind_id(), v1::BIND_OUTCOME_LIMIT);
  }
  v1::ServerFrame frame;
  frame.mutable_bound()->set_thread_id(bind.thread_id());
  connection.subscriber->Send(Frames::OfMessage(connection.subscriber->encoding(), frame), 0);

  Subscription& subscription = AddSubscription(connection, bind.thread_id(), bind.all());
  subscription.unheard = std::make_unique<Unheard>();
  subscription.unheard->binds.push_back(bind.bind_id());
  subscription.request->start.from = v1::START_FROM_UNFINISHED;
  if (bind.all()) {
    subscription.full = connection.all->full;
    auto position = connection.all->positions.extract(ThreadId(bind.thread_id()));
    if (!position.empty()) subscription.request->start = {.after = std::move(position.mapped())};
  }
  AwaitAnswer(subscription.id);
  SaySubscribe(subscription);
}

void HubImpl::OnAckResult(const v1::AckResult& result) {
  const auto found = acks_.find(result.ack_id());
  if (found == acks_.end()) return;
  const PendingAck ack = std::move(found->second);
  acks_.erase(found);
  std::erase(ack.connection->acks, result.ack_id());
  Subscriber* const subscriber = ack.connection->subscriber;
  const std::string& thread = ack.feed->thread().str();
  if (!result.reason().empty()) {
    return SendError(subscriber, result.reason(), {result.message(), ack.request_id, thread});
  }
  if (ack.request_id.empty()) return subscriber->OnDone();
  v1::ServerFrame frame;
  frame.set_id(ack.request_id);
  frame.mutable_acked()->set_thread_id(thread);
  frame.mutable_acked()->set_offset(result.acknowledged());
  subscriber->Send(Frames::OfMessage(subscriber->encoding(), frame), 0);
}

void HubImpl::SayOpened(HubConnection& connection) {
  connection.opened = true;
  connection.opening = ++last_opening_;
  v1::GatewayMessage message;
  v1::ConnectionOpened& opened = *message.mutable_connection_opened();
  opened.set_opening(connection.opening);
  opened.set_connection_id(connection.info.id.str());
  opened.set_user_id(connection.info.user.str());
  opened.set_transport(connection.info.transport);
  opened.set_client(connection.info.client);
  *opened.mutable_connected_at() = ToProto(connection.info.connected_at);
  Say(std::move(message));
}

void HubImpl::SaySubscribe(Subscription& subscription) {
  if (!subscription.connection->opened) return;  // said with its connection
  subscription.no_claim = subscription.by_all;
  v1::GatewayMessage message;
  v1::SubscribeThread& subscribe = *message.mutable_subscribe();
  subscribe.set_connection_id(subscription.connection->info.id.str());
  subscribe.set_subscription_id(subscription.id);
  subscribe.set_thread_id(subscription.feed->thread().str());
  subscribe.set_began_offset(subscription.began.value());
  subscribe.set_no_claim(subscription.no_claim);
  if (subscription.join.told()) {
    subscribe.set_restored(true);
    subscribe.set_unheard(!subscription.heard);
    if (subscription.live) subscribe.set_from(v1::START_FROM_LIVE);
    *subscribe.mutable_after() = subscription.join.position().ToProto();
  } else {
    const StartAt& start = subscription.request->start;
    subscribe.set_from(start.from);
    if (start.after.has_value()) {
      subscribe.mutable_after()->set_epoch(start.after->epoch.str());
      subscribe.mutable_after()->set_offset(start.after->offset.value());
    }
  }
  Say(std::move(message));
}

// A subscription that is never confirmed, and ends with its answer.
void HubImpl::SayQuery(const Subscription& subscription, uint64_t id) {
  v1::GatewayMessage message;
  v1::SubscribeThread& subscribe = *message.mutable_subscribe();
  subscribe.set_connection_id(subscription.connection->info.id.str());
  subscribe.set_subscription_id(id);
  subscribe.set_thread_id(subscription.feed->thread().str());
  *subscribe.mutable_after() = subscription.join.position().ToProto();
  Say(std::move(message));
}

void HubImpl::SayUnsubscribe(uint64_t id) {
  v1::GatewayMessage message;
  message.mutable_unsubscribe()->set_subscription_id(id);
  Say(std::move(message));
}

void HubImpl::SaySubscribeAll(const HubConnection& connection) {
  if (!connection.opened) return;
  v1::GatewayMessage message;
  v1::SubscribeAll& subscribe = *message.mutable_subscribe_all();
  subscribe.set_connection_id(connection.info.id.str());
  subscribe.set_on(connection.all != nullptr);
  if (connection.all != nullptr) subscribe.set_subscription_id(connection.all->asked);
  Say(std::move(message));
}

void HubImpl::AskAll(HubConnection& connection) {
  AllThreads& all = *connection.all;
  all_listing_.erase(std::exchange(all.listing, 0));
  // A question that the last link did not answer keeps its id, by which the page's time-out knows
  // it.
  if (all.asked == 0) {
    all.asked = ++last_subscription_;
    all_asked_.emplace(all.asked, &connection);
  }
  SaySubscribeAll(connection);
}

void HubImpl::AnswerBinds(Subscription& subscription, v1::BindOutcome outcome) {
  const std::unique_ptr<Unheard> unheard = std::move(subscription.unheard);
  if (unheard == nullptr) return;
  for (const uint64_t bind : unheard->binds) SayBindResult(bind, outcome);
}

void HubImpl::SayBindResult(uint64_t bind, v1::BindOutcome outcome) {
  v1::GatewayMessage message;
  message.mutable_bind_result()->set_bind_id(bind);
  message.mutable_bind_result()->set_outcome(outcome);
  Say(std::move(message));
}

}  // namespace clarion::gateway
