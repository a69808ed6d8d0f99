// Attachments, connections and what gateways say of them.
#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "proto/contract/error.h"
#include "proto/contract/timestamp.h"
#include "proto/link/capability.h"
#include "service/delivery/core.h"
#include "telemetry/log.h"

namespace clarion::delivery {
namespace {

constexpr uint32_t kVersion = 1;

// Threads that are remembered with a connection that went.
constexpr size_t kMaxRememberedThreads = 64;

// Threads whose runs a gateway that drains is told of: the log's queue has room for that many.
constexpr size_t kMaxAskedForRuns = 4'096;

// Of one gateway_id. Far more than anybody starts by mistake.
constexpr size_t kMaxDisplaced = 256;

constexpr std::string_view kTooManyConnections =
    "the user holds as many connections as --max-user-connections allows";

class Session final : public link::GatewaySession {
 public:
  Session(std::shared_ptr<Core> core, std::shared_ptr<Attached> attached)
      : core_(std::move(core)), attached_(std::move(attached)) {}

  void OnMessages(std::vector<v1::GatewayMessage> messages) override {
    core_->OnMessages(*attached_, std::move(messages));
  }
  void OnDetached(const absl::Status& status) override { core_->OnDetached(*attached_, status); }

 private:
  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Attached> attached_;
};

absl::Status Check(const v1::Hello& hello) {
  const ErrorContext context{.operation = "Attach"};
  if (!absl::c_linear_search(hello.versions(), kVersion)) {
    return MakeError(
        Reason::kContextInvalid,
        absl::StrCat("gateway '", hello.gateway_id(),
                     "' speaks no version of the link that this service speaks, which is ",
                     kVersion, "; update the older of both"),
        context);
  }
  if (!ValidId(hello.gateway_id())) {
    return MakeError(Reason::kContextInvalid, "Hello names no valid gateway_id", context);
  }
  if (!hello.instance().empty() && !ValidId(hello.instance())) {
    return MakeError(Reason::kContextInvalid, "Hello names no valid instance", context);
  }
  return absl::OkStatus();
}

std::chrono::nanoseconds LeaseOf(const v1::ConnectionClosed& closed) {
  const std::chrono::seconds seconds(std::clamp<int64_t>(closed.lease().seconds(), 0, 1'000'000));
  return seconds + std::chrono::nanoseconds(closed.lease().nanos());
}

// What a gateway is told whose place `newer` has.
absl::Status Displaced(const Attached& newer) {
  return MakeError(
      Reason::kGatewayDisplaced,
      absl::StrCat("another gateway with the id '", newer.gateway.str(), "' is attached from ",
                   newer.carrier->peer(), "; each needs a --gateway-id of its own"),
      {.operation = "Attach"});
}

}  // namespace

std::shared_ptr<link::GatewaySession> Core::OnAttached(std::shared_ptr<link::Attachment> carrier) {
  auto attached = std::make_shared<Attached>();
  attached->carrier = std::move(carrier);
  Deferred after;
  MutexLock lock(mutex_);
  strangers_.push_back(attached);
  if (stopped_) {
    End(*attached, Stopping(), after);
  }
  return std::make_shared<Session>(shared_from_this(), attached);
}

void Core::OnMessages(Attached& attached, std::vector<v1::GatewayMessage> messages) {
  Deferred after;
  MutexLock lock(mutex_);
  for (v1::GatewayMessage& message : messages) {
    if (attached.over) return;
    Handle(attached, message, after);
  }
}

void Core::Handle(Attached& attached, v1::GatewayMessage& message, Deferred& after) {
  using Kind = v1::GatewayMessage;
  const bool is_hello = message.message_case() == Kind::kHello;
  if (is_hello == attached.greeted) {
    const char* what = is_hello ? "a second Hello" : "the first message is not Hello";
    return Reject(attached, MakeError(Reason::kContextInvalid, what, {.operation = "Attach"}),
                  after);
  }
  switch (message.message_case()) {
    case Kind::kHello:
      return Greet(attached, message.hello(), after);
    case Kind::kConnectionOpened:
      return OpenConnection(attached, message.connection_opened(), after);
    case Kind::kConnectionClosed: {
      const v1::ConnectionClosed& closed = message.connection_closed();
      const ConnectionId id(closed.connection_id());
      attached.refused.erase(id);
      const auto found = attached.connections.find(id);
      if (found == attached.connections.end()) return;
      if (found->second->polling != nullptr && closed.limit_told())
        found->second->polling->limit_told = true;
      if (Rest(*found->second, PollEnd::kSaid, LeaseOf(closed), after)) return;
      const bool fault = closed.state() == v1::CONNECTION_STATE_ERROR;
      return CloseConnection(*found->second,
                             fault ? v1::CONNECTION_STATE_ERROR : v1::CONNECTION_STATE_DISCONNECTED,
                             closed.reason(), after);
    }
    case Kind::kSubscribe:
      return Subscribe(attached, message.subscribe(), after);
    case Kind::kSubscribeAll:
      return SubscribeAll(attached, message.subscribe_all(), after);
    case Kind::kUnsubscribe:
      return Unsubscribe(attached, message.unsubscribe().subscription_id(), after);
    case Kind::kConfirmed: {
      const auto found = attached.subscriptions.find(message.confirmed().subscription_id());
      if (found != attached.subscriptions.end()) Confirm(*found->second, after);
      return;
    }
    case Kind::kAck:
      return Ack(attached, message.ack(), after);
    case Kind::kFollow: {
      Followed* thread = FindThread(ThreadId(message.follow().thread_id()));
      const v1::Position& position = message.follow().position();
      if (thread != nullptr) {
        thread->Resume(&attached, {Epoch(position.epoch()), Offset(position.offset())});
      }
      return;
    }
    case Kind::kBindResult:
      return binding_.OnResult(attached, message.bind_result().bind_id(),
                               message.bind_result().outcome(), after);
    case Kind::kProbeAnswered:
      return OnProbeAnswered(attached, message.probe_answered(), after);
    case Kind::kEventsSent:
      return OnEventsSent(message.events_sent(), after);
    case Kind::kFramesDelivered:
      return passing_.OnDelivered(attached, message.frames_delivered(), after);
    case Kind::kDraining:
      return OnDraining(attached, after);
    case Kind::kCanaryReport:
      return ReportCanary(attached, std::move(*message.mutable_canary_report()), after);
    case Kind::kHeartbeat: {
      v1::ServiceMessage answer;
      answer.mutable_heartbeat();
      return attached.Say(std::move(answer));
    }
    case Kind::MESSAGE_NOT_SET:
      return;  // a newer gateway's
  }
}

void Core::Greet(Attached& attached, const v1::Hello& hello, Deferred& after) {
  if (absl::Status status = Check(hello); !status.ok()) {
    return Reject(attached, std::move(status), after);
  }
  const GatewayId id(hello.gateway_id());
  const auto holder = gateways_.find(id);
  const std::shared_ptr<Attached> older = holder == gateways_.end() ? nullptr : holder->second;
  attached.instance = hello.instance();
  if (older != nullptr && absl::c_linear_search(older->displaced, attached.instance)) {
    return Reject(attached, Displaced(*older), after);
  }
  attached.gateway = id;
  attached.greeted = true;
  const auto self = std::find_if(strangers_.begin(), strangers_.end(),
                                 [&](const auto& stranger) { return stranger.get() == &attached; });
  gateways_[id] = *self;
  strangers_.erase(self);
  if (older != nullptr) TakeOver(attached, *older, after);
  Log(Severity::kInfo, "gateway attached",
      {{"gateway_id", id.str()}, {"peer", attached.carrier->peer()}});
  v1::ServiceMessage answer;
  answer.mutable_welcome()->set_service_id(options_.service_id);
  answer.mutable_welcome()->set_version(kVersion);
  answer.mutable_welcome()->add_capabilities(std::string(link::kUserPages));
  answer.mutable_welcome()->add_capabilities(std::string(link::kResting));
  answer.mutable_welcome()->add_capabilities(std::string(link::kAllListed));
  attached.Say(std::move(answer));
}

// The newest wins: it may be the same gateway, started again while the end of its last life is not
// known here. Where both live, the older one must not take its place back, or they would go on for
// ever.
void Core::TakeOver(Attached& newer, Attached& older, Deferred& after) {
  newer.displaced = std::move(older.displaced);
  if (newer.instance == older.instance) {
    return End(older, MakeError(Reason::kGatewayUnavailable, "the gateway attached anew"), after);
  }
  if (newer.displaced.size() >= kMaxDisplaced) newer.displaced.erase(newer.displaced.begin());
  // Gateways that do not say their instance cannot be told apart: they are never refused.
  if (!older.instance.empty()) newer.displaced.push_back(older.instance);
  Log(Severity::kWarning, "a gateway takes the place of another with its id",
      {{"gateway_id", newer.gateway.str()},
       {"peer", newer.carrier->peer()},
       {"displaced_peer", older.carrier->peer()}});
  End(older, Displaced(newer), after);
}

void Core::Reject(Attached& attached, absl::Status status, Deferred& after) {
  LogFailure(status);
  End(attached, std::move(status), after);
}

void Core::End(Attached& attached, absl::Status status, Deferred& after) {
  Forsake(attached, after);
  after.Add([carrier = attached.carrier, status = std::move(status)] { carrier->Close(status); });
}

void Core::OnDetached(Attached& attached, const absl::Status& status) {
  Deferred after;
  MutexLock lock(mutex_);
  if (!attached.over) {
    Log(Severity::kWarning, "gateway detached",
        {{"gateway_id", attached.gateway.str()}, {"cause", std::string(status.message())}});
    Forsake(attached, after);
  }
  // Released without the lock: it may be the last reference.
  after.Add([carrier = std::exchange(attached.carrier, nullptr)] {});
}

void Core::Forsake(Attached& attached, Deferred& after) {
  if (std::exchange(attached.over, true)) return;
  while (!attached.connections.empty()) {
    Connection& connection = *attached.connections.begin()->second;
    // Its browser polls again, wherever it gets.
    if (connection.polling != nullptr &&
        Rest(connection, PollEnd::kCutOff, connection.polling->lease, after))
      continue;
    CloseConnection(connection, v1::CONNECTION_STATE_DISCONNECTED,
                    NameOf(Reason::kGatewayUnavailable), after);
  }
  attached.refused.clear();
  std::erase_if(strangers_, [&](const auto& stranger) { return stranger.get() == &attached; });
  const auto found = gateways_.find(attached.gateway);
  if (found != gateways_.end() && found->second.get() == &attached) gateways_.erase(found);
}

void Core::OpenConnection(Attached& attached, const v1::ConnectionOpened& opened, Deferred& after) {
  const ConnectionId id(opened.connection_id());
  const auto refuse = [&](Reason reason, std::string_view message) {
    if (reason == Reason::kRateLimited) attached.refused.insert(id);
    LogFailure(MakeError(reason, message, {.user_id = opened.user_id(), .operation = "connect"}));
    SayRefused(attached, opened, reason, message);
  };
  if (!ValidId(opened.connection_id()) || !ValidId(opened.user_id())) {
    return refuse(Reason::kContextInvalid, "ConnectionOpened without valid ids");
  }
  if (Connection* known = registry_.Find(id); known != nullptr && known->open()) {
    const bool polls = opened.transport() == v1::TRANSPORT_POLLING;
    if (known->user.str() != opened.user_id() || polls != (known->polling != nullptr)) {
      return refuse(Reason::kNotFound, "there is no such connection");
    }
    if (known->attached == &attached) return;
    if (polls) return Reopen(*known, attached, opened.opening(), after);
    // The newest word counts, as with attachments.
    CloseConnection(*known, v1::CONNECTION_STATE_DISCONNECTED, NameOf(Reason::kGatewayUnavailable),
                    after);
  }
  Connection* connection = registry_.Open(&attached, opened);
  if (connection == nullptr) return refuse(Reason::kRateLimited, kTooManyConnections);
  if (connection->polling != nullptr) connection->polling->opening = opened.opening();
  watchers_.Changed(*connection, nullptr, after);
  TellWaiters(connection->user, nullptr, after);
}

void Core::SayRefused(Attached& attached, const v1::ConnectionOpened& opened, Reason reason,
                      std::string_view message) {
  v1::ServiceMessage said;
  v1::ConnectionRefused& refused = *said.mutable_connection_refused();
  refused.set_connection_id(opened.connection_id());
  refused.set_opening(opened.opening());
  refused.set_reason(std::string(NameOf(reason)));
  refused.set_message(std::string(message));
  attached.Say(std::move(said));
}

absl::Status Core::NoConnection(const Attached& attached, const ConnectionId& id) {
  return attached.refused.contains(id) ? MakeError(Reason::kRateLimited, kTooManyConnections)
                                       : MakeError(Reason::kNotFound, "no such connection");
}

void Core::CloseConnection(Connection& connection, v1::ConnectionState state,
                           std::string_view reason, Deferred& after) {
  // What it followed until now is part of its last state; Drop leaves that alone.
  while (!connection.subscriptions.empty()) Drop(*connection.subscriptions.back(), after);
  while (connection.followed.size() > kMaxRememberedThreads) {
    connection.followed.erase(std::prev(connection.followed.end()));
  }
  binding_.OnGone(connection, after);
  probes_.OnGone(connection);
  passing_.OnGone(connection, after);
  EndRest(connection);
  registry_.Close(connection, state, reason);
  CountResting();
  watchers_.Changed(connection, nullptr, after);
  TellWaiters(connection.user, nullptr, after);
  registry_.Forget();
}

void Core::OnDraining(Attached& attached, Deferred& after) {
  attached.draining = true;
  size_t asked = 0;
  for (const auto& [id, thread] : threads_) {
    if (!thread->FeedsTo(&attached)) continue;
    AskLog(*thread, after);  // which runs are open only the log knows
    if (++asked == kMaxAskedForRuns) return;
  }
}

void Core::ReportCanary(const Attached& attached, v1::CanaryReport report, Deferred& after) {
  const auto found = canaries_.find({attached.gateway, report.check_id()});
  if (found == canaries_.end()) return;
  after.Add([call = found->second.report, report = std::move(report)] { (*call)(report); });
}

}  // namespace clarion::delivery
