// Events as JSON: the exact text, and the way there and back for every type and field.
#include "proto/contract/event_json.h"

#include <string>

#include "boost/json/parse.hpp"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "proto/contract/event_type.h"

namespace clarion {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;
using testing::HasSubstr;

bool HoldsJson(const std::string& field) {
  return field == "input" || field == "arguments" || field == "result" || field == "value" ||
         field == "response_schema";
}

// Sets every field of a message, also every optional one, to something that is not its default.
void FillAll(Message* message) {
  const auto& reflection = *message->GetReflection();
  for (int i = 0; i < message->GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->field(i);
    const bool list = field->is_repeated();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING: {
        const std::string text = HoldsJson(field->name()) ? R"({"id": 9007199254740993, "a":[ ]})"
                                                          : field->name() + " \"\\\n\x01 grün";
        if (list) {
          reflection.AddString(message, field, text);
          reflection.AddString(message, field, "second");
        } else {
          reflection.SetString(message, field, text);
        }
        break;
      }
      case FieldDescriptor::CPPTYPE_BOOL:
        reflection.SetBool(message, field, true);
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        reflection.SetUInt64(message, field, (uint64_t{1} << 53) - 1);
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        reflection.SetDouble(message, field, 0.1);
        break;
      case FieldDescriptor::CPPTYPE_ENUM:
        reflection.SetEnumValue(message, field, 2);
        break;
      case FieldDescriptor::CPPTYPE_MESSAGE:
        if (field->message_type() == google::protobuf::Timestamp::descriptor()) {
          auto* time =
              static_cast<google::protobuf::Timestamp*>(reflection.MutableMessage(message, field));
          time->set_seconds(1'795'184'569);
          time->set_nanos(123'456'789);
        } else if (list) {
          FillAll(reflection.AddMessage(message, field));
          FillAll(reflection.AddMessage(message, field));
        } else {
          FillAll(reflection.MutableMessage(message, field));
        }
        break;
      default:
        FAIL() << field->full_name() << " has a type that this test does not know";
    }
  }
}

v1::Event Envelope() {
  v1::Event event;
  event.set_event_id("e1");
  event.set_user_id("ada");
  event.set_thread_id("t1");
  event.set_run_id("r1");
  event.set_agent_name("finder");
  return event;
}

Message* MutablePayload(v1::Event* event, const EventTypeRow& row) {
  const auto* field = v1::Event::descriptor()->FindFieldByNumber(static_cast<int>(row.payload));
  return event->GetReflection()->MutableMessage(event, field);
}

std::vector<FieldViolation> Refusals(std::string_view json) {
  const auto event = EventFromJson(json);
  EXPECT_FALSE(event.ok()) << json;
  EXPECT_EQ(ReasonOf(event.status()), Reason::kContextInvalid);
  return ViolationsOf(event.status());
}

std::string OnlyRefusal(std::string_view json) {
  const auto refusals = Refusals(json);
  EXPECT_EQ(refusals.size(), 1u) << json;
  return refusals.empty() ? "" : refusals[0].field;
}

MATCHER_P(SameAs, other, "") {
  std::string differences;
  MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&differences);
  const bool same = differencer.Compare(arg, other);
  *result_listener << differences;
  return same;
}

class EveryType : public testing::TestWithParam<EventTypeRow> {};

TEST_P(EveryType, ComesBackTheSameWithEveryFieldSet) {
  v1::Event event = Envelope();
  FillAll(event.mutable_trace_context());
  event.mutable_occurred_at()->set_seconds(1'795'184'569);
  event.mutable_accepted_at()->set_seconds(1'795'184'570);
  event.mutable_accepted_at()->set_nanos(1'000'000);
  event.set_offset(42);
  event.set_first_offset(40);
  FillAll(MutablePayload(&event, GetParam()));

  const std::string json = EventToJson(event);
  boost::json::error_code error;
  boost::json::parse(json, error);
  ASSERT_FALSE(error) << json;
  EXPECT_THAT(json, HasSubstr("{\"offset\":42,\"first_offset\":40,\"type\":\"" +
                              std::string(GetParam().name) + "\""));

  const auto back = EventFromJson(json);
  ASSERT_TRUE(back.ok()) << back.status() << json;
  EXPECT_THAT(*back, SameAs(event));
}

TEST_P(EveryType, ComesBackTheSameWithNoOptionalFieldSet) {
  v1::Event event = Envelope();
  Message* payload = MutablePayload(&event, GetParam());
  // What goes in as JSON text has to be some.
  for (int i = 0; i < payload->GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = payload->GetDescriptor()->field(i);
    if (HoldsJson(field->name()) && !field->has_presence()) {
      payload->GetReflection()->SetString(payload, field, "null");
    }
    if (field->name() == "failure") payload->GetReflection()->MutableMessage(payload, field);
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      payload->GetReflection()->SetEnumValue(payload, field, 1);
    }
  }
  const std::string json = EventToJson(event);
  const auto back = EventFromJson(json);
  ASSERT_TRUE(back.ok()) << back.status() << json;
  EXPECT_THAT(*back, SameAs(event));
}

INSTANTIATE_TEST_SUITE_P(EventJson, EveryType, testing::ValuesIn(kEventTypes),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(EventJson, KeysStandInTheOrderOfTheContract) {
  v1::Event event = Envelope();
  event.mutable_occurred_at()->set_seconds(1'795'184'569);
  event.mutable_accepted_at()->set_seconds(1'795'184'569);
  event.mutable_accepted_at()->set_nanos(5'000'000);
  event.mutable_trace_context()->set_traceparent("00-x");
  auto* completed = event.mutable_tool_completed();
  completed->set_tool_call_id("c1");
  completed->set_tool_name("grep");
  completed->set_status(v1::TOOL_STATUS_SUCCEEDED);
  completed->set_result("[ 1 ]");
  completed->set_duration_ms(7);
  std::string json = "before";
  ASSERT_TRUE(AppendEventJson(event, &json));
  EXPECT_EQ(json,
            R"(before"type":"tool_completed","event_id":"e1","thread_id":"t1","run_id":"r1",)"
            R"("user_id":"ada","agent_name":"finder","timestamp":"2026-11-20T14:22:49.000Z",)"
            R"("accepted_at":"2026-11-20T14:22:49.005Z","traceparent":"00-x","tool_call_id":"c1",)"
            R"("tool_name":"grep","status":"succeeded","result":[ 1 ],"duration_ms":7})");
}

TEST(EventJson, FailureInfoIsFlatAndAnUnknownRecoveryTimeIsNull) {
  v1::Event event = Envelope();
  event.mutable_agent_error()->mutable_failure()->set_user_message("Sorry.");
  event.mutable_agent_error()->set_error_type("agent_lost");
  std::string json;
  ASSERT_TRUE(AppendEventJson(event, &json));
  EXPECT_THAT(json, HasSubstr(R"("message":"","user_message":"Sorry.","suggested_action":"",)"
                              R"("is_recoverable":false,"retry_possible":false,)"
                              R"("estimated_recovery_time":null,"error_type":"agent_lost",)"
                              R"("synthetic":false})"));
}

TEST(EventJson, EnumsAreNamedAsTheProtoNamesThem) {
  for (int status = 1; status < v1::ToolStatus_ARRAYSIZE; ++status) {
    v1::Event event = Envelope();
    event.mutable_tool_completed()->set_status(static_cast<v1::ToolStatus>(status));
    const auto back = EventFromJson(EventToJson(event));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->tool_completed().status(), status);
  }
  for (int outcome = 1; outcome < v1::RunOutcome_ARRAYSIZE; ++outcome) {
    v1::Event event = Envelope();
    event.mutable_agent_completed()->set_outcome(static_cast<v1::RunOutcome>(outcome));
    const auto back = EventFromJson(EventToJson(event));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->agent_completed().outcome(), outcome);
  }
}

TEST(EventJson, AppendsNothingForAnEventWithoutPayload) {
  std::string json = "before";
  EXPECT_FALSE(AppendEventJson(Envelope(), &json));
  EXPECT_EQ(json, "before");
  EXPECT_EQ(EventToJson(Envelope()), "");
}

TEST(EventFromJson, NamesTheFieldThatIsWrong) {
  EXPECT_EQ(OnlyRefusal("{"), "");
  EXPECT_EQ(OnlyRefusal("[]"), "");
  EXPECT_EQ(OnlyRefusal("{}"), "type");
  EXPECT_EQ(OnlyRefusal(R"({"type":7})"), "type");
  EXPECT_EQ(OnlyRefusal(R"({"type":"agent_vanished"})"), "type");
  EXPECT_EQ(OnlyRefusal(R"({"type":"step_started","step_name":7})"), "step_name");
  EXPECT_EQ(OnlyRefusal(R"({"type":"step_started","step_nam":"a"})"), "step_nam");
  EXPECT_EQ(OnlyRefusal(R"({"type":"step_started","message":"no failure type"})"), "message");
  EXPECT_EQ(OnlyRefusal(R"({"type":"agent_error","failure":{}})"), "failure");
  EXPECT_EQ(OnlyRefusal(R"({"type":"step_started","offset":-1})"), "offset");
  EXPECT_EQ(OnlyRefusal(R"({"type":"step_started","offset":1.5})"), "offset");
  EXPECT_EQ(OnlyRefusal(R"({"type":"step_started","timestamp":"yesterday"})"), "timestamp");
  EXPECT_EQ(OnlyRefusal(R"({"type":"step_started","timestamp":"1969-12-31T23:59:59Z"})"),
            "timestamp");
  EXPECT_EQ(OnlyRefusal(R"({"type":"step_started","timestamp":"infinite-future"})"), "timestamp");
  EXPECT_EQ(OnlyRefusal(R"({"type":"agent_thinking","is_final":1})"), "is_final");
  EXPECT_EQ(OnlyRefusal(R"({"type":"tool_progress","progress":"half"})"), "progress");
  EXPECT_EQ(OnlyRefusal(R"({"type":"tool_completed","status":"unspecified"})"), "status");
  EXPECT_EQ(OnlyRefusal(R"({"type":"tool_completed","status":"SUCCEEDED"})"), "status");
  EXPECT_EQ(OnlyRefusal(R"({"type":"agent_completed","usage":{}})"), "usage");
  EXPECT_EQ(OnlyRefusal(R"({"type":"agent_completed","usage":[{},3]})"), "usage[1]");
  EXPECT_EQ(OnlyRefusal(R"({"type":"agent_completed","usage":[{"cost":3}]})"), "usage[0].cost");
  EXPECT_EQ(OnlyRefusal(R"({"type":"agent_completed","interrupts":[{"expires_at":3}]})"),
            "interrupts[0].expires_at");
  EXPECT_EQ(OnlyRefusal(R"({"type":"resource_cleanup","resources":["a",null]})"), "resources[1]");
}

TEST(EventFromJson, RefusesKeysSaidTwice) {
  EXPECT_EQ(OnlyRefusal(R"({"type":"step_started","run_id":"a","run_id":"b"})"), "run_id");
  EXPECT_EQ(OnlyRefusal(R"({"type":"step_started","type":"custom"})"), "type");
}

TEST(EventFromJson, TakesJsonTextByteByByteAndNullAsAbsentElsewhere) {
  const auto event = EventFromJson(
      R"({"type":"tool_completed","result": {"id": 12345678901234567890,  "x":1.0} ,"message":null})");
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ(event->tool_completed().result(), R"({"id": 12345678901234567890,  "x":1.0})");
  EXPECT_FALSE(event->tool_completed().has_message());

  const auto null_result = EventFromJson(R"({"type":"tool_completed","result":null})");
  ASSERT_TRUE(null_result.ok());
  EXPECT_EQ(null_result->tool_completed().result(), "null");
}

TEST(EventFromJson, ReadsTimesWithOffsetsToTheNanosecond) {
  const auto event =
      EventFromJson(R"({"type":"step_started","timestamp":"2026-11-20T15:22:49.123456789+01:00"})");
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ(event->occurred_at().seconds(), 1'795'184'569);
  EXPECT_EQ(event->occurred_at().nanos(), 123'456'789);
}

TEST(EventFromJson, TakesJsonTextAsDeepAsValidateEventDoes) {
  const std::string deep = std::string(64, '[') + std::string(64, ']');
  const auto event = EventFromJson(
      R"({"type":"agent_completed","interrupts":[{"response_schema":)" + deep + "}]}");
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_TRUE(ValidJsonText(event->agent_completed().interrupts(0).response_schema()));
}

}  // namespace
}  // namespace clarion
