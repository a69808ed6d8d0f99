// What the tests of connections are written in, besides TestLoop and TestClient.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gateway/connection/fake_hub.h"
#include "gateway/connection/test_client.h"
#include "gtest/gtest.h"

namespace clarion::gateway {

// What the hub says of events of a subscription.
inline constexpr FrameTag kEvents{.source = 1, .events = true};

inline std::string TokenOf(const std::string& user,
                           std::chrono::milliseconds life = std::chrono::hours(1)) {
  return TestClient::Token(TestLoop::kSecret, user, life);
}

// One event's frame with `bytes` of payload.
inline FramesPtr EventFrame(uint64_t offset, size_t bytes) {
  const auto event = std::make_shared<EncodedEvent>(
      R"("type":"custom","pad":")" + std::string(bytes, 'x') + "\"}", "");
  return Frames::OfEvents(Encoding::kJson, Offset(offset), std::vector<EventPtr>{event});
}

// `error` with this code, then the close frame with that one.
inline void ExpectClosed(TestClient& client, const std::string& reason, int code, bool reconnect) {
  const boost::json::object error = client.NextFrame();
  ASSERT_EQ(error.at("type"), "error") << error;
  EXPECT_EQ(std::string(error.at("code").as_string()), reason) << error;
  EXPECT_EQ(error.contains("reconnect"), reconnect) << error;
  ASSERT_TRUE(error.contains("user_message")) << error;
  const std::string user_message(error.at("user_message").as_string());
  if (!reconnect) {
    EXPECT_EQ(user_message.find("econnect"), std::string::npos) << error;
  }
  EXPECT_EQ(client.Next().at("code"), code);
}

// The only connection told the hub so when it left, and is gone.
inline void ExpectLeft(TestLoop& loop, const std::string& state_and_reason) {
  EXPECT_EQ(loop.hub.NextOf("close"), (FakeHub::Call{"close", "", "", state_and_reason}));
  loop.WaitForEnds(1);
}

}  // namespace clarion::gateway
