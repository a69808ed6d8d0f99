#include "proto/contract/wire_fault.h"

#include "clarion/v1/event_service.pb.h"
#include "google/protobuf/stubs/logging.h"
#include "gtest/gtest.h"

namespace clarion {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace)

v1::PublishStreamRequest Batch() {
  v1::PublishStreamRequest batch;
  for (const char* id : {"e1", "e2"}) {
    v1::Event& event = *batch.add_events()->mutable_event();
    event.set_event_id(id);
    event.mutable_occurred_at()->set_seconds(12345);
    event.mutable_tool_progress()->set_progress(0.5);
    event.mutable_tool_progress()->set_message("half of it");
  }
  return batch;
}

// The path of the fault in `bytes`; they must not parse either.
template <class Message>
std::string FaultIn(const std::string& bytes) {
  Message message;
  EXPECT_FALSE(message.ParseFromString(bytes));
  const auto fault = FindWireFault(*Message::descriptor(), bytes);
  return fault ? fault->field : "none";
}

TEST(WireFaultTest, NamesTheStringThatIsNotUtf8) {
  v1::PublishStreamRequest batch = Batch();
  batch.mutable_events(1)->mutable_event()->mutable_tool_progress()->set_message("\xc3(");
  EXPECT_EQ(FaultIn<v1::PublishStreamRequest>(batch.SerializePartialAsString()),
            "events[1].event.tool_progress.message");
}

TEST(WireFaultTest, NamesTheFieldInWhichTheBytesEnd) {
  const std::string bytes = Batch().SerializeAsString();
  EXPECT_EQ(FaultIn<v1::PublishStreamRequest>(bytes.substr(0, bytes.size() - 1)), "events[1]");
  EXPECT_EQ(FaultIn<v1::Event>("\x0a"s), "event_id");
  EXPECT_EQ(FaultIn<v1::Event>("\x40"s), "offset");
  EXPECT_EQ(FaultIn<v1::Event>("\x7a\x05"s), "#15");
}

TEST(WireFaultTest, NamesTheFieldWhoseLengthIsNoLength) {
  EXPECT_EQ(FaultIn<v1::Event>("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s), "event_id");
  EXPECT_EQ(FaultIn<v1::Event>("\x0a\xff\xff\xff\xff\x0f"s), "event_id");
}

TEST(WireFaultTest, NamesTheNumberOfWhatIsNoField) {
  EXPECT_EQ(FaultIn<v1::Event>("\x00\x00"s), "#0");
  EXPECT_EQ(FaultIn<v1::Event>("\x7c"s), "#15");  // ends a group that did not begin
}

// What one of both takes, the other takes.
TEST(WireFaultTest, AgreesWithTheParserOnEveryCutAndEveryChangedByte) {
  const google::protobuf::LogSilencer silencer;  // thousands of lines
  const std::string good = Batch().SerializeAsString();
  const auto compare = [](const std::string& bytes) {
    v1::PublishStreamRequest message;
    const bool parses = message.ParseFromString(bytes);
    EXPECT_EQ(parses, !FindWireFault(*v1::PublishStreamRequest::descriptor(), bytes));
  };
  for (size_t cut = 0; cut <= good.size(); ++cut) compare(good.substr(0, cut));
  for (size_t at = 0; at < good.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = good;
      changed[at] = static_cast<char>(value);
      compare(changed);
    }
  }
}

}  // namespace
}  // namespace clarion
