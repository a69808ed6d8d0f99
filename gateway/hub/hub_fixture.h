// What the hub's tests are written in: a hub between a page and a model of the service.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gateway/hub/hub_world.h"
#include "gateway/hub/subscription.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::gateway {

class HubTest : public ::testing::Test {
 protected:
  void Begin(HubOptions options = {}) {
    options.gateway_id = "g";
    options.instance = "this start";
    options.after = timers_.Function();
    options.now = [this] { return timers_.now(); };
    hub_ = Hub::Create(options, &link_,
                       [this](const v1::OpenCanary& canary) { canaries_.push_back(canary); });
    link_.Start(hub_.get());
    link_.on_message = [this](const v1::GatewayMessage& message) {
      heard_.push_back(message);
      if (refuse_ && message.has_subscribe()) {
        v1::ServiceMessage refused;
        refused.mutable_refused()->set_subscription_id(message.subscribe().subscription_id());
        refused.mutable_refused()->set_reason("LOG_UNAVAILABLE");
        Tell(std::move(refused));
        return true;
      }
      return swallow_;
    };
    link_.Up();
  }
  void Open(FakeSubscriber* subscriber, const std::string& id = "c") {
    hub_->Open(subscriber, {.id = ConnectionId(id), .user = UserId("u")});
  }
  void Subscribe(const std::string& thread, const std::string& id = "1",
                 v1::Subscribe subscribe = {}) {
    Subscribe(&page_, thread, id, std::move(subscribe));
  }
  void Subscribe(FakeSubscriber* page, const std::string& thread, const std::string& id = "",
                 v1::Subscribe subscribe = {}) {
    subscribe.set_thread_id(thread);
    hub_->Subscribe(page, subscribe, id);
  }
  static v1::Subscribe Live() {
    v1::Subscribe subscribe;
    subscribe.set_from(v1::START_FROM_LIVE);
    return subscribe;
  }
  static v1::Subscribe After(const std::string& epoch, uint64_t offset) {
    v1::Subscribe subscribe;
    subscribe.mutable_after()->set_epoch(epoch);
    subscribe.mutable_after()->set_offset(offset);
    return subscribe;
  }
  // A page that follows `thread`, which has so many events, and has been sent them.
  void BeginFollowing(const std::string& thread, int events) {
    Begin();
    if (events > 0) link_.Append(thread, events);
    Open(&page_);
    Subscribe(thread);
    Rest();
    page_.TakeLines();
  }
  // The page was told that `t` is not its user's; the test answers from here on.
  void BeginClaim() {
    Begin();
    Open(&page_);
    swallow_ = true;
    Subscribe("t");
    link_.ServiceTakes();
    AnswerClaim();
    link_.StreamArrives(10);
  }
  // Until nothing is on its way any more.
  void Rest() {
    while (link_.Move()) {
    }
  }
  void Tell(v1::ServiceMessage message) { link_.stream.emplace_back(std::move(message)); }
  // The subscription that was asked for last.
  void Refuse(const std::string& reason) {
    v1::ServiceMessage refused;
    refused.mutable_refused()->set_subscription_id(SubscriptionId());
    refused.mutable_refused()->set_reason(reason);
    Tell(refused);
    Rest();
  }
  void Bind(uint64_t id, const std::string& thread, bool all = false,
            const std::string& connection = "c") {
    v1::ServiceMessage message;
    message.mutable_bind()->set_bind_id(id);
    message.mutable_bind()->set_connection_id(connection);
    message.mutable_bind()->set_thread_id(thread);
    message.mutable_bind()->set_all(all);
    Tell(message);
    Rest();
  }
  // What the service heard of one kind.
  std::vector<v1::GatewayMessage> Heard(v1::GatewayMessage::MessageCase kind) const {
    std::vector<v1::GatewayMessage> found;
    for (const v1::GatewayMessage& m : heard_) {
      if (m.message_case() == kind) found.push_back(m);
    }
    return found;
  }
  std::vector<v1::BindOutcome> BindOutcomes() const {
    std::vector<v1::BindOutcome> outcomes;
    for (const auto& m : Heard(v1::GatewayMessage::kBindResult))
      outcomes.push_back(m.bind_result().outcome());
    return outcomes;
  }
  uint64_t SubscriptionId() const {
    return Heard(v1::GatewayMessage::kSubscribe).back().subscribe().subscription_id();
  }
  void AnswerClaim() {
    v1::ServiceMessage message;
    message.mutable_started()->set_subscription_id(SubscriptionId());
    message.mutable_started()->set_claim(true);
    Tell(message);
  }

  ManualTimers timers_;
  ModelLink link_;
  FakeSubscriber page_{Encoding::kProto};
  std::vector<v1::GatewayMessage> heard_;
  std::vector<v1::OpenCanary> canaries_;
  // The test answers, not the model.
  bool swallow_ = false;
  // The service refuses every subscription for now.
  bool refuse_ = false;
  std::unique_ptr<Hub> hub_;
};

}  // namespace clarion::gateway
