// Every rule of event.proto, as event -> the fields that are refused.
#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "proto/contract/event_json.h"
#include "proto/contract/event_type.h"

namespace clarion {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

// Valid, with `payload` in the proto's text format.
v1::Event With(const std::string& payload) {
  v1::Event event;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"(event_id: "e" user_id: "u" thread_id: "t" run_id: "r" agent_name: "a" )" + payload,
      &event))
      << payload;
  return event;
}

v1::Event Step() {
  return With(R"(step_started { step_name: "s" })");
}

std::vector<std::string> Refused(const v1::Event& event,
                                 EventOrigin origin = EventOrigin::kProducer) {
  std::vector<FieldViolation> violations;
  ValidateEvent(event, "event.", &violations, origin);
  std::vector<std::string> fields;
  fields.reserve(violations.size());
  for (const FieldViolation& violation : violations) fields.push_back(violation.field);
  return fields;
}

// The one field of the payload that is refused, without `event.`; empty: valid.
std::string Refused(const std::string& payload) {
  const auto fields = Refused(With(payload));
  EXPECT_LE(fields.size(), 1u) << payload << testing::PrintToString(fields);
  return fields.empty() ? "" : fields[0].substr(std::string("event.").size());
}

constexpr char kFailure[] = R"(failure { user_message: "Sorry." })";
std::string WithFailure(const std::string& type, const std::string& fields) {
  return type + " { " + kFailure + " " + fields + " }";
}
const std::string kLongName(257, 'n');
const std::string kLongText(64 * 1024 + 1, 'x');

TEST(ValidateEvent, AcceptsTheLeastOfEveryType) {
  const std::vector<std::string> least = {
      "agent_started {}",
      R"(agent_thinking { message_id: "m" is_final: true })",
      R"(agent_message_delta { message_id: "m" role: "assistant" delta: "x" })",
      R"(tool_executing { tool_call_id: "c" tool_name: "n" arguments: "{}" })",
      R"(tool_progress { tool_call_id: "c" })",
      R"(tool_completed { tool_call_id: "c" tool_name: "n" status: TOOL_STATUS_FAILED })",
      R"(step_started { step_name: "s" })",
      R"(step_completed { step_name: "s" })",
      "agent_completed { outcome: RUN_OUTCOME_SUCCESS }",
      WithFailure("agent_error", R"(error_type: "internal")"),
      WithFailure("circuit_breaker_triggered", ""),
      WithFailure("partial_result_preserved", R"(result: "null")"),
      WithFailure("graceful_degradation", R"(capability: "c" level: "off")"),
      WithFailure("recovery_attempt", R"(attempt: 1 error_type: "internal")"),
      WithFailure("resource_cleanup", R"(status: "complete")"),
      WithFailure("system_recovered", ""),
      R"(custom { name: "n" value: "null" })",
  };
  ASSERT_EQ(least.size(), kEventTypes.size());
  for (const std::string& payload : least) EXPECT_EQ(Refused(payload), "") << payload;
}

TEST(ValidateEvent, NamesEveryMissingFieldOfTheEnvelope) {
  EXPECT_THAT(Refused(v1::Event()),
              ElementsAre("event.event_id", "event.user_id", "event.thread_id", "event.run_id",
                          "event.agent_name", "event.payload"));
}

TEST(ValidateEvent, StopsAtSixteenViolations) {
  v1::Event event = With("agent_completed { outcome: RUN_OUTCOME_SUCCESS }");
  for (int i = 0; i < 64; ++i) event.mutable_agent_completed()->add_usage();
  EXPECT_THAT(Refused(event), SizeIs(16));
}

TEST(ValidateEvent, RefusesIdsThatAreNotPrintableAscii) {
  v1::Event event = Step();
  event.set_event_id("a b");
  event.set_user_id("\xc3\xa9");
  event.set_thread_id(std::string(129, 't'));
  EXPECT_THAT(Refused(event), ElementsAre("event.event_id", "event.user_id", "event.thread_id"));
}

TEST(ValidateEvent, RefusesWhatOnlyTheServiceMaySay) {
  v1::Event event = With(WithFailure("agent_error", R"(error_type: "agent_lost" synthetic: true)"));
  event.set_event_id("_lost-1");
  event.set_user_id("_clarion");
  event.set_offset(3);
  event.mutable_accepted_at()->set_seconds(1);
  event.set_first_offset(2);
  EXPECT_THAT(Refused(event),
              ElementsAre("event.event_id", "event.user_id", "event.offset", "event.accepted_at",
                          "event.first_offset", "event.agent_error.synthetic"));
  EXPECT_THAT(Refused(event, EventOrigin::kService), IsEmpty());

  v1::Event other = Step();
  other.set_user_id("_clarion2");
  EXPECT_THAT(Refused(other), IsEmpty());
}

TEST(ValidateEvent, RefusesFieldsItDoesNotKnowAtEveryDepth) {
  v1::Event event = Step();
  event.GetReflection()->MutableUnknownFields(&event)->AddVarint(999, 1);
  EXPECT_THAT(Refused(event), ElementsAre("event.#999"));

  event = Step();
  auto* step = event.mutable_step_started();
  step->GetReflection()->MutableUnknownFields(step)->AddVarint(999, 1);
  EXPECT_THAT(Refused(event), ElementsAre("event.step_started.#999"));

  event = With(WithFailure("agent_error", R"(error_type: "internal")"));
  auto* failure = event.mutable_agent_error()->mutable_failure();
  failure->GetReflection()->MutableUnknownFields(failure)->AddVarint(999, 1);
  EXPECT_THAT(Refused(event), ElementsAre("event.agent_error.failure.#999"));

  event = With(
      R"(agent_completed { outcome: RUN_OUTCOME_SUCCESS usage { provider: "p" model: "m" } })");
  auto* usage = event.mutable_agent_completed()->mutable_usage(0);
  usage->GetReflection()->MutableUnknownFields(usage)->AddVarint(999, 1);
  EXPECT_THAT(Refused(event), ElementsAre("event.agent_completed.usage[0].#999"));

  event = Step();
  auto* time = event.mutable_occurred_at();
  time->GetReflection()->MutableUnknownFields(time)->AddVarint(999, 1);
  EXPECT_THAT(Refused(event), ElementsAre("event.occurred_at"));
}

TEST(ValidateEvent, RefusesAPayloadOfAVersionToCome) {
  // Field 37, length-delimited, empty: what a newer producer's new payload looks like here.
  v1::Event event = Step();
  event.clear_payload();
  std::string bytes = event.SerializeAsString();
  bytes += std::string("\xaa\x02\x00", 3);
  ASSERT_TRUE(event.ParseFromString(bytes));
  EXPECT_THAT(Refused(event), ElementsAre("event.#37", "event.payload"));
}

TEST(ValidateEvent, BoundsTimes) {
  v1::Event event = Step();
  event.mutable_occurred_at()->set_seconds(253402300799);
  event.mutable_occurred_at()->set_nanos(999'999'999);
  EXPECT_THAT(Refused(event), IsEmpty());
  event.mutable_occurred_at()->set_seconds(253402300800);
  EXPECT_THAT(Refused(event), ElementsAre("event.occurred_at"));
  event.mutable_occurred_at()->set_seconds(-1);
  EXPECT_THAT(Refused(event), ElementsAre("event.occurred_at"));
  event.mutable_occurred_at()->set_seconds(0);
  event.mutable_occurred_at()->set_nanos(-1);
  EXPECT_THAT(Refused(event), ElementsAre("event.occurred_at"));
}

TEST(ValidateEvent, ChecksTraceContext) {
  const auto refused = [](const std::string& traceparent, const std::string& tracestate) {
    v1::Event event = Step();
    event.mutable_trace_context()->set_traceparent(traceparent);
    event.mutable_trace_context()->set_tracestate(tracestate);
    return Refused(event);
  };
  const std::string good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  EXPECT_THAT(refused(good, "a=b"), IsEmpty());
  EXPECT_THAT(refused("", ""), IsEmpty());
  EXPECT_THAT(refused("cc" + good.substr(2) + "-more", ""), IsEmpty());
  for (const std::string& bad :
       {good + "-more", "ff" + good.substr(2), "cc" + good.substr(2) + "more", good.substr(1),
        std::string("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        std::string("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
        std::string("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01")}) {
    EXPECT_THAT(refused(bad, ""), ElementsAre("event.trace_context.traceparent")) << bad;
  }
  EXPECT_THAT(refused("", "a=b"), ElementsAre("event.trace_context.traceparent"));
  EXPECT_THAT(refused(good, std::string(513, 'a')), ElementsAre("event.trace_context.tracestate"));
  EXPECT_THAT(refused(good, "a=\n"), ElementsAre("event.trace_context.tracestate"));
}

TEST(ValidateEvent, ChecksEachFieldOfRunsAndMessages) {
  EXPECT_EQ(Refused(R"(agent_started { input: "{" })"), "agent_started.input");
  EXPECT_EQ(Refused(R"(agent_started { input: "" })"), "agent_started.input");
  EXPECT_EQ(Refused(R"(agent_started { parent_run_id: "" })"), "agent_started.parent_run_id");
  EXPECT_EQ(Refused(R"(agent_started { parent_tool_call_id: " " })"),
            "agent_started.parent_tool_call_id");
  EXPECT_EQ(Refused(R"(agent_started { retry_of_run_id: "" })"), "agent_started.retry_of_run_id");
  EXPECT_EQ(Refused(R"(agent_thinking { message_id: "m" })"), "agent_thinking.delta");
  EXPECT_EQ(Refused(R"(agent_thinking { delta: "x" })"), "agent_thinking.message_id");
  EXPECT_EQ(Refused(R"(agent_message_delta { message_id: "m" delta: "x" })"),
            "agent_message_delta.role");
  EXPECT_EQ(Refused(R"(agent_message_delta { message_id: "m" role: "user" })"),
            "agent_message_delta.delta");
  EXPECT_EQ(Refused("step_started {}"), "step_started.step_name");
  EXPECT_EQ(Refused("step_completed { step_name: \"" + kLongName + "\" }"),
            "step_completed.step_name");
  EXPECT_EQ(Refused(R"(custom { value: "1" })"), "custom.name");
  EXPECT_EQ(Refused(R"(custom { name: "n" })"), "custom.value");
}

TEST(ValidateEvent, ChecksEachFieldOfTools) {
  EXPECT_EQ(Refused(R"(tool_executing { tool_call_id: "c" tool_name: "n" })"),
            "tool_executing.arguments");
  EXPECT_EQ(Refused(R"(tool_executing { tool_name: "n" arguments: "{}" })"),
            "tool_executing.tool_call_id");
  EXPECT_EQ(Refused(R"(tool_executing { tool_call_id: "c" arguments: "{}" })"),
            "tool_executing.tool_name");
  EXPECT_EQ(Refused(R"(tool_executing { tool_call_id: "c" tool_name: "n" arguments: "{}"
                       parent_message_id: "" })"),
            "tool_executing.parent_message_id");
  EXPECT_EQ(Refused(R"(tool_progress { tool_call_id: "c" progress: -1 })"),
            "tool_progress.progress");
  EXPECT_EQ(Refused(R"(tool_progress { tool_call_id: "c" progress: nan })"),
            "tool_progress.progress");
  EXPECT_EQ(Refused(R"(tool_progress { tool_call_id: "c" total: inf })"), "tool_progress.total");
  EXPECT_EQ(Refused("tool_progress { tool_call_id: \"c\" message: \"" + kLongText + "\" }"),
            "tool_progress.message");
  const auto completed = [](const std::string& more) {
    return Refused(R"(tool_completed { tool_call_id: "c" tool_name: "n" )" + more + " }");
  };
  EXPECT_EQ(completed(""), "tool_completed.status");
  EXPECT_EQ(completed("status: TOOL_STATUS_FAILED error_type: \"Not lower\""),
            "tool_completed.error_type");
  EXPECT_EQ(completed("status: TOOL_STATUS_SUCCEEDED result: \"{]\""), "tool_completed.result");
  EXPECT_EQ(completed("status: TOOL_STATUS_SUCCEEDED duration_ms: 9007199254740991"), "");
  EXPECT_EQ(completed("status: TOOL_STATUS_SUCCEEDED duration_ms: 9007199254740992"),
            "tool_completed.duration_ms");
  v1::Event event = With(R"(tool_completed { tool_call_id: "c" tool_name: "n" })");
  event.mutable_tool_completed()->set_status(static_cast<v1::ToolStatus>(5));
  EXPECT_THAT(Refused(event), ElementsAre("event.tool_completed.status"));
}

TEST(ValidateEvent, ChecksEachFieldOfCompletion) {
  EXPECT_EQ(Refused("agent_completed {}"), "agent_completed.outcome");
  EXPECT_EQ(Refused(R"(agent_completed { outcome: RUN_OUTCOME_SUCCESS result: "nul" })"),
            "agent_completed.result");
  EXPECT_EQ(Refused(R"(agent_completed { outcome: RUN_OUTCOME_SUCCESS
                       usage { provider: "p" model: "m" } usage { provider: "p" } })"),
            "agent_completed.usage[1].model");
  EXPECT_EQ(Refused(R"(agent_completed { outcome: RUN_OUTCOME_SUCCESS
                       usage { provider: "p" model: "m" output_tokens: 9007199254740992 } })"),
            "agent_completed.usage[0].output_tokens");
  EXPECT_EQ(Refused(R"(agent_completed { outcome: RUN_OUTCOME_SUCCESS
                       interrupts { id: "i" reason: "r" } })"),
            "agent_completed.interrupts");
  EXPECT_EQ(Refused(R"(agent_completed { outcome: RUN_OUTCOME_INTERRUPTED
                       interrupts { id: "i" reason: "r" response_schema: "{}" } })"),
            "");
  EXPECT_EQ(
      Refused(R"(agent_completed { outcome: RUN_OUTCOME_INTERRUPTED interrupts { id: "i" } })"),
      "agent_completed.interrupts[0].reason");
  EXPECT_EQ(Refused(R"(agent_completed { outcome: RUN_OUTCOME_INTERRUPTED
                       interrupts { id: "i" reason: "r" expires_at { nanos: -1 } } })"),
            "agent_completed.interrupts[0].expires_at");
  v1::Event event = With("agent_completed { outcome: RUN_OUTCOME_SUCCESS }");
  for (int i = 0; i < 65; ++i) event.mutable_agent_completed()->add_usage();
  EXPECT_THAT(Refused(event), ElementsAre("event.agent_completed.usage"));
}

TEST(ValidateEvent, RequiresFailureInfoOnAllSeven) {
  for (const EventTypeRow& row : kEventTypes) {
    const auto* field = v1::Event::descriptor()->FindFieldByName(std::string(row.name));
    const auto* failure = field->message_type()->FindFieldByName("failure");
    if (failure == nullptr) continue;
    v1::Event event = With("");
    auto* payload = event.GetReflection()->MutableMessage(&event, field);
    const std::string path = "event." + std::string(row.name) + ".failure";
    EXPECT_THAT(Refused(event), testing::Contains(path));
    payload->GetReflection()->MutableMessage(payload, failure);
    EXPECT_THAT(Refused(event), testing::Contains(path + ".user_message"));
  }
}

TEST(ValidateEvent, ChecksEachFieldOfFailures) {
  EXPECT_EQ(Refused(WithFailure("agent_error", "")), "agent_error.error_type");
  EXPECT_EQ(Refused(WithFailure("agent_error", "error_type: \"" + std::string(65, 'e') + "\"")),
            "agent_error.error_type");
  EXPECT_EQ(Refused(R"(agent_error { error_type: "internal"
                       failure { user_message: "x" estimated_recovery_time: -1 } })"),
            "agent_error.failure.estimated_recovery_time");
  EXPECT_EQ(Refused("agent_error { error_type: \"internal\" failure { user_message: \"" +
                    kLongText + "\" } }"),
            "agent_error.failure.user_message");
  EXPECT_EQ(Refused(WithFailure("circuit_breaker_triggered", "window_seconds: inf")),
            "circuit_breaker_triggered.window_seconds");
  EXPECT_EQ(Refused(WithFailure("circuit_breaker_triggered", "retry_after_seconds: -0.5")),
            "circuit_breaker_triggered.retry_after_seconds");
  EXPECT_EQ(Refused(WithFailure("partial_result_preserved", "")),
            "partial_result_preserved.result");
  EXPECT_EQ(Refused(WithFailure("partial_result_preserved",
                                R"(result: "1" from_offset: 2 to_offset: 1)")),
            "partial_result_preserved.to_offset");
  EXPECT_EQ(Refused(WithFailure("graceful_degradation", R"(level: "off")")),
            "graceful_degradation.capability");
  EXPECT_EQ(Refused(WithFailure("graceful_degradation", R"(capability: "c")")),
            "graceful_degradation.level");
  EXPECT_EQ(Refused(WithFailure("recovery_attempt", R"(error_type: "internal")")),
            "recovery_attempt.attempt");
  EXPECT_EQ(Refused(WithFailure("recovery_attempt", "attempt: 1")), "recovery_attempt.error_type");
  EXPECT_EQ(Refused(WithFailure("resource_cleanup", R"(status: "complete" resources: "")")),
            "resource_cleanup.resources[0]");
  EXPECT_EQ(Refused(WithFailure("resource_cleanup", "")), "resource_cleanup.status");
  EXPECT_EQ(Refused(WithFailure("system_recovered", "downtime_seconds: nan")),
            "system_recovered.downtime_seconds");
  v1::Event event = With(WithFailure("system_recovered", ""));
  for (int i = 0; i < 257; ++i) event.mutable_system_recovered()->add_recovered("r");
  EXPECT_THAT(Refused(event), ElementsAre("event.system_recovered.recovered"));
}

}  // namespace
}  // namespace clarion
