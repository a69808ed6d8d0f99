#include "gateway/hub/puller.h"

#include <algorithm>
#include <utility>

#include "proto/contract/error.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace clarion::gateway {
namespace {

Counter& PagesCounter() {
  static Counter& counter = GetCounter("clarion_replay_pages_total",
                                       "Replay pages asked for on behalf of a subscription");
  return counter;
}

// A page did not come: said in the log and counted. With a reason afterwards.
absl::Status Failed(const absl::Status& status, const ThreadId& thread, const std::string& user) {
  absl::Status failure =
      WithContext(status, {.user_id = user, .thread_id = thread.str(), .operation = "ReadPage"});
  LogFailure(failure);
  return failure;
}

}  // namespace

Chunk ToChunk(const Feed& feed, const SharedEpoch& known, link::Page page,
              std::array<bool, kContents> has) {
  Chunk chunk;
  chunk.missed = std::move(page.missed);
  for (link::Live& run : page.runs) {
    chunk.runs.emplace_back(feed.Intern(run.epoch.str(), known), run.first, std::move(run.events),
                            run.merged);
  }
  chunk.last = {feed.Intern(page.last.epoch.str(), known), page.last.offset};
  chunk.has = has;
  return chunk;
}

void Puller::Enqueue(Subscription& subscription) {
  if (!up_ || subscription.queued || subscription.failed || subscription.page_pending) return;
  if (subscription.join.state() != Join::State::kReplaying || !subscription.subscriber()->HasRoom())
    return;
  subscription.queued = true;
  auto& line = subscription.connection->line;
  if (line == nullptr) line = new PullLine;
  line->waiting.emplace_back(&subscription);
  Queue(*line);
}

void Puller::Queue(PullLine& line) {
  if (line.queued || line.under_way || line.waiting.empty()) return;
  line.queued = true;
  queue_.push_back({.line = &line});
}

void Puller::Enqueue(Feed& feed) {
  if (!up_ || feed.queued || !feed.WantsPage()) return;
  feed.queued = true;
  queue_.push_back({.feed = &feed});
}

void Puller::EnqueueLater(Subscription& subscription) {
  if (subscription.queued || subscription.failed) return;
  subscription.failed = true;
  RetryLater({.subscription = boost::intrusive_ptr<Subscription>(&subscription)});
}

void Puller::EnqueueLater(Feed& feed) {
  if (feed.queued) return;
  feed.queued = true;
  RetryLater({.feed = boost::intrusive_ptr<Feed>(&feed)});
}

void Puller::Pump() {
  while (up_ && under_way_.size() < options_.concurrent_pages && !queue_.empty()) {
    Waiter waiter = std::move(queue_.front());
    queue_.pop_front();
    if (Pull pull; Begin(std::move(waiter), pull)) Ask(std::move(pull));
  }
}

// False: nobody there wants a page any more.
bool Puller::Begin(Waiter waiter, Pull& pull) {
  if (Feed* feed = waiter.feed.get(); feed != nullptr) {
    feed->queued = false;
    if (!feed->WantsPage()) return false;
    pull.ticket = feed->BeginPage();
    pull.wanted = feed->Wanted();
    pull.compact = !feed->WantsFull();
    pull.target.feed = std::move(waiter.feed);
    return true;
  }
  PullLine& line = *waiter.line;
  line.queued = false;
  while (!line.waiting.empty()) {
    const boost::intrusive_ptr<Subscription> subscription = std::move(line.waiting.front());
    line.waiting.pop_front();
    subscription->queued = false;
    const bool wants = !subscription->ended() &&
                       subscription->join.state() == Join::State::kReplaying &&
                       subscription->subscriber()->HasRoom();
    if (!wants) continue;
    subscription->page_pending = true;
    pull.pull = ++subscription->pulls;
    pull.turns = subscription->feed->turns();
    pull.compact = !subscription->full;
    pull.wanted[static_cast<size_t>(ContentOf(subscription->subscriber()->encoding()))] = true;
    pull.target.subscription = subscription;
    line.under_way = true;
    pull.line = std::move(waiter.line);
    ++pages_;
    PagesCounter().Add();
    return true;
  }
  return false;
}

void Puller::Ask(Pull pull) {
  const Feed& feed =
      pull.target.feed != nullptr ? *pull.target.feed : *pull.target.subscription->feed;
  const Cursor& after =
      pull.target.feed != nullptr ? feed.tail() : pull.target.subscription->join.position();
  v1::ReadPageRequest request;
  request.set_thread_id(feed.thread().str());
  *request.mutable_after() = after.ToProto();
  request.set_max_bytes(options_.page_bytes);
  request.set_max_events(options_.page_events);
  request.set_compact(pull.compact);
  request.set_want_json(pull.wanted[static_cast<size_t>(Content::kJson)]);
  request.set_want_proto(pull.wanted[static_cast<size_t>(Content::kProto)]);
  const uint64_t id = ++last_id_;
  under_way_.emplace(id, std::move(pull));
  // The callback crosses threads: it holds nothing that is counted on this loop.
  link_->ReadPage(std::move(request), [this, alive = alive_, id](absl::StatusOr<link::Page> page) {
    if (*alive) OnAnswer(id, std::move(page));
  });
}

void Puller::OnAnswer(uint64_t id, absl::StatusOr<link::Page> page) {
  const auto found = under_way_.find(id);
  if (found == under_way_.end()) return;
  const Pull pull = std::move(found->second);
  under_way_.erase(found);
  if (pull.line != nullptr) {
    // Before this one may want another page: the next of the connection has its turn first.
    pull.line->under_way = false;
    Queue(*pull.line);
  }
  if (pull.target.feed != nullptr) {
    OnAnswerFor(*pull.target.feed, pull, std::move(page));
  } else {
    OnAnswerFor(*pull.target.subscription, pull, std::move(page));
  }
  Pump();
  DropIfIdle(pull.target.subscription.get());
}

// Connections that only listen are many: what they do not need now is given back.
void Puller::DropIfIdle(const Subscription* subscription) {
  if (subscription == nullptr || subscription->ended()) return;
  auto& line = subscription->connection->line;
  if (line != nullptr && line->waiting.empty() && !line->queued && !line->under_way) line.reset();
}

void Puller::OnAnswerFor(Subscription& subscription, const Pull& pull,
                         absl::StatusOr<link::Page> page) {
  const bool current = !subscription.ended() && subscription.page_pending &&
                       subscription.pulls == pull.pull &&
                       subscription.join.state() == Join::State::kReplaying;
  if (!current) return;
  subscription.page_pending = false;
  if (!page.ok()) {
    const absl::Status failure = Failed(page.status(), subscription.feed->thread(),
                                        subscription.connection->info.user.str());
    if (!GivesUp(failure, subscription.failing_since)) return EnqueueLater(subscription);
    return handler_->OnUnreadable(subscription, failure);
  }
  subscription.failing_since = {};
  const Chunk chunk = ToChunk(*subscription.feed, subscription.join.position().epoch,
                              *std::move(page), pull.wanted);
  handler_->OnPulled(subscription, chunk, pull.turns);
}

void Puller::OnAnswerFor(Feed& feed, const Pull& pull, absl::StatusOr<link::Page> page) {
  if (!feed.IsCurrent(pull.ticket)) return;
  if (!page.ok()) {
    feed.OnPageFailed();
    const absl::Status failure = Failed(page.status(), feed.thread(), {});
    if (!GivesUp(failure, feed.failing_since)) return EnqueueLater(feed);
    return handler_->OnUnreadable(feed, failure);
  }
  feed.failing_since = {};
  handler_->OnPulled(feed, pull.ticket,
                     ToChunk(feed, feed.tail().epoch, *std::move(page), pull.wanted));
}

bool Puller::GivesUp(const absl::Status& failure, Time& failing_since) const {
  const bool later =
      RowOf(ReasonOf(failure).value_or(Reason::kLogUnavailable)).retry == Retry::kLater;
  const Time now = options_.now();
  if (failing_since == Time()) failing_since = now;
  if (later && now - failing_since < kGivenUpAfter) return false;
  failing_since = {};
  return true;
}

void Puller::OnDown() {
  up_ = false;
  for (const Target& target : std::exchange(retry_, {})) {
    if (target.feed != nullptr) target.feed->queued = false;
    if (target.subscription != nullptr) target.subscription->failed = false;
  }
  for (const Waiter& waiter : std::exchange(queue_, {})) {
    if (waiter.feed != nullptr) waiter.feed->queued = false;
    if (waiter.line != nullptr) Forget(*waiter.line);
  }
  // What is under way keeps its place among the concurrent ones until it is answered; its
  // connection does not wait for it.
  for (auto& [id, pull] : under_way_) {
    if (pull.line != nullptr) Forget(*std::exchange(pull.line, nullptr));
  }
}

void Puller::Forget(PullLine& line) {
  line.queued = line.under_way = false;
  for (const auto& subscription : std::exchange(line.waiting, {})) subscription->queued = false;
}

void Puller::RetryLater(Target target) {
  retry_.push_back(std::move(target));
  if (retry_armed_) return;
  retry_armed_ = true;
  options_.after(retry_delay_, [this, alive = alive_] {
    if (*alive) Retry();
  });
  retry_delay_ = std::min(retry_delay_ * 2, kLongestRetry);
}

void Puller::Retry() {
  retry_armed_ = false;
  for (Target& target : std::exchange(retry_, {})) {
    if (target.feed != nullptr) {
      target.feed->queued = false;
      Enqueue(*target.feed);
      // It does not fail while nobody asks.
      if (!target.feed->queued) target.feed->failing_since = {};
    } else {
      target.subscription->failed = false;
      if (!target.subscription->ended()) Enqueue(*target.subscription);
      if (!target.subscription->queued) target.subscription->failing_since = {};
    }
  }
  Pump();
}

}  // namespace clarion::gateway
