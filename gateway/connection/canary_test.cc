#include "gateway/connection/canary.h"

#include "gateway/connection/fake_hub.h"
#include "gateway/connection/test_client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

using Call = FakeHub::Call;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

class CanaryTest : public ::testing::Test {
 protected:
  void Open(uint16_t port, std::chrono::milliseconds life) {
    loop_.Do([&] {
      context_ = std::make_unique<CanaryContext>(CanaryContext{
          .loop = loop_.io(),
          .wheel = loop_.wheel(),
          .tickets = loop_.tickets,
          .address = {boost::asio::ip::address_v4::loopback(), port},
          .report = [this](v1::CanaryReport report) { loop_.hub.Report(std::move(report)); },
      });
      v1::OpenCanary check;
      check.set_check_id("check");
      check.set_ticket("ticket");
      check.set_thread_id("t");
      check.add_types("custom");
      check.add_types("agent_error");
      check.mutable_life()->set_seconds(life.count() / 1000);
      check.mutable_life()->set_nanos(static_cast<int32_t>(life.count() % 1000 * 1'000'000));
      StartCanary(*context_, check);
    });
  }
  static void Say(Subscriber* subscriber, bool claim) {
    v1::ServerFrame frame;
    frame.mutable_subscribed()->set_thread_id("t");
    frame.mutable_subscribed()->set_claim(claim);
    subscriber->Send(Frames::OfMessage(Encoding::kJson, frame), 0);
  }
  static void SendEvent(Subscriber* subscriber, uint64_t offset, const std::string& type) {
    const auto event = std::make_shared<EncodedEvent>("\"type\":\"" + type + "\"}", "");
    subscriber->Send(
        Frames::OfEvents(Encoding::kJson, Offset(offset), std::vector<EventPtr>{event}), 0);
  }

  std::unique_ptr<CanaryContext> context_;
  TestLoop loop_;
};

TEST_F(CanaryTest, ReportsTheSocketThenEachTypeAndLeaves) {
  loop_.hub.on_subscribe = [](Subscriber* subscriber, const v1::Subscribe&) {
    Say(subscriber, true);
    Say(subscriber, false);
    SendEvent(subscriber, 1, "custom");
    SendEvent(subscriber, 2, "agent_error");
  };
  Open(loop_.port(), 1min);
  EXPECT_EQ(loop_.hub.Next(), (Call{"open", "", "", "_clarion"}));
  EXPECT_EQ(loop_.hub.Next(), (Call{"subscribe", "t", "", ""}));
  EXPECT_EQ(loop_.hub.Next().detail, "WIRING_STEP_SOCKET ");
  EXPECT_EQ(loop_.hub.Next().detail, "WIRING_STEP_ARRIVED custom");
  EXPECT_EQ(loop_.hub.Next().detail, "WIRING_STEP_ARRIVED agent_error");
  EXPECT_EQ(loop_.hub.Next().what, "close");
}

TEST_F(CanaryTest, EndsWithTheCheckWhenNothingComes) {
  loop_.hub.on_subscribe = [](Subscriber* subscriber, const v1::Subscribe&) {
    Say(subscriber, false);
  };
  Open(loop_.port(), 500ms);
  EXPECT_EQ(loop_.hub.NextOf("report").detail, "WIRING_STEP_SOCKET ");
  EXPECT_EQ(loop_.hub.NextOf("close").what, "close");
}

TEST_F(CanaryTest, SaysWhyItCannotConnect) {
  // A port that was free a moment ago.
  boost::asio::io_context io;
  boost::asio::ip::tcp::acceptor closed(io, {boost::asio::ip::address_v4::loopback(), 0});
  const uint16_t port = closed.local_endpoint().port();
  closed.close();
  Open(port, 1min);
  EXPECT_THAT(loop_.hub.Next().detail, HasSubstr("WIRING_STEP_CONNECT cannot connect"));
}

TEST_F(CanaryTest, TicketCountsOnce) {
  Open(loop_.port(), 1min);
  EXPECT_EQ(loop_.hub.Next().detail, "_clarion");
  TestClient second(loop_.port());
  EXPECT_EQ(second.Connect("ticket").at("code"), "UNAUTHENTICATED");
}

TEST(TicketsTest, TicketIsRedeemedOnceAndNotAfterItsEnd) {
  Tickets tickets;
  const Tickets::Time now{1h};
  tickets.Add("a", now + 1min, now);
  tickets.Add("b", now + 1min, now);
  tickets.Add("c", now + 1min, now);
  tickets.Remove("c");
  EXPECT_EQ(tickets.Redeem("a", now), now + 1min);
  EXPECT_EQ(tickets.Redeem("a", now), std::nullopt);
  EXPECT_EQ(tickets.Redeem("b", now + 1min), std::nullopt);
  EXPECT_EQ(tickets.Redeem("c", now), std::nullopt);
  EXPECT_EQ(tickets.Redeem("", now), std::nullopt);
}

}  // namespace
}  // namespace clarion::gateway
