// Frames as RFC 6455 and stream.proto have them, read back by a decoder that shares nothing with
// them.
#include "gateway/frames.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "boost/json/parse.hpp"
#include "boost/json/value.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/contract/event_json.h"

namespace clarion::gateway {
namespace {

struct Decoded {
  int opcode;
  std::string payload;
  bool operator==(const Decoded&) const = default;
};

// One unmasked, final frame from the front of `bytes`.
Decoded TakeFrame(std::string_view& bytes) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes.at(i)); };
  EXPECT_EQ(at(0) & 0xF0, 0x80) << "FIN alone";
  EXPECT_EQ(at(1) & 0x80, 0) << "not masked";
  uint64_t length = at(1);
  size_t header = 2;
  const size_t more = length == 126 ? 2 : length == 127 ? 8 : 0;
  if (more > 0) length = 0;
  for (size_t i = 0; i < more; ++i) length = length << 8 | at(header++);
  EXPECT_TRUE(more == 0 || length >= (more == 2 ? 126u : 65'536u)) << "the shortest length";
  Decoded frame{at(0) & 0x0F, std::string(bytes.substr(header, length))};
  EXPECT_EQ(frame.payload.size(), length);
  bytes.remove_prefix(header + length);
  return frame;
}

std::vector<Decoded> TakeAll(std::string_view bytes) {
  std::vector<Decoded> frames;
  while (!bytes.empty()) frames.push_back(TakeFrame(bytes));
  return frames;
}

v1::Event Thinking(const std::string& delta) {
  v1::Event event;
  event.set_event_id("e");
  event.set_user_id("u");
  event.set_thread_id("t");
  event.set_run_id("r");
  event.set_agent_name("a");
  event.mutable_agent_thinking()->set_message_id("m");
  event.mutable_agent_thinking()->set_delta(delta);
  return event;
}

EventPtr Encode(const v1::Event& event) {
  std::string json;
  EXPECT_TRUE(AppendEventJson(event, &json));
  return std::make_shared<EncodedEvent>(json, event.SerializeAsString());
}

TEST(FramesTest, JsonEventsStandOneAfterTheOtherWithTheirOffsetsInFront) {
  const std::vector<EventPtr> events = {Encode(Thinking("a")),
                                        Encode(Thinking(std::string(300, 'b'))),
                                        Encode(Thinking(std::string(70'000, 'c')))};
  const FramesPtr frames = Frames::OfEvents(Encoding::kJson, Offset(9), events);
  ASSERT_EQ(frames->count(), 3u);
  const std::vector<Decoded> decoded = TakeAll(frames->bytes());
  ASSERT_EQ(decoded.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(decoded[i].opcode, 1);
    EXPECT_EQ(decoded[i].payload,
              "{\"offset\":" + std::to_string(9 + i) + "," + std::string(events[i]->json()));
    EXPECT_TRUE(boost::json::parse(decoded[i].payload).is_object());
  }
}

TEST(FramesTest, ProtoEventsParseAsServerFramesWithTheirOffsets) {
  for (const uint64_t first :
       {uint64_t{1}, uint64_t{127}, uint64_t{300}, (uint64_t{1} << 53) - 3}) {
    const std::vector<EventPtr> events = {Encode(Thinking("a")),
                                          Encode(Thinking(std::string(200, 'b'))),
                                          Encode(Thinking(std::string(70'000, 'c')))};
    const FramesPtr frames = Frames::OfEvents(Encoding::kProto, Offset(first), events);
    const std::vector<Decoded> decoded = TakeAll(frames->bytes());
    ASSERT_EQ(decoded.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(decoded[i].opcode, 2);
      v1::ServerFrame frame;
      ASSERT_TRUE(frame.ParseFromString(decoded[i].payload));
      EXPECT_EQ(frame.event().offset(), first + i);
      frame.mutable_event()->clear_offset();
      EXPECT_EQ(frame.event().SerializeAsString(), events[i]->proto());
    }
  }
}

TEST(FramesTest, BytesFromAFramesBeginAreTheFramesFromThereOn) {
  const std::vector<EventPtr> events = {Encode(Thinking("a")), Encode(Thinking("bb")),
                                        Encode(Thinking("c"))};
  for (const Encoding encoding : {Encoding::kJson, Encoding::kProto}) {
    const FramesPtr frames = Frames::OfEvents(encoding, Offset(1), events);
    const FramesPtr last_two = Frames::OfEvents(encoding, Offset(2), {events.begin() + 1, 2});
    EXPECT_EQ(frames->bytes().substr(frames->begin(1)), last_two->bytes());
    EXPECT_EQ(frames->begin(3), frames->bytes().size());
  }
}

TEST(FramesTest, LengthsAtTheBordersOfTheHeaderAreTheShortest) {
  for (const size_t payload : {125u, 126u, 127u, 65'535u, 65'536u}) {
    const std::string rest(payload - std::string("{\"offset\":1,").size(), 'x');
    const std::vector<EventPtr> events = {std::make_shared<EncodedEvent>(rest, "")};
    const FramesPtr frames = Frames::OfEvents(Encoding::kJson, Offset(1), events);
    const std::vector<Decoded> decoded = TakeAll(frames->bytes());
    ASSERT_EQ(decoded.size(), 1u);
    EXPECT_EQ(decoded[0].payload.size(), payload);
  }
}

// ---- Around HTTP ----

TEST(FramesTest, EventsOfAnEventStreamHaveTheirPositionAndLinesOfData) {
  const std::vector<EventPtr> events = {std::make_shared<EncodedEvent>("\"a\":1}", ""),
                                        std::make_shared<EncodedEvent>("\"b\":[\r\n1,\n2]}", "")};
  EXPECT_EQ(Frames::OfEvents(Encoding::kEventStream, Offset(9), events, "e:1")->bytes(),
            "id: e:1:9\ndata: {\"offset\":9,\"a\":1}\n\n"
            "id: e:1:10\ndata: {\"offset\":10,\"b\":[\ndata: \ndata: 1,\ndata: 2]}\n\n");
}

TEST(FramesTest, AnswersToAPollAreElementsOfAList) {
  const std::vector<EventPtr> events = {std::make_shared<EncodedEvent>("\"a\":1}", ""),
                                        std::make_shared<EncodedEvent>("\"b\":2}", "")};
  EXPECT_EQ(Frames::OfEvents(Encoding::kList, Offset(9), events, "e")->bytes(),
            "{\"offset\":9,\"a\":1},{\"offset\":10,\"b\":2},");
  v1::ServerFrame frame;
  frame.mutable_ping();
  EXPECT_EQ(Frames::OfMessage(Encoding::kList, frame)->bytes(), "{\"type\":\"ping\"},");
  EXPECT_EQ(Frames::OfMessage(Encoding::kEventStream, frame)->bytes(),
            "data: {\"type\":\"ping\"}\n\n");
}

// ---- Control frames as JSON ----

TEST(ServerFrameJsonTest, SubscribedIsFlatWithItsRuns) {
  v1::ServerFrame frame;
  frame.set_id("7");
  v1::Subscribed& subscribed = *frame.mutable_subscribed();
  subscribed.set_thread_id("t");
  subscribed.set_epoch("e");
  subscribed.set_from_offset(3);
  subscribed.set_last_offset(9);
  subscribed.set_missed(true);
  v1::ActiveRun& run = *subscribed.add_active_runs();
  run.set_run_id("r\"1");
  run.set_agent_name("a");
  run.set_offset(4);
  EXPECT_EQ(
      ToJson(frame),
      R"({"type":"subscribed","id":"7","thread_id":"t","epoch":"e","from_offset":3,"last_offset":9,)"
      R"("missed":true,"active_runs":[{"run_id":"r\"1","agent_name":"a","offset":4}]})");
}

TEST(ServerFrameJsonTest, ClaimSaysItsOffsetThoughItIsZero) {
  v1::ServerFrame frame;
  frame.mutable_subscribed()->set_thread_id("t");
  frame.mutable_subscribed()->set_claim(true);
  EXPECT_EQ(ToJson(frame), R"({"type":"subscribed","thread_id":"t","claim":true,"offset":0})");
}

TEST(FramesTest, CompactedEventsHaveTheirLastOffsetAndTheirFirst) {
  const EventPtr one = Encode(Thinking("a"));
  const auto three = std::make_shared<EncodedEvent>(one->json(), one->proto(), 3);
  const std::vector<EventPtr> events = {one, three, three, one};
  const FramesPtr json = Frames::OfEvents(Encoding::kJson, Offset(9), events);
  const std::vector<Decoded> decoded = TakeAll(json->bytes());
  ASSERT_EQ(decoded.size(), 4u);
  const std::string stored(one->json());
  EXPECT_EQ(decoded[0].payload, "{\"offset\":9," + stored);
  EXPECT_EQ(decoded[1].payload, "{\"offset\":12,\"first_offset\":10," + stored);
  EXPECT_EQ(decoded[2].payload, "{\"offset\":15,\"first_offset\":13," + stored);
  EXPECT_EQ(decoded[3].payload, "{\"offset\":16," + stored);
  for (const auto& [frame, first] : {std::pair(0, 9), {1, 10}, {2, 13}, {3, 16}}) {
    EXPECT_EQ(json->first_offset(static_cast<size_t>(frame)).value(), static_cast<uint64_t>(first));
  }
  const FramesPtr proto = Frames::OfEvents(Encoding::kProto, Offset(9), events);
  const std::vector<Decoded> frames = TakeAll(proto->bytes());
  ASSERT_EQ(frames.size(), 4u);
  v1::ServerFrame frame;
  ASSERT_TRUE(frame.ParseFromString(frames[2].payload));
  EXPECT_EQ(frame.event().offset(), 15u);
  EXPECT_EQ(frame.event().first_offset(), 13u);
  ASSERT_TRUE(frame.ParseFromString(frames[3].payload));
  EXPECT_EQ(frame.event().offset(), 16u);
  EXPECT_EQ(frame.event().first_offset(), 0u);
}

TEST(ServerFrameJsonTest, ConnectedHasTimesAsRfc3339) {
  v1::ServerFrame frame;
  v1::Connected& connected = *frame.mutable_connected();
  connected.set_connection_id("g-1");
  connected.set_user_id("u");
  connected.set_protocol(1);
  connected.add_capabilities("a");
  connected.add_capabilities("b");
  connected.set_heartbeat_ms(25'000);
  connected.mutable_token_expires_at()->set_seconds(1'700'000'000);
  connected.mutable_token_expires_at()->set_nanos(5'000'000);
  EXPECT_EQ(
      ToJson(frame),
      R"({"type":"connected","connection_id":"g-1","user_id":"u","protocol":1,)"
      R"("capabilities":["a","b"],"heartbeat_ms":25000,"token_expires_at":"2023-11-14T22:13:20.005Z"})");
}

TEST(ServerFrameJsonTest, MissedSaysReasonInLowerSnakeAndDiscardAfterEvenIfZero) {
  v1::ServerFrame frame;
  v1::MissedRange& missed = *frame.mutable_missed();
  missed.set_thread_id("t");
  missed.set_epoch("e");
  missed.set_from_offset(1);
  missed.set_to_offset(4);
  missed.set_reason(v1::MISSED_REASON_LOG_ROLLED_BACK);
  missed.set_discard_after(0);
  EXPECT_EQ(ToJson(frame),
            R"({"type":"missed","thread_id":"t","epoch":"e","from_offset":1,"to_offset":4,)"
            R"("reason":"log_rolled_back","discard_after":0})");
}

TEST(ServerFrameJsonTest, EveryKindOfFrameIsAnObjectWithItsFieldsName) {
  const google::protobuf::Descriptor* type = v1::ServerFrame::descriptor();
  const google::protobuf::OneofDescriptor* kinds = type->FindOneofByName("frame");
  for (int i = 0; i < kinds->field_count(); ++i) {
    if (kinds->field(i)->number() == v1::ServerFrame::kEventFieldNumber) continue;
    v1::ServerFrame frame;
    frame.GetReflection()->MutableMessage(&frame, kinds->field(i));
    EXPECT_EQ(boost::json::parse(ToJson(frame)).at("type").as_string(), kinds->field(i)->name());
  }
}

TEST(ServerFrameJsonTest, EventIsWrittenAsTheServiceWritesIt) {
  v1::ServerFrame frame;
  *frame.mutable_event() = Thinking("hm");
  frame.mutable_event()->set_offset(3);
  const std::string json = ToJson(frame);
  EXPECT_TRUE(json.starts_with("{\"offset\":3,\"type\":\"agent_thinking\"")) << json;
  EXPECT_TRUE(EventFromJson(json).ok()) << EventFromJson(json).status();
}

TEST(ServerFrameJsonTest, ControlCharactersAreEscaped) {
  v1::ServerFrame frame;
  frame.mutable_error()->set_message("a\n\x01\"\\");
  EXPECT_EQ(boost::json::parse(ToJson(frame)).at("message").as_string(), "a\n\x01\"\\");
}

}  // namespace
}  // namespace clarion::gateway
