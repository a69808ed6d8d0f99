#include "gateway/hub/hub.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "gateway/hub/hub_impl.h"
#include "proto/contract/error.h"
#include "telemetry/log.h"

namespace clarion::gateway {
namespace {

// Of a connection whose page is there again already.
constexpr std::chrono::milliseconds kOvertaken{10'000};

}  // namespace

std::unique_ptr<Hub> Hub::Create(HubOptions options, link::Link* link, OpenCanaryHandler canary) {
  assert(options.after != nullptr && "HubOptions::after is required: see loop_timer.h");
  return std::make_unique<HubImpl>(std::move(options), link, std::move(canary));
}

HubImpl::HubImpl(HubOptions options, link::Link* link, OpenCanaryHandler canary)
    : options_(std::move(options)),
      link_(link),
      canary_(std::move(canary)),
      recent_limits_{.per_thread = options_.recent_bytes_per_thread,
                     .total = options_.recent_bytes},
      puller_(options_, link, this),
      sent_(options_, link) {}

HubImpl::~HubImpl() {
  *alive_ = false;
}

void HubImpl::Open(Subscriber* subscriber, ConnectionInfo info) {
  if (const auto older = connections_by_id_.find(info.id.str());
      older != connections_by_id_.end()) {
    // Its page has come back for it before it went.
    Subscriber* const left = older->second->subscriber;
    if (older->second->info.user != info.user) {
      return subscriber->Close(CloseCode::kForbidden, "no connection of this user has this id");
    }
    const CloseCode code = OvertakenCode(left);
    Rest(left, kOvertaken);
    left->Close(code, "the page has asked again");
  }
  auto connection = std::make_unique<HubConnection>();
  connection->subscriber = subscriber;
  connection->info = std::move(info);
  connections_by_id_.emplace(connection->info.id.str(), connection.get());
  if (up_) SayOpened(*connection);
  connections_.insert_or_assign(subscriber, std::move(connection));
}

CloseCode HubImpl::OvertakenCode(const Subscriber* subscriber) const {
  return Answered(subscriber) ? CloseCode::kNormal : CloseCode::kUnavailable;
}

void HubImpl::Close(Subscriber* subscriber, v1::ConnectionState state, std::string_view reason) {
  HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return;
  v1::ConnectionClosed closed;
  closed.set_state(state);
  closed.set_reason(std::string(reason));
  End(*connection, std::move(closed));
}

void HubImpl::BeginRest(Subscriber* subscriber) {
  HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return;
  connection->hears_no_more = true;
  // Nor is what was left out of the answer ever written: what it holds is all that is waited for.
  const uint64_t end = subscriber->mark().queued;
  connection->limit_said_until = std::min(connection->limit_said_until, end);
  for (Subscription* subscription : connection->subscriptions) {
    sent_.Mark(*subscription);
    Unheard* const unheard = subscription->unheard.get();
    if (unheard != nullptr && unheard->until != Unheard::kNotSaid)
      unheard->until = std::min(unheard->until, end);
  }
}

void HubImpl::Rest(Subscriber* subscriber, std::chrono::milliseconds lease) {
  HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return;
  const uint64_t written = subscriber->mark().written;
  for (Subscription* subscription : connection->subscriptions) {
    const Unheard* const unheard = subscription->unheard.get();
    if (unheard == nullptr) continue;
    if (unheard->until <= written && subscription->join.running()) Confirm(*subscription);
    // Unless it has heard, the service says with the next opening what it is to be bound to.
    subscription->unheard.reset();
  }
  v1::ConnectionClosed closed;
  const uint64_t limit = connection->limit_said_until;
  closed.set_limit_told(limit != 0 && written >= limit);
  closed.set_state(v1::CONNECTION_STATE_DISCONNECTED);
  closed.set_reason("lease over");
  closed.mutable_lease()->set_seconds(lease.count() / 1000);
  closed.mutable_lease()->set_nanos(static_cast<int32_t>(lease.count() % 1000 * 1'000'000));
  End(*connection, std::move(closed));
}

void HubImpl::End(HubConnection& connection, v1::ConnectionClosed closed) {
  sent_.Report(connection.subscriptions);
  while (!connection.subscriptions.empty()) Remove(*connection.subscriptions.back());
  for (const uint64_t ack : connection.acks) acks_.erase(ack);
  if (connection.all != nullptr) {
    all_asked_.erase(connection.all->asked);
    all_listing_.erase(connection.all->listing);
    EndRestore(connection.all->asked);
  }
  if (connection.opened) {
    v1::GatewayMessage message;
    closed.set_connection_id(connection.info.id.str());
    *message.mutable_connection_closed() = std::move(closed);
    Say(std::move(message));
  }
  connections_by_id_.erase(connection.info.id.str());
  connections_.erase(connection.subscriber);
  puller_.Pump();
}

void HubImpl::OnRoom(Subscriber* subscriber) {
  const HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return;
  for (Subscription* subscription : connection->subscriptions) {
    puller_.Enqueue(*subscription);
    puller_.Enqueue(*subscription->feed);
  }
  puller_.Pump();
}

void HubImpl::OnOverflow(Subscriber* subscriber) {
  const HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return;
  absl::flat_hash_set<uint32_t> sources;
  // Those that wait for the service are not asked for again at another place: they keep what is
  // queued, and add nothing to it.
  for (const Subscription* subscription : connection->subscriptions) {
    if (subscription->join.running()) sources.insert(subscription->source);
  }
  absl::flat_hash_map<uint32_t, Offset> taken;
  for (const auto& [source, first] : subscriber->TakeBack(sources)) taken.emplace(source, first);
  for (Subscription* subscription : connection->subscriptions) {
    const auto first = taken.find(subscription->source);
    if (first == taken.end()) continue;
    subscription->join.Rewind(first->second);
    subscription->unwritten_until = 0;   // what it would say was written may never be
    subscription->page_pending = false;  // it is of another place
    puller_.Enqueue(*subscription);
  }
  puller_.Pump();
}

void HubImpl::Report(v1::CanaryReport report) {
  v1::GatewayMessage message;
  *message.mutable_canary_report() = std::move(report);
  Say(std::move(message));
}

void HubImpl::BeginDrain() {
  draining_ = true;
  v1::GatewayMessage message;
  message.mutable_draining();
  Say(std::move(message));
}

bool HubImpl::Answered(const Subscriber* subscriber) const {
  const HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return true;
  if (!connection->acks.empty()) return false;
  if (connection->all != nullptr && connection->all->asked != 0) return false;
  return absl::c_all_of(connection->subscriptions, [](const Subscription* subscription) {
    const Request* const request = subscription->request.get();
    const bool asks = request != nullptr && !request->claim_told && !request->set_aside;
    return !asks && subscription->queries == 0;
  });
}

bool HubImpl::Settled(const Subscriber* subscriber) const {
  const HubConnection* connection = Find(subscriber);
  if (connection == nullptr) return true;
  if (!Answered(subscriber)) return false;
  if (connection->all != nullptr && connection->all->listing != 0) return false;
  return absl::c_all_of(connection->subscriptions, [](const Subscription* subscription) {
    const Request* const request = subscription->request.get();
    return subscription->join.state() == Join::State::kAttached ||
           subscription->join.state() == Join::State::kClaim ||
           (request != nullptr && request->set_aside);
  });
}

bool HubImpl::FollowsOpenRun(const Subscriber* subscriber) const {
  const HubConnection* connection = Find(subscriber);
  return connection != nullptr &&
         std::any_of(connection->subscriptions.begin(), connection->subscriptions.end(),
                     [](const Subscription* subscription) { return subscription->feed->busy; });
}

HubConnection* HubImpl::Find(const Subscriber* subscriber) const {
  const auto found = connections_.find(subscriber);
  return found == connections_.end() ? nullptr : found->second.get();
}

Feed* HubImpl::FindFeed(std::string_view thread) const {
  const auto found = feeds_.find(thread);
  return found == feeds_.end() ? nullptr : found->get();
}

Subscription* HubImpl::FindSubscription(const HubConnection& connection,
                                        std::string_view thread) const {
  const Feed* feed = FindFeed(thread);
  if (feed == nullptr) return nullptr;
  // A connection may follow many threads, and a thread have many followers: the shorter list.
  const auto find_in = [&](const auto& subscriptions) -> Subscription* {
    for (Subscription* subscription : subscriptions) {
      if (subscription->feed == feed && subscription->connection == &connection)
        return subscription;
    }
    return nullptr;
  };
  return feed->subscriptions().size() < connection.subscriptions.size()
             ? find_in(feed->subscriptions())
             : find_in(connection.subscriptions);
}

Subscription& HubImpl::AddSubscription(HubConnection& connection, const std::string& thread,
                                       bool by_all) {
  Feed* feed = FindFeed(thread);
  if (feed == nullptr) {
    FeedPtr made(new Feed(ThreadId(thread), &recent_limits_, &sent_));
    feed = made.get();
    feeds_.insert(std::move(made));
  }
  SubscriptionPtr subscription(new Subscription(&connection, feed, ++last_subscription_));
  subscription->of_all = subscription->by_all = by_all;
  subscription->source = ++last_source_ == 0 ? ++last_source_ : last_source_;
  subscription->request = std::make_unique<Request>();
  if (!by_all) ++connection.counted;
  subscription->place_in_connection = static_cast<uint32_t>(connection.subscriptions.size());
  connection.subscriptions.push_back(subscription.get());
  feed->Add(subscription.get());
  Subscription& added = *subscription;
  subscriptions_.emplace(added.id, std::move(subscription));
  return added;
}

void HubImpl::Remove(Subscription& subscription) {
  const SubscriptionPtr keep(&subscription);
  HubConnection& connection = *subscription.connection;
  Feed& feed = *subscription.feed;
  subscriptions_.erase(subscription.id);
  EndRestore(subscription.id);
  Subscription*& place = connection.subscriptions[subscription.place_in_connection];
  place = connection.subscriptions.back();
  place->place_in_connection = subscription.place_in_connection;
  connection.subscriptions.pop_back();
  if (!subscription.by_all) --connection.counted;
  feed.Remove(&subscription);
  subscription.connection = nullptr;
  subscription.feed = nullptr;
  if (const auto request = std::move(subscription.request)) {
    if (request->replaces != 0) SayUnsubscribe(request->replaces);
  }
  AnswerBinds(subscription, v1::BIND_OUTCOME_GONE);
  // The service must not go on with the thread on behalf of a question nobody waits for: what it
  // says of a thread that is not followed here (Lagging) is lost.
  if (subscription.queries > 0)
    absl::erase_if(queries_, [&](const auto& query) {
      if (query.second.subscription != &subscription) return false;
      SayUnsubscribe(query.first);
      return true;
    });
  if (feed.empty()) {
    feed.OnUnused();
    feeds_.erase(feed.thread().str());
  } else if (subscription.join.running()) {
    feed.OnStopped();
  }
}

void HubImpl::Settle(Subscription& subscription, LogEnd end) {
  Feed& feed = *subscription.feed;
  Join& join = subscription.join;
  if (feed.lagging() && end != LogEnd::kUnknown && !feed.AnyAttached()) feed.Adopt(join.position());
  if (!join.TryAttach(feed.tail(), end)) {
    const std::optional<Chunk> recent = feed.RecentAfter(join.position());
    if (recent.has_value() && join.OnPage(*recent, subscription))
      join.TryAttach(feed.tail(), LogEnd::kUnknown);
  }
  if (join.state() == Join::State::kAttached) {
    feed.DropRecentIfUnused();
    subscription.subscriber()->OnDone();
  }
  puller_.Enqueue(subscription);
  AfterFeed(feed);
}

void HubImpl::AfterFeed(Feed& feed) {
  if (feed.TakeFollow()) {
    v1::GatewayMessage message;
    v1::FollowThread& follow = *message.mutable_follow();
    follow.set_thread_id(feed.thread().str());
    *follow.mutable_position() = feed.tail().ToProto();
    Say(std::move(message));
  }
  puller_.Enqueue(feed);
  if (!feed.TakeDetached()) return;
  for (Subscription* subscription : feed.subscriptions()) puller_.Enqueue(*subscription);
}

void HubImpl::OnPulled(Subscription& subscription, const Chunk& page, uint32_t turns) {
  if (!subscription.join.OnPage(page, subscription)) return puller_.EnqueueLater(subscription);
  LogEnd end = LogEnd::kUnknown;
  if (subscription.join.position() == page.last) {
    end = subscription.feed->turns() == turns ? LogEnd::kThereInFeedsEpoch : LogEnd::kThere;
  }
  if (page.empty()) {
    // Nothing new: joins now, or waits a moment for the log and the live events to agree.
    subscription.failed = true;
    Settle(subscription, end);
    subscription.failed = false;
    if (subscription.join.state() == Join::State::kReplaying) puller_.EnqueueLater(subscription);
    return;
  }
  puller_.OnProgress();
  Settle(subscription, end);
}

void HubImpl::OnPulled(Feed& feed, const Feed::Ticket& ticket, const Chunk& page) {
  const FeedPtr keep(&feed);
  if (feed.OnPage(ticket, page) == Feed::PageResult::kRetryLater) {
    puller_.EnqueueLater(feed);
  } else {
    puller_.OnProgress();
  }
  AfterFeed(feed);
}

void HubImpl::OnUnreadable(Subscription& subscription, const absl::Status& status) {
  SayUnsubscribe(subscription.id);
  EndOrSetAside(subscription, NameOf(ReasonOf(status).value_or(Reason::kLogUnavailable)),
                Text(status));
}

// Those that replay have pages of their own.
void HubImpl::OnUnreadable(Feed& feed, const absl::Status& status) {
  std::vector<SubscriptionPtr> waiting;
  for (Subscription* subscription : feed.subscriptions()) {
    if (subscription->join.state() == Join::State::kAttached) waiting.emplace_back(subscription);
  }
  for (const SubscriptionPtr& subscription : waiting) OnUnreadable(*subscription, status);
}

void HubImpl::SendError(Subscriber* subscriber, Reason reason, const ErrorText& text) {
  SendError(subscriber, NameOf(reason), text);
}

void HubImpl::SendError(Subscriber* subscriber, std::string_view code, const ErrorText& text) {
  // What the service's own version calls by a name that this one does not know is passed on.
  constexpr uint32_t kRetryAfterMs = 1'000;
  const std::optional<Reason> reason = ReasonFromName(code);
  v1::ServerFrame frame;
  frame.set_id(text.request_id);
  v1::StreamError& error = *frame.mutable_error();
  error.set_code(std::string(code));
  error.set_message(std::string(text.message));
  error.set_thread_id(std::string(text.thread));
  if (reason.has_value()) {
    error.set_user_message(std::string(RowOf(*reason).user_message));
    if (RowOf(*reason).retry == Retry::kLater) error.set_retry_after_ms(kRetryAfterMs);
  }
  subscriber->Send(Frames::OfMessage(subscriber->encoding(), frame), 0);
  CountFailure(code);
}

}  // namespace clarion::gateway
