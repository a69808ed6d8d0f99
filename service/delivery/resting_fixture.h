// What the tests of connections that poll are written in.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "service/delivery/delivery_fixture.h"

namespace clarion::delivery {

class ConnectionLines final : public ConnectionWatcher {
 public:
  void OnChange(const v1::Connection& connection, bool snapshot) override {
    std::string text = connection.connection_id();
    text += connection.state() == v1::CONNECTION_STATE_CONNECTED ? " connected" : " gone";
    if (!connection.reason().empty()) text += " (" + connection.reason() + ")";
    for (const std::string& thread : connection.thread_ids()) text += " " + thread;
    changes.push_back(snapshot ? "first " + text : text);
  }
  std::vector<std::string> changes;
};

class RestingTest : public DeliveryTest {
 protected:
  // `c` of ann's polls `t`, which holds one event, and is told so.
  void BeginPolling(TestGateway& gateway) {
    Append("t", "ann", {"one"});
    gateway.Poll("c", "ann");
    Subscribed(gateway, "c", 1, "t");
    gateway.Confirm(1);
    gateway.Heard();
  }
  uint32_t Followers(const std::string& thread = "t") {
    return delivery().Subscriptions(ThreadId(thread));
  }
  // `t`, and the log is not asked for it any more.
  void ExpectNobodyFollows() {
    EXPECT_EQ(Followers(), 0u);
    log_.RunAll();
    EXPECT_EQ(log_.followed(), 0u);
  }
  std::vector<std::string> Connected(const std::string& user, const std::string& thread = "") {
    std::vector<std::string> ids;
    for (const auto& connection :
         delivery().GetConnections(UserId(user), ThreadId(thread), false)) {
      ids.push_back(connection.connection_id());
    }
    return ids;
  }
  std::shared_ptr<ConnectionLines> Watch(const std::string& user, const std::string& thread = "") {
    auto watcher = std::make_shared<ConnectionLines>();
    watches_.push_back(delivery().WatchConnections(UserId(user), ThreadId(thread), watcher));
    watcher->changes.clear();
    return watcher;
  }
  v1::Readiness Ready(const std::string& thread = "t") {
    v1::Readiness readiness = v1::READINESS_UNSPECIFIED;
    const auto wait = delivery().AwaitReady(
        UserId("ann"), ThreadId(thread), v1::READINESS_SUBSCRIBED, std::chrono::seconds(0),
        [&](absl::StatusOr<ReadyState> state) { readiness = state->readiness; });
    return readiness;
  }
  void Delete(const std::string& thread, const std::string& user) {
    log_.Delete(ThreadId(thread), UserId(user), [](const auto&) {});
    log_.RunAll();
  }

  std::vector<std::unique_ptr<Cancellation>> watches_;
};

}  // namespace clarion::delivery
