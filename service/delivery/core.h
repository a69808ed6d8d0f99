// Delivery's inside: one registry under one lock, and the rules between its parts.
//
// Lock. `mutex_` guards everything; it is taken once for each commit of a followed thread, for each
// thread that gets an owner, and for each batch of messages from a gateway. Under it only leaf
// calls are made: SendLive and SendControl (which enqueue, see link.h) and the scheduler. What may
// call back, that is the log, watchers, callbacks and Attachment::Close, is put into a Deferred and
// done after the lock is gone.
//
// Order. The log calls its follower, and answers Follow, one at a time for each thread and in order
// of commit. Each such call is handled whole under `mutex_`, and what it says to an attachment is
// enqueued there, so that SubscriptionStarted stands in an attachment's stream exactly where its
// `last` is.
//
// Asking the log. A subscription needs the runs of its thread, which only the log has, so each
// makes delivery follow the thread again, which is cheap; all that wait when an answer comes are
// served by it. Follow and Unfollow of one thread never overlap (Followed::asking, leaving).
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "proto/base/mutex.h"
#include "service/delivery/binding.h"
#include "service/delivery/deferred.h"
#include "service/delivery/delivery.h"
#include "service/delivery/feeds.h"
#include "service/delivery/page_turns.h"
#include "service/delivery/passing.h"
#include "service/delivery/probes.h"
#include "service/delivery/progress.h"
#include "service/delivery/readiness.h"
#include "service/delivery/receipts.h"
#include "service/delivery/records.h"
#include "service/delivery/registry.h"
#include "service/delivery/watch.h"

namespace clarion::delivery {

class Core final : public log::Follower,
                   public log::OwnerWatcher,
                   public std::enable_shared_from_this<Core> {
 public:
  Core(Options options, log::Log* log, Scheduler* scheduler);

  // ---- Delivery; see delivery.h (delivery.cc, pages.cc, questions.cc) ----
  std::shared_ptr<link::GatewaySession> OnAttached(std::shared_ptr<link::Attachment> carrier);
  void ReadPage(v1::ReadPageRequest request, link::PageCallback done);
  void Ask(v1::AskRequest request, link::AskCallback done);
  uint32_t Subscriptions(const ThreadId& thread) const;
  std::unique_ptr<Cancellation> AwaitReady(const UserId& user, const ThreadId& thread,
                                           v1::Readiness wanted, std::chrono::nanoseconds timeout,
                                           std::function<void(absl::StatusOr<ReadyState>)> done);
  std::unique_ptr<Cancellation> AwaitReceipt(const ThreadId& thread, const Position& position,
                                             v1::WaitFor wanted, std::chrono::nanoseconds timeout,
                                             std::function<void(v1::WaitOutcome)> done);
  Milestones MilestonesOf(const ThreadId& thread, const Position& event) const;
  std::unique_ptr<Cancellation> WatchReceipts(const ThreadId& thread,
                                              std::shared_ptr<ReceiptWatcher> watcher);
  void BindThread(const UserId& user, const ThreadId& thread, std::chrono::nanoseconds timeout,
                  std::function<void(std::vector<v1::BoundConnection>)> done);
  std::vector<v1::Connection> GetConnections(const UserId& user, const ThreadId& thread,
                                             bool include_gone) const;
  std::unique_ptr<Cancellation> WatchConnections(const UserId& user, const ThreadId& thread,
                                                 std::shared_ptr<ConnectionWatcher> watcher);
  std::vector<GatewayInfo> Gateways() const;
  bool OpenCanary(const GatewayId& gateway, v1::OpenCanary canary,
                  std::function<void(v1::CanaryReport)> report);
  void Stop();

  // ---- log::OwnerWatcher, log::Follower (subscriptions.cc; OnAcknowledged: receiving.cc) ----
  void OnThreadOwned(const ThreadId& thread, const UserId& owner) override;
  void OnAppended(const ThreadId& thread, const log::EventRun& run) override;
  void OnFloorRaised(const ThreadId& thread, Offset floor, log::FloorReason reason) override;
  void OnAcknowledged(const ThreadId& thread, Offset acknowledged) override;
  void OnInterrupted(const ThreadId& thread) override;
  void OnDeleted(const ThreadId& thread, Offset last) override;

  // ---- One attachment (attachments.cc) ----
  void OnMessages(Attached& attached, std::vector<v1::GatewayMessage> messages);
  void OnDetached(Attached& attached, const absl::Status& status);

  void Cancel(const std::shared_ptr<Waiter>& waiter);
  void Cancel(const std::shared_ptr<Watch>& watch);
  void Cancel(const std::shared_ptr<ReceiptWait>& wait);
  void Cancel(const std::shared_ptr<ReceiptWatch>& watch);

 private:
  // Attachments and connections (attachments.cc).
  void Handle(Attached& attached, v1::GatewayMessage& message, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Greet(Attached& attached, const v1::Hello& hello, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `newer` takes the place of `older`, which has its gateway_id.
  void TakeOver(Attached& newer, Attached& older, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends an attachment from our side; Reject: for a fault of the gateway's, which is logged.
  void End(Attached& attached, absl::Status status, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Reject(Attached& attached, absl::Status status, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Its connections are gone at once, unless they poll and have a lease; nothing it says counts any
  // more.
  void Forsake(Attached& attached, Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OpenConnection(Attached& attached, const v1::ConnectionOpened& opened, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Nothing that the connection asks for is served there.
  static void SayRefused(Attached& attached, const v1::ConnectionOpened& opened, Reason reason,
                         std::string_view message);
  // Why this attachment has no such connection.
  static absl::Status NoConnection(const Attached& attached, const ConnectionId& id);
  void CloseConnection(Connection& connection, v1::ConnectionState state, std::string_view reason,
                       Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // In order of opening, canaries' left out.
  std::vector<ConnectionId> FindConnections(const UserId& user, const ThreadId& thread,
                                            bool include_gone) const;
  void OnDraining(Attached& attached, Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReportCanary(const Attached& attached, v1::CanaryReport report, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // `subscribe` {all} (all_threads.cc).
  void SubscribeAll(Attached& attached, const v1::SubscribeAll& all, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ListAll(const ConnectionId& id, const UserId& user, uint64_t generation,
               const ThreadId& after);
  void OnListed(const ConnectionId& id, const UserId& user, uint64_t generation,
                const ThreadId& after, absl::StatusOr<std::vector<ThreadId>> page);
  static void SayListed(const Connection& connection);
  void BindAll(Connection& connection, const ThreadId& thread)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Connections that poll (resting.cc).
  enum class PollEnd : uint8_t {
    kSaid,    // by its gateway: what it did not ask for is followed no longer
    kCutOff,  // nobody knows what it was about to ask for: what rested goes on
  };
  // Its gateway has it no more: it rests. False: it does not, and is to be closed.
  [[nodiscard]] bool Rest(Connection& connection, PollEnd end, std::chrono::nanoseconds lease,
                          Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes it, with what it follows, from where it is to rest.
  void Park(Connection& connection, PollEnd end, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ParkSubscription(Subscription& subscription) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The timer of its lease.
  void EndRest(const Connection& connection) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountResting() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLease(const ConnectionId& id, uint64_t rest);
  // It polls again: on from its rest, or away from an opening that hangs elsewhere.
  void Reopen(Connection& connection, Attached& attached, uint64_t opening, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What the connection followed of this thread when it rested, if nothing took its place yet.
  static Subscription* AtRest(const Connection& connection, const Followed& thread);
  static void GoOnFromRest(Subscription& subscription, const v1::SubscribeThread& subscribe);
  // True: it took the place of one that counted, so that nothing has changed.
  bool TakeThePlaceAtRest(const Subscription& subscription, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Subscriptions (subscriptions.cc).
  void Subscribe(Attached& attached, const v1::SubscribeThread& subscribe, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Unsubscribe(Attached& attached, uint64_t id, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives back what it holds and destroys it. The connection's record stays as it is.
  void Drop(Subscription& subscription, Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Confirm(Subscription& subscription, Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Follows the thread (again): everybody who waits is served by the answer.
  void AskLog(Followed& thread, Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnState(const ThreadId& id, absl::StatusOr<log::ThreadState> state);
  void OnNoState(Followed& thread, const absl::Status& status, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ServeWaiting(Followed& thread, Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartSubscription(Subscription& subscription, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MakeClaim(Subscription& subscription, Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Refuse(Subscription& subscription, Reason reason, std::string_view message, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of a thread that is gone: the subscription follows what was the user's.
  static bool WasDeleted(const Subscription& subscription);
  void RefuseDeleted(Subscription& subscription, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of a connection that polls, for when it asks for the thread again.
  static void RememberDeleted(const Connection& connection, const ThreadId& thread,
                              const v1::Missed& missed);
  // The thread was deleted, which had `last`: those that run are told, and end.
  void EndDeleted(Followed& thread, Offset last, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Drops it, and what its connection is said to follow.
  void DropAndTell(Subscription& subscription, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UnfollowIfIdle(Followed& thread, Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // To gateways that drain, if a run is open. With a fresh state.
  static void SayBusy(const Followed& thread);
  void OnUnfollowed(const ThreadId& id);
  Followed* FindThread(const ThreadId& id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Begins it if need be.
  Followed& FollowedOf(const ThreadId& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Acks (acks.cc).
  void Ack(Attached& attached, const v1::AckThread& ack, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void JudgeAck(Subscription& subscription, const PendingAck& ack, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AskLogOf(const Subscription& subscription, const PendingAck& ack, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Answers those that wait for the start of a subscription that ends before it.
  static void RefuseAcks(Subscription& subscription, Reason reason, std::string_view why);

  // What pages have got and seen (receiving.cc).
  // Asks the pages that follow the thread.
  void ProbePages(const UserId& user, const ThreadId& thread) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void SayProbe(const Connection& connection, const std::string& nonce);
  void Probe(const Connection& connection) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // After a while, and again, while it is not answered and somebody waits.
  void RepeatProbe(const ConnectionId& id, const std::string& nonce);
  void OnProbeAnswered(const Attached& attached, const v1::ProbeAnswered& answered, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnEventsSent(const v1::EventsSent& sent, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Answers by how far the thread is now, or waits for so long; 0: answers in any case. The log is
  // asked of a thread that is not followed: an ack of it may be committed without our being told.
  void Wait(const std::shared_ptr<ReceiptWait>& wait, std::chrono::nanoseconds timeout,
            Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WaitFrom(const std::shared_ptr<ReceiptWait>& wait, const log::ThreadState& state,
                std::chrono::nanoseconds timeout, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What stands in its way now.
  v1::WaitOutcome OutcomeOf(const ReceiptWait& wait) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void SayAwaitSent(Attached& attached, const ThreadId& thread, const Position& position);
  // `at`: when the ack that moved W was committed; nothing: it may have moved at any time.
  void TellReceipt(const Followed& thread, std::optional<Scheduler::Wall> at, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Pages (pages.cc).
  struct PageRead;
  static absl::Status CheckPage(const v1::ReadPageRequest& request);
  void BeginPage(const std::shared_ptr<PageRead>& read);
  void ReadFrom(const std::shared_ptr<PageRead>& read, const log::ThreadState& state,
                const Position& after);
  void AskStateForPage(const std::shared_ptr<PageRead>& read);
  void ReadOn(const std::shared_ptr<PageRead>& read, Offset from);
  void OnPageRead(const std::shared_ptr<PageRead>& read, Offset from,
                  absl::StatusOr<log::ReadResult> result);
  // The numbering that it began with is over.
  void ReadAgain(const std::shared_ptr<PageRead>& read);
  // On behalf of a user (user_pages.cc).
  void BeginUserPage(const std::shared_ptr<PageRead>& read, const log::ThreadState& state);
  void ReadLastRuns(const std::shared_ptr<PageRead>& read);
  void ReadBefore(const std::shared_ptr<PageRead>& read, const log::ThreadState& state);
  void ReadWindow(const std::shared_ptr<PageRead>& read, Offset last);
  void ReadOnBackwards(const std::shared_ptr<PageRead>& read);
  void OnReadBackwards(const std::shared_ptr<PageRead>& read,
                       absl::StatusOr<log::ReadResult> result);

  // What browsers ask for (questions.cc).
  void ListUserThreads(const v1::ListThreadsRequest& question, link::AskCallback done);
  void PassFrames(v1::PassFrames question, link::AskCallback done);

  // What follows from a change.
  ReadyFacts FactsOf(const UserId& user, const ThreadId& thread) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `thread` null: the user's connections changed.
  void TellWaiters(const UserId& user, const ThreadId* thread, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SayBind(Connection& connection, uint64_t bind_id, const ThreadId& thread, bool all)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Calls `then` on this object, if it still is there, with the lock held after so long.
  Scheduler::TimerId After(std::chrono::nanoseconds time,
                           std::function<void(Core&, Deferred&)> then);
  // Calls `then` on this object, if it still is there, after a while.
  void Retry(std::function<void(Core&)> then);

  const Options options_;
  log::Log* const log_;
  Scheduler* const scheduler_;
  PageTurns page_turns_;

  mutable Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  Registry registry_ ABSL_GUARDED_BY(mutex_);
  // Greeted, not over; owned by their sessions. Ordered, for operators.
  std::map<GatewayId, std::shared_ptr<Attached>> gateways_ ABSL_GUARDED_BY(mutex_);
  // Attached, not greeted yet.
  std::vector<std::shared_ptr<Attached>> strangers_ ABSL_GUARDED_BY(mutex_);
  // Holds the connections that rest, and what rests of those that poll.
  Attached resting_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_at_rest_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t last_rest_ ABSL_GUARDED_BY(mutex_) = 0;
  TailBudget tail_budget_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<ThreadId, std::unique_ptr<Followed>> threads_ ABSL_GUARDED_BY(mutex_);
  Readiness readiness_ ABSL_GUARDED_BY(mutex_);
  Binding binding_ ABSL_GUARDED_BY(mutex_);
  Watchers watchers_ ABSL_GUARDED_BY(mutex_);
  Probes probes_ ABSL_GUARDED_BY(mutex_);
  Passing passing_ ABSL_GUARDED_BY(mutex_);
  Receipts receipts_ ABSL_GUARDED_BY(mutex_);
  Progress progress_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_all_generation_ ABSL_GUARDED_BY(mutex_) = 0;
  struct CanaryCheck {
    std::shared_ptr<std::function<void(v1::CanaryReport)>> report;
    uint64_t generation = 0;
  };
  uint64_t last_canary_ ABSL_GUARDED_BY(mutex_) = 0;
  // By gateway and check_id.
  std::map<std::pair<GatewayId, std::string>, CanaryCheck> canaries_ ABSL_GUARDED_BY(mutex_);
};

// What a caller holds.
template <class T>
class CoreCancellation final : public Cancellation {
 public:
  CoreCancellation(std::shared_ptr<Core> core, std::shared_ptr<T> what)
      : core_(std::move(core)), what_(std::move(what)) {}
  ~CoreCancellation() override { core_->Cancel(what_); }

 private:
  const std::shared_ptr<Core> core_;
  const std::shared_ptr<T> what_;
};

// What whoever waits is told when the service stops.
absl::Status Stopping();

}  // namespace clarion::delivery
