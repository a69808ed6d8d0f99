// The hub, in three files: hub.cc (connections, and what it is made of), hub_frames.cc (what
// browsers ask for), hub_link.cc (what the service says, and restoring after the link was down).
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "gateway/hub/hub.h"
#include "gateway/hub/puller.h"
#include "gateway/hub/sent_reports.h"
#include "gateway/hub/subscription.h"
#include "proto/contract/reason.h"
#include "telemetry/failure_limiter.h"

namespace clarion::gateway {

class HubImpl final : public Hub, private PullHandler {
 public:
  HubImpl(HubOptions options, link::Link* link, OpenCanaryHandler canary);
  ~HubImpl() override;

  // Hub
  void Open(Subscriber* subscriber, ConnectionInfo info) override;
  void Close(Subscriber* subscriber, v1::ConnectionState state, std::string_view reason) override;
  void Subscribe(Subscriber* subscriber, const v1::Subscribe& subscribe,
                 const std::string& request_id) override;
  void Unsubscribe(Subscriber* subscriber, const v1::Unsubscribe& unsubscribe,
                   const std::string& request_id) override;
  void Ack(Subscriber* subscriber, const v1::Ack& ack, const std::string& request_id) override;
  void ProbeReply(Subscriber* subscriber, const v1::ProbeReply& reply) override;
  void OnRoom(Subscriber* subscriber) override;
  void BeginDrain() override;
  bool FollowsOpenRun(const Subscriber* subscriber) const override;
  void OnOverflow(Subscriber* subscriber) override;
  void BeginRest(Subscriber* subscriber) override;
  void Rest(Subscriber* subscriber, std::chrono::milliseconds lease) override;
  void Resume(Subscriber* subscriber, const Resumption& resumption) override;
  void ResumeAll(Subscriber* subscriber, bool full) override;
  bool Settled(const Subscriber* subscriber) const override;
  bool Answered(const Subscriber* subscriber) const override;
  void Report(v1::CanaryReport report) override;
  uint64_t replay_pages() const override { return puller_.pages(); }
  absl::Status attached() const override { return attached_; }
  bool ServesUserPages() const override { return user_pages_; }

  // LinkSink
  void OnUp() override;
  void OnMessages(std::vector<link::ToGateway> batch) override;
  void OnDown(const absl::Status& status) override;

 private:
  using SubscriptionPtr = boost::intrusive_ptr<Subscription>;
  using FeedPtr = boost::intrusive_ptr<Feed>;

  // Feeds by their thread's id, which only they hold.
  struct FeedHash {
    using is_transparent = void;
    size_t operator()(std::string_view id) const { return absl::HashOf(id); }
    size_t operator()(const FeedPtr& feed) const { return (*this)(feed->thread().str()); }
  };
  struct FeedEq {
    using is_transparent = void;
    static std::string_view Id(std::string_view id) { return id; }
    static std::string_view Id(const FeedPtr& feed) { return feed->thread().str(); }
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      return Id(a) == Id(b);
    }
  };

  // An ack on its way, until it is answered or its connection closes; it may outlive its
  // subscription. Without a request_id only a failure is told.
  struct PendingAck {
    HubConnection* connection;
    FeedPtr feed;
    std::string request_id;
  };
  static std::string_view Text(const absl::Status& status) {
    return {status.message().data(), status.message().size()};
  }
  // A page that follows a thread asked to follow it: what it is told comes from the service.
  struct Query {
    SubscriptionPtr subscription;
    std::string request_id;
  };
  // What an `error` frame says besides its reason.
  struct ErrorText {
    std::string_view message;
    const std::string& request_id;
    std::string_view thread;
  };

  static constexpr std::chrono::milliseconds kFirstPause{1'000};
  static constexpr std::chrono::milliseconds kLongestPause{60'000};
  // None of those that are restored was answered for so long: they hold up the others no longer.
  static constexpr std::chrono::milliseconds kRestoreWait{5'000};

  // PullHandler
  void OnPulled(Subscription& subscription, const Chunk& page, uint32_t turns) override;
  void OnPulled(Feed& feed, const Feed::Ticket& ticket, const Chunk& page) override;
  void OnUnreadable(Subscription& subscription, const absl::Status& status) override;
  void OnUnreadable(Feed& feed, const absl::Status& status) override;

  // ---- hub.cc ----
  // Ends the connection here; `closed` is what the service is told, but for its id.
  void End(HubConnection& connection, v1::ConnectionClosed closed);
  HubConnection* Find(const Subscriber* subscriber) const;
  // How a poll ends whose page polls again, here or elsewhere: a page that waits for it all the
  // same is told to ask again for what was not answered.
  CloseCode OvertakenCode(const Subscriber* subscriber) const;
  Feed* FindFeed(std::string_view thread) const;
  Subscription* FindSubscription(const HubConnection& connection, std::string_view thread) const;
  Subscription& AddSubscription(HubConnection& connection, const std::string& thread, bool by_all);
  // Ends it on this side; tells the page nothing, and the service what waits for it: GONE to its
  // binds.
  void Remove(Subscription& subscription);
  // Lets a replaying subscription join, or asks for its next page.
  void Settle(Subscription& subscription, LogEnd end);
  // Does what the feed decided.
  void AfterFeed(Feed& feed);
  static void SendError(Subscriber* subscriber, Reason reason, const ErrorText& text);
  static void SendError(Subscriber* subscriber, std::string_view code, const ErrorText& text);

  // ---- hub_frames.cc ----
  void SubscribeAll(HubConnection& connection, const v1::Subscribe& subscribe,
                    const std::string& request_id);
  void UnsubscribeAll(HubConnection& connection);
  void EndAllWithError(HubConnection& connection, std::string_view code, std::string_view message);
  // Until it is answered: at most subscribe_timeout.
  void AwaitAnswer(uint64_t id);
  void SubscribeAgain(Subscription& subscription, std::string request_id, StartAt start);
  // It runs and goes on: asks the service only for what to answer.
  void AskInPlace(Subscription& subscription, std::string request_id);
  // Asks the service under a new id.
  void AskAgain(Subscription& subscription, std::string request_id, StartAt start);
  void ExpireAnswers();
  void EndWithError(Subscription& subscription, std::string_view code, std::string_view message);
  // As EndWithError; but what may be had later is kept and asked for again, if it is of {all} or
  // was confirmed, or told to be a claim, once: its page did not ask just now, and would not know
  // that it has to. Except a thread by name that a limit of its user's keeps out: set aside, it
  // would wait for others to leave.
  void EndOrSetAside(Subscription& subscription, std::string_view code, std::string_view message);
  void AskSetAside();
  void AskSetAside(Subscription& subscription);
  // Gives it a new id towards the service; returns the old one.
  uint64_t Rename(Subscription& subscription);
  // Moves out the ids of the page's frames that wait for it, at least one.
  static std::vector<std::string> TakeAsked(Subscription& subscription);

  // ---- hub_link.cc ----
  void Say(v1::GatewayMessage message) { link_->Send(std::move(message)); }
  // Goes on with what the service is to be asked for again, as far as it has answered.
  void Restore();
  void Restore(HubConnection& connection);
  void OnRestoreWait();
  // No answer to it is waited for any more.
  void EndRestore(uint64_t id) { answered_ = restoring_.erase(id) > 0 || answered_; }
  void SayOpened(HubConnection& connection);
  void SaySubscribe(Subscription& subscription);
  void SayQuery(const Subscription& subscription, uint64_t id);
  void SayUnsubscribe(uint64_t id);
  void SaySubscribeAll(const HubConnection& connection);
  void AskAll(HubConnection& connection);
  void SendAway();
  void SayBindResult(uint64_t bind, v1::BindOutcome outcome);
  // Those that wait for the subscription; each is answered once.
  void AnswerBinds(Subscription& subscription, v1::BindOutcome outcome);
  // The service hears that the page has heard, now or once it has.
  void Confirm(Subscription& subscription);
  void ConfirmOnceHeard(Subscription& subscription);
  void OnMessage(const v1::ServiceMessage& message);
  void OnLive(link::Live live);
  void OnStarted(const v1::SubscriptionStarted& started);
  void OnAnswered(const Query& query, const v1::SubscriptionStarted& started);
  void OnClaim(Subscription& subscription);
  void OnAllSubscribed(const v1::AllSubscribed& subscribed);
  void OnAllLimited(const v1::AllLimited& limited);
  void OnConnectionRefused(const v1::ConnectionRefused& refused);
  void OnRefused(const v1::SubscriptionRefused& refused);
  void OnLagging(const v1::Lagging& lagging);
  void OnBind(const v1::Bind& bind);
  void OnAckResult(const v1::AckResult& result);
  void OnFloorRaised(const v1::FloorRaised& raised);
  void OnProbe(const v1::ProbeConnection& probe);
  void OnDeliverFrames(const v1::DeliverFrames& deliver);

  const HubOptions options_;
  link::Link* const link_;
  const OpenCanaryHandler canary_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  RecentLimits recent_limits_;
  Puller puller_;
  SentReports sent_;
  absl::flat_hash_map<const Subscriber*, std::unique_ptr<HubConnection>> connections_;
  absl::flat_hash_map<std::string_view, HubConnection*> connections_by_id_;
  absl::flat_hash_set<FeedPtr, FeedHash, FeedEq> feeds_;
  absl::flat_hash_map<uint64_t, SubscriptionPtr> subscriptions_;
  absl::flat_hash_map<uint64_t, PendingAck> acks_;
  absl::flat_hash_map<uint64_t, Query> queries_;               // by subscription_id
  absl::flat_hash_map<uint64_t, HubConnection*> all_asked_;    // by AllThreads::asked
  absl::flat_hash_map<uint64_t, HubConnection*> all_listing_;  // by AllThreads::listing
  // The service says when it has named all threads (link::kAllListed).
  bool all_listed_ = false;
  // Usually all threads are in the same epoch: one name for all.
  SharedEpoch newest_epoch_;
  // Ids of subscriptions that wait for an answer: those of this half of the time-out, and of the
  // last.
  std::vector<uint64_t> waiting_;
  std::vector<uint64_t> waiting_longer_;
  bool waiting_armed_ = false;
  // All are asked for together, after a while that grows until one like them starts.
  std::vector<SubscriptionPtr> set_aside_;
  bool set_aside_armed_ = false;
  std::chrono::milliseconds pause_ = kFirstPause;
  // To be restored: connections, not opened yet unless they are others by now; then subscriptions
  // that were set aside.
  std::vector<Subscriber*> unopened_;
  std::vector<SubscriptionPtr> due_again_;
  // What was said of them and is not answered, by subscription_id.
  absl::flat_hash_set<uint64_t> restoring_;
  bool restore_armed_ = false;
  // Some were answered since it was armed.
  bool answered_ = false;
  bool draining_ = false;
  uint64_t last_opening_ = 0;
  uint64_t last_subscription_ = 0;
  uint64_t last_ack_ = 0;
  uint32_t last_source_ = 0;
  // The link reached a service, which may yet refuse this gateway: see attached_.
  bool up_ = false;
  bool user_pages_ = false;
  absl::Status attached_ = absl::UnavailableError("no service was reached yet");
  // Lines about the link: a service that takes it and drops it at once would fill the log.
  FailureLimiter link_lines_;
};

}  // namespace clarion::gateway
