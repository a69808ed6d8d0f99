// Browsers that do not take what is sent to them, over real sockets, with a fake hub behind them.
#include <memory>
#include <string>
#include <vector>

#include "gateway/connection/connection_testing.h"
#include "gateway/connection/websocket.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "telemetry/metrics.h"

namespace clarion::gateway {
namespace {

using namespace std::chrono_literals;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr FrameTag kOther{.source = 1};

class SlowConnectionTest : public ::testing::Test {
 protected:
  void Begin(ConnectionOptions options = {}, size_t total = 256 * 1024 * 1024,
             std::chrono::milliseconds stall_timeout = QueueWatch::kDefaultStallTimeout) {
    loop_ = std::make_unique<TestLoop>(options, 100, 1s, 128 * 1024 * 1024, total, stall_timeout);
    client_ = std::make_unique<TestClient>(loop_->port());
    client_->Connect(TokenOf("ada"));
    loop_->hub.NextOf("open");
  }
  // Unless it has left already.
  void Send(FramesPtr frames, FrameTag tag) {
    loop_->Do([&] {
      if (loop_->hub.last() != nullptr) loop_->hub.last()->Send(std::move(frames), 0, tag);
    });
  }
  // Until the kernel takes no more: events 1, 2, … of no source.
  uint64_t Block() {
    uint64_t sent = 0;
    const Gauge& queued = GetGauge("clarion_queued_bytes", "");
    do {
      Send(EventFrame(++sent, 50'000), {});
      loop_->TurnOver();
    } while (queued.value() == 0);
    return sent;
  }
  std::vector<Subscriber::TakenBack> TakeBack(const absl::flat_hash_set<uint32_t>& sources) {
    return loop_->Do([&] { return loop_->hub.last()->TakeBack(sources); });
  }
  // Offsets of the events that come, until something else does.
  std::vector<uint64_t> ReadEvents() {
    std::vector<uint64_t> offsets;
    for (;;) {
      last_frame_ = client_->Next();
      if (!last_frame_.contains("offset")) return offsets;
      offsets.push_back(last_frame_.at("offset").to_number<uint64_t>());
    }
  }
  static FramesPtr Note(const std::string& what) {
    v1::ServerFrame frame;
    frame.mutable_bound()->set_thread_id(what);
    return Frames::OfMessage(Encoding::kJson, frame);
  }
  static FramesPtr Events(uint64_t first, int count, size_t bytes) {
    const std::vector<EventPtr> events(
        static_cast<size_t>(count),
        std::make_shared<EncodedEvent>(
            R"("type":"custom","pad":")" + std::string(bytes, 'x') + "\"}", ""));
    return Frames::OfEvents(Encoding::kJson, Offset(first), events);
  }
  static uint64_t Closed(const char* cause) {
    return GetCounter("clarion_slow_connections_closed_total", "", {{"cause", cause}}).value();
  }

  std::unique_ptr<TestLoop> loop_;
  std::unique_ptr<TestClient> client_;
  boost::json::object last_frame_;
};

TEST_F(SlowConnectionTest, AQueueOverItsBoundIsRelievedAndTheConnectionStays) {
  Begin({.max_queued_bytes = 256 * 1024});
  Offset first;
  loop_->hub.on_overflow = [&](Subscriber* subscriber) {
    const auto taken = subscriber->TakeBack({1});
    ASSERT_THAT(taken, SizeIs(1));
    first = taken[0].first;
  };
  const uint64_t relieved = GetCounter("clarion_slow_connections_relieved_total", "").value();
  const uint64_t frames = GetCounter("clarion_frames_taken_back_total", "").value();
  uint64_t sent = 0;
  while (loop_->Do([&] { return first; }) == Offset()) {
    Send(EventFrame(++sent, 50'000), kEvents);
    loop_->TurnOver();
  }
  EXPECT_EQ(GetCounter("clarion_slow_connections_relieved_total", "").value(), relieved + 1);
  EXPECT_EQ(GetCounter("clarion_frames_taken_back_total", "").value(),
            frames + sent + 1 - first.value());
  Send(Note("still here"), kOther);
  const std::vector<uint64_t> seen = ReadEvents();
  EXPECT_EQ(seen.size(), first.value() - 1) << "exactly what was kept";
  EXPECT_EQ(seen.back(), first.value() - 1);
  EXPECT_EQ(last_frame_.at("thread_id"), "still here");
}

TEST_F(SlowConnectionTest, WhatHasSomethingOfItsSourceBehindItStaysInItsPlace) {
  Begin();
  const uint64_t filler = Block();
  Send(EventFrame(101, 10), {.source = 1, .events = true});
  Send(EventFrame(201, 10), {.source = 2, .events = true});
  Send(EventFrame(301, 10), {.source = 3, .events = true});
  Send(Note("one"), {.source = 1});
  Send(EventFrame(102, 10), {.source = 1, .events = true});
  Send(EventFrame(202, 10), {.source = 2, .events = true});
  Send(EventFrame(103, 10), {.source = 1, .events = true});
  const auto taken = TakeBack({1, 2, 4});
  ASSERT_THAT(taken, SizeIs(2));
  for (const auto& [source, first] : taken) EXPECT_EQ(first.value(), source == 1 ? 102u : 201u);
  Send(Note("end"), {});
  std::vector<uint64_t> seen = ReadEvents();
  ASSERT_GE(seen.size(), filler);
  EXPECT_THAT(std::vector<uint64_t>(seen.begin() + static_cast<ptrdiff_t>(filler), seen.end()),
              testing::ElementsAre(101, 301));
  EXPECT_EQ(last_frame_.at("thread_id"), "one");
  EXPECT_THAT(ReadEvents(), IsEmpty());
  EXPECT_EQ(last_frame_.at("thread_id"), "end");
}

TEST_F(SlowConnectionTest, AFrameThatIsBegunIsFinishedAndThoseBehindItInTheSameBytesGo) {
  Begin({.max_queued_bytes = 64 * 1024 * 1024});
  Send(Events(1, 300, 60'000), kEvents);
  loop_->TurnOver();
  const auto taken = TakeBack({1});
  ASSERT_THAT(taken, SizeIs(1));
  EXPECT_GT(taken[0].first, Offset(1));
  EXPECT_LE(GetGauge("clarion_queued_bytes", "").value(), 61'000);
  EXPECT_THAT(TakeBack({1}), IsEmpty()) << "nothing is taken back twice";
  Send(Note("end"), {});
  const std::vector<uint64_t> seen = ReadEvents();
  EXPECT_EQ(seen.size(), taken[0].first.value() - 1);
  EXPECT_EQ(last_frame_.at("type"), "bound");
}

// Whatever else would be taken for its rest.
TEST_F(SlowConnectionTest, AFrameThatIsBegunIsFinishedThoughTheConnectionIsRelievedAndThenClosed) {
  Begin({.close_timeout_ms = 60'000, .max_queued_bytes = 64 * 1024 * 1024}, 256 * 1024 * 1024, 1h);
  Send(Events(1, 300, 60'000), kEvents);
  loop_->TurnOver();
  const auto taken = TakeBack({1});
  ASSERT_THAT(taken, SizeIs(1));
  loop_->CheckStalls(2h);
  EXPECT_EQ(ReadEvents().size(), taken[0].first.value() - 1);
  EXPECT_EQ(last_frame_.at("code"), "BUFFER_OVERFLOW");
  EXPECT_EQ(client_->Next().at("code"), 4507);
}

TEST_F(SlowConnectionTest, MoreFramesThanMayWaitAreAnOverflowHoweverSmall) {
  Begin({.max_queued_events = 100});
  Block();
  for (int i = 0; i < 99; ++i) Send(Note("x"), kOther);
  loop_->TurnOver();
  EXPECT_TRUE(loop_->hub.Quiet());
  Send(Note("x"), kOther);
  EXPECT_EQ(loop_->hub.Next().what, "overflow");
}

TEST_F(SlowConnectionTest, AQueueThatCannotBeRelievedClosesTheConnection) {
  const uint64_t before = Closed("queue");
  Begin({.max_queued_bytes = 128 * 1024});
  loop_->hub.on_overflow = [](Subscriber* subscriber) { subscriber->TakeBack({1}); };
  Block();
  for (int i = 0; i < 3; ++i) Send(EventFrame(1, 60'000), {.source = 2, .events = true});
  EXPECT_EQ(loop_->hub.NextOf("close").detail, "CONNECTION_STATE_ERROR slow_consumer");
  EXPECT_EQ(Closed("queue"), before + 1);
}

TEST_F(SlowConnectionTest, WhoTakesNothingForTooLongIsToldAndClosed) {
  const uint64_t before = Closed("stalled");
  Begin({.close_timeout_ms = 60'000}, 256 * 1024 * 1024, 100ms);
  Block();
  EXPECT_EQ(loop_->hub.NextOf("close").detail, "CONNECTION_STATE_ERROR slow_consumer");
  EXPECT_EQ(Closed("stalled"), before + 1);
  ReadEvents();
  EXPECT_EQ(last_frame_.at("code"), "BUFFER_OVERFLOW");
  EXPECT_EQ(last_frame_.at("reconnect"), true);
  EXPECT_EQ(client_->Next().at("code"), 4507);
}

// Receipts are made of marks: what is dropped at the end must never be taken for sent.
TEST_F(SlowConnectionTest, WhatIsDroppedAtTheEndIsNeverWritten) {
  Begin({.close_timeout_ms = 60'000}, 256 * 1024 * 1024, 1h);
  Block();
  Send(EventFrame(1, 1), {});  // shorter than what is said at the end
  Subscriber* const connection = loop_->Do([&] { return loop_->hub.last(); });
  const auto mark = [&] { return loop_->Do([&] { return connection->mark(); }); };
  const Subscriber::Mark before = mark();
  ASSERT_LT(before.written, before.queued);
  loop_->CheckStalls(2h);
  EXPECT_GT(mark().queued, before.queued) << "the last words come behind it";
  ReadEvents();
  // The client has not answered the close frame: the connection is still there.
  EXPECT_LT(mark().written, before.queued);
  EXPECT_EQ(client_->Next().at("code"), 4507);
}

TEST_F(SlowConnectionTest, WhoTakesLessThanTheKernelHoldsIsNotStalled) {
  const uint64_t before = Closed("stalled");
  Begin({}, 256 * 1024 * 1024, 1h);
  Block();
  for (int i = 0; i < 6; ++i) client_->Next();  // too little for the gateway to write again
  loop_->CheckStalls(1h);
  EXPECT_EQ(Closed("stalled"), before);
  loop_->CheckStalls(2h);
  EXPECT_EQ(Closed("stalled"), before + 1);
}

TEST_F(SlowConnectionTest, AConnectionWithNothingWaitingIsNotStalled) {
  Begin({.heartbeat_ms = 1'000}, 256 * 1024 * 1024, 50ms);
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(client_->Next().at("type"), "ping");
    client_->Send(R"({"type":"pong"})");
  }
}

TEST_F(SlowConnectionTest, WhenAllQueuesTogetherAreTooLargeTheLargestIsRelievedThenClosed) {
  const uint64_t before = Closed("memory");
  Begin({}, 256 * 1024);
  int relieved = 0;
  loop_->hub.on_overflow = [&](Subscriber*) { ++relieved; };
  Block();
  Send(EventFrame(1, 300'000), {.source = 2, .events = true});
  EXPECT_EQ(loop_->hub.NextOf("close").detail, "CONNECTION_STATE_ERROR slow_consumer");
  EXPECT_EQ(Closed("memory"), before + 1);
  EXPECT_EQ(loop_->Do([&] { return relieved; }), 1);
}

TEST_F(SlowConnectionTest, WhileAllQueuesTogetherAreLargeOnlyWhoHasNothingWaitingHasRoom) {
  Begin({}, 400 * 1024);
  Subscriber* const slow = loop_->Do([&] { return loop_->hub.last(); });
  Block();
  EXPECT_TRUE(loop_->Do([&] { return slow->HasRoom(); }));
  Send(EventFrame(1, 220'000), {.source = 2, .events = true});
  loop_->TurnOver();
  EXPECT_FALSE(loop_->Do([&] { return slow->HasRoom(); }));
  TestClient other(loop_->port());
  other.Connect(TokenOf("eve"));
  loop_->hub.NextOf("open");
  loop_->TurnOver();
  EXPECT_TRUE(loop_->Do([&] { return loop_->hub.last()->HasRoom(); }));
  // It is told once it has read all.
  loop_->Do([&] { slow->Send(Note("end"), 0); });
  for (boost::json::object frame = client_->Next(); frame.contains("offset");) {
    frame = client_->Next();
  }
  EXPECT_EQ(loop_->hub.NextOf("room").what, "room");
}

}  // namespace
}  // namespace clarion::gateway
