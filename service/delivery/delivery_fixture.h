// The vocabulary of delivery's tests: gateways that say things, and what they hear, as short texts.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/manual_scheduler.h"
#include "proto/contract/error.h"
#include "service/delivery/delivery.h"
#include "service/delivery/fake_attachment.h"
#include "service/delivery/fake_log.h"

namespace clarion::delivery {

inline v1::Position PositionOf(const std::string& epoch, uint64_t offset) {
  v1::Position position;
  position.set_epoch(epoch);
  position.set_offset(offset);
  return position;
}

inline std::string Describe(const v1::Missed& missed) {
  std::string text = absl::StrCat(missed.from_offset(), "..", missed.to_offset());
  if (missed.has_discard_after()) absl::StrAppend(&text, " keep ", missed.discard_after());
  return text;
}

// `started 1 last=e1:3 from=2`, `live t e1:4 four five`, `lagging t e1:5` and so on.
inline std::string Describe(const link::ToGateway& said) {
  if (const auto* live = std::get_if<link::Live>(&said)) {
    std::string text =
        absl::StrCat("live ", live->thread.str(), " ", live->epoch.str(), ":", live->first.value());
    for (const EventPtr& event : live->events)
      absl::StrAppend(&text, " ", std::string(event->json()));
    return text;
  }
  const auto& message = std::get<v1::ServiceMessage>(said);
  switch (message.message_case()) {
    case v1::ServiceMessage::kWelcome:
      return absl::StrCat("welcome ", message.welcome().version());
    case v1::ServiceMessage::kStarted: {
      const v1::SubscriptionStarted& started = message.started();
      if (started.claim()) return absl::StrCat("claim ", started.subscription_id());
      std::string text =
          absl::StrCat("started ", started.subscription_id(), " last=", started.last().epoch(), ":",
                       started.last().offset(), " from=", started.from_offset());
      for (const auto& missed : started.missed()) {
        absl::StrAppend(&text, " missed=", Describe(missed));
      }
      for (const auto& run : started.active_runs()) {
        absl::StrAppend(&text, " run=", run.run_id(), "@", run.offset());
      }
      return text;
    }
    case v1::ServiceMessage::kRefused:
      return absl::StrCat(
          "refused ", message.refused().subscription_id(), " ", message.refused().reason(),
          message.refused().has_missed() ? " deleted=" + Describe(message.refused().missed()) : "");
    case v1::ServiceMessage::kLagging:
      return absl::StrCat("lagging ", message.lagging().thread_id(), " ",
                          message.lagging().from().epoch(), ":", message.lagging().from().offset());
    case v1::ServiceMessage::kBind:
      return absl::StrCat("bind ", message.bind().connection_id(), " ", message.bind().thread_id(),
                          message.bind().all() ? " all" : "");
    case v1::ServiceMessage::kAckResult:
      return absl::StrCat(
          "acked ", message.ack_result().ack_id(), " ",
          message.ack_result().reason().empty() ? "ok" : message.ack_result().reason(), " ",
          message.ack_result().acknowledged());
    case v1::ServiceMessage::kFloorRaised:
      return absl::StrCat("floor ", message.floor_raised().thread_id(), " ",
                          message.floor_raised().floor());
    case v1::ServiceMessage::kAllSubscribed:
      return absl::StrCat(
          "all ", message.all_subscribed().subscription_id(), " ",
          message.all_subscribed().reason().empty() ? "ok" : message.all_subscribed().reason());
    case v1::ServiceMessage::kAllLimited:
      return absl::StrCat("no more ", message.all_limited().connection_id(), " ",
                          message.all_limited().thread_id());
    case v1::ServiceMessage::kConnectionRefused:
      return absl::StrCat("no connection ", message.connection_refused().connection_id(), " ",
                          message.connection_refused().reason(),
                          message.connection_refused().opening() == 0
                              ? ""
                              : absl::StrCat(" of ", message.connection_refused().opening()),
                          message.connection_refused().overtaken() ? ", overtaken" : "");
    case v1::ServiceMessage::kOpenCanary:
      return absl::StrCat("canary ", message.open_canary().check_id());
    case v1::ServiceMessage::kHeartbeat:
      return "heartbeat";
    case v1::ServiceMessage::kThreadBusy:
      return absl::StrCat("busy ", message.thread_busy().thread_id());
    case v1::ServiceMessage::kProbe:
      return absl::StrCat("probe ", message.probe().connection_id());
    case v1::ServiceMessage::kDeliverFrames:
      return absl::StrCat("frames ", message.deliver_frames().frames().connection_id(), " ",
                          message.deliver_frames().frames().sequence(), " ",
                          message.deliver_frames().frames().frames());
    case v1::ServiceMessage::kAwaitSent:
      return absl::StrCat("await ", message.await_sent().thread_id(), " ",
                          message.await_sent().position().epoch(), ":",
                          message.await_sent().position().offset());
    default:
      return "?";
  }
}

// One attachment of a gateway.
class TestGateway {
 public:
  TestGateway(Delivery& delivery, const std::string& id, const std::string& instance = "")
      : carrier_(std::make_shared<FakeAttachment>()), session_(delivery.OnAttached(carrier_)) {
    v1::GatewayMessage message;
    message.mutable_hello()->set_gateway_id(id);
    message.mutable_hello()->set_instance(instance);
    message.mutable_hello()->add_versions(1);
    message.mutable_hello()->set_want_json(true);
    Say(message);
  }

  FakeAttachment& carrier() { return *carrier_; }
  void Say(v1::GatewayMessage message) {
    std::vector<v1::GatewayMessage> batch;
    batch.push_back(std::move(message));
    session_->OnMessages(std::move(batch));
  }
  void Detach() { session_->OnDetached(absl::UnavailableError("the stream broke")); }

  void Open(const std::string& connection, const std::string& user) {
    v1::GatewayMessage message;
    v1::ConnectionOpened& opened = *message.mutable_connection_opened();
    opened.set_connection_id(connection);
    opened.set_user_id(user);
    opened.set_transport(v1::TRANSPORT_WEBSOCKET);
    Say(message);
  }
  // One that polls: begins, or polls again.
  void Poll(const std::string& connection, const std::string& user, uint64_t opening = 0) {
    v1::GatewayMessage message;
    v1::ConnectionOpened& opened = *message.mutable_connection_opened();
    opened.set_connection_id(connection);
    opened.set_opening(opening);
    opened.set_user_id(user);
    opened.set_transport(v1::TRANSPORT_POLLING);
    Say(message);
  }
  // The end of a poll.
  void Rest(const std::string& connection, int64_t lease_seconds = 30, bool limit_told = false) {
    v1::GatewayMessage message;
    message.mutable_connection_closed()->set_limit_told(limit_told);
    message.mutable_connection_closed()->set_connection_id(connection);
    message.mutable_connection_closed()->set_state(v1::CONNECTION_STATE_DISCONNECTED);
    message.mutable_connection_closed()->set_reason("POLL");
    message.mutable_connection_closed()->mutable_lease()->set_seconds(lease_seconds);
    Say(message);
  }
  void CloseConnection(const std::string& connection,
                       v1::ConnectionState state = v1::CONNECTION_STATE_DISCONNECTED) {
    v1::GatewayMessage message;
    message.mutable_connection_closed()->set_connection_id(connection);
    message.mutable_connection_closed()->set_state(state);
    message.mutable_connection_closed()->set_reason("CLOSED");
    Say(message);
  }
  static v1::GatewayMessage Subscription(const std::string& connection, uint64_t id,
                                         const std::string& thread,
                                         v1::StartFrom from = v1::START_FROM_START) {
    v1::GatewayMessage message;
    v1::SubscribeThread& subscribe = *message.mutable_subscribe();
    subscribe.set_connection_id(connection);
    subscribe.set_subscription_id(id);
    subscribe.set_thread_id(thread);
    subscribe.set_from(from);
    return message;
  }
  void Subscribe(const std::string& connection, uint64_t id, const std::string& thread,
                 v1::StartFrom from = v1::START_FROM_START) {
    Say(Subscription(connection, id, thread, from));
  }
  void SubscribeAfter(const std::string& connection, uint64_t id, const std::string& thread,
                      v1::Position after, bool restored = false, bool unheard = false) {
    v1::GatewayMessage message = Subscription(connection, id, thread);
    *message.mutable_subscribe()->mutable_after() = std::move(after);
    message.mutable_subscribe()->set_restored(restored);
    message.mutable_subscribe()->set_unheard(unheard);
    Say(message);
  }
  void Unsubscribe(uint64_t id) {
    v1::GatewayMessage message;
    message.mutable_unsubscribe()->set_subscription_id(id);
    Say(message);
  }
  void Confirm(uint64_t id) {
    v1::GatewayMessage message;
    message.mutable_confirmed()->set_subscription_id(id);
    Say(message);
  }
  void Follow(const std::string& thread, v1::Position position) {
    v1::GatewayMessage message;
    message.mutable_follow()->set_thread_id(thread);
    *message.mutable_follow()->mutable_position() = std::move(position);
    Say(message);
  }
  void Ack(uint64_t subscription, v1::Position position, uint64_t last_sent, uint64_t ack_id = 1) {
    v1::GatewayMessage message;
    v1::AckThread& ack = *message.mutable_ack();
    ack.set_subscription_id(subscription);
    *ack.mutable_position() = std::move(position);
    ack.set_last_sent_offset(last_sent);
    ack.set_ack_id(ack_id);
    Say(message);
  }
  void SubscribeAll(const std::string& connection, bool on = true, uint64_t id = 7) {
    v1::GatewayMessage message;
    if (on) message.mutable_subscribe_all()->set_subscription_id(id);
    message.mutable_subscribe_all()->set_connection_id(connection);
    message.mutable_subscribe_all()->set_on(on);
    Say(message);
  }
  void BindResult(uint64_t bind_id, v1::BindOutcome outcome) {
    v1::GatewayMessage message;
    message.mutable_bind_result()->set_bind_id(bind_id);
    message.mutable_bind_result()->set_outcome(outcome);
    Say(message);
  }

  void AnswerProbe(const std::string& connection, const std::string& nonce) {
    v1::GatewayMessage message;
    message.mutable_probe_answered()->set_connection_id(connection);
    message.mutable_probe_answered()->set_nonce(nonce);
    Say(message);
  }
  // Answers the DeliverFrames that was heard last.
  void Delivered(uint64_t deliver_id, uint64_t next_sequence, const std::string& reason = "") {
    v1::GatewayMessage message;
    message.mutable_frames_delivered()->set_deliver_id(deliver_id);
    message.mutable_frames_delivered()->set_next_sequence(next_sequence);
    message.mutable_frames_delivered()->set_reason(reason);
    Say(message);
  }
  void Drain() {
    v1::GatewayMessage message;
    message.mutable_draining();
    Say(message);
  }
  void Sent(const std::string& thread, v1::Position position, uint64_t from = 1) {
    v1::GatewayMessage message;
    v1::SentThread& sent = *message.mutable_events_sent()->add_threads();
    sent.set_thread_id(thread);
    *sent.mutable_position() = std::move(position);
    sent.set_from_offset(from);
    Say(message);
  }
  // Of the probes that came since what was heard last: the last one's.
  std::string TakeNonce() {
    std::string nonce;
    for (const auto& said : carrier_->TakeAll()) {
      const auto* message = std::get_if<v1::ServiceMessage>(&said);
      if (message != nullptr && message->has_probe()) nonce = message->probe().nonce();
    }
    return nonce;
  }

  // What was heard since the last call, as texts.
  std::vector<std::string> Heard() {
    std::vector<std::string> texts;
    for (const auto& said : carrier_->TakeAll()) texts.push_back(Describe(said));
    return texts;
  }

 private:
  std::shared_ptr<FakeAttachment> carrier_;
  std::shared_ptr<link::GatewaySession> session_;
};

class DeliveryTest : public ::testing::Test {
 public:
  ~DeliveryTest() override {
    if (delivery_ != nullptr) delivery_->Stop();
    log_.RunAll();
  }

 protected:
  Delivery& delivery() {
    if (delivery_ == nullptr) delivery_ = Delivery::Create(options_, &log_, &scheduler_);
    return *delivery_;
  }
  std::unique_ptr<TestGateway> Attach(const std::string& id = "g") {
    auto gateway = std::make_unique<TestGateway>(delivery(), id);
    gateway->Heard();  // the welcome
    return gateway;
  }
  // With `user`'s connection `c`, whose subscription 1 of `thread` the log has answered.
  std::unique_ptr<TestGateway> AttachSubscribed(const std::string& user,
                                                const std::string& thread) {
    auto gateway = Attach();
    gateway->Open("c", user);
    Subscribed(*gateway, "c", 1, thread);
    return gateway;
  }
  // Appended by `user`, committed and passed on.
  void Append(const std::string& thread, const std::string& user,
              const std::vector<std::string>& texts) {
    for (const std::string& text : texts) log_.AppendText(ThreadId(thread), UserId(user), text);
    log_.RunAll();
  }
  void GiveTo(const std::string& thread, const std::string& user) {
    log_.GiveTo(ThreadId(thread), UserId(user));
    log_.RunAll();
  }
  // Subscribes and runs the log.
  void Subscribed(TestGateway& gateway, const std::string& connection, uint64_t id,
                  const std::string& thread, v1::StartFrom from = v1::START_FROM_START) {
    gateway.Subscribe(connection, id, thread, from);
    log_.RunAll();
  }
  link::Page Page(const std::string& thread, v1::Position after, uint64_t until = 0,
                  uint32_t max_bytes = 0) {
    v1::ReadPageRequest request;
    request.set_thread_id(thread);
    *request.mutable_after() = std::move(after);
    request.set_until_offset(until);
    request.set_max_bytes(max_bytes);
    absl::StatusOr<link::Page> page = absl::UnknownError("no answer");
    delivery().ReadPage(request, [&](absl::StatusOr<link::Page> got) { page = std::move(got); });
    log_.RunAll();
    EXPECT_TRUE(page.ok()) << page.status();
    return page.ok() ? *std::move(page) : link::Page();
  }

  Options options_{.service_id = "s"};
  ManualScheduler scheduler_;
  FakeLog log_;
  std::unique_ptr<Delivery> delivery_;
};

}  // namespace clarion::delivery
