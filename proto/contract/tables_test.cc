// The tables of the contract against each other and against the protos.
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/contract/close_code.h"
#include "proto/contract/event_type.h"
#include "proto/contract/ids.h"
#include "proto/contract/reason.h"

namespace clarion {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(ReasonTable, EveryRowIsFoundByItsNameAndReason) {
  for (const ReasonRow& row : kReasons) {
    EXPECT_EQ(ReasonFromName(row.name), row.reason) << row.name;
    EXPECT_EQ(&RowOf(row.reason), &row);
    EXPECT_FALSE(row.user_message.empty()) << row.name;
    EXPECT_NE(row.code, absl::StatusCode::kOk) << row.name;
  }
}

TEST(ReasonTable, UnknownNamesHaveNoReason) {
  EXPECT_EQ(ReasonFromName(""), std::nullopt);
  EXPECT_EQ(ReasonFromName("context_invalid"), std::nullopt);
}

TEST(CloseTable, EveryRowIsFoundByItsCode) {
  std::set<std::string_view> names;
  for (const CloseRow& row : kCloseRows) {
    EXPECT_EQ(&RowOf(row.code), &row);
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_EQ(row.reconnect == Reconnect::kAfterDelay, row.retry_after_ms > 0) << row.name;
  }
}

// A page shows these beside what it does.
TEST(CloseTable, OnlyRowsWhoseClientComesBackSpeakOfReconnecting) {
  for (const CloseRow& row : kCloseRows) {
    EXPECT_FALSE(row.user_message.empty()) << row.name;
    if (row.reconnect != Reconnect::kNo) continue;
    EXPECT_THAT(std::string(row.user_message), Not(HasSubstr("econnect"))) << row.name;
  }
  // A reason is said by connections that stay and by those that end for good, too.
  for (const ReasonRow& row : kReasons) {
    EXPECT_THAT(std::string(row.user_message), Not(HasSubstr("econnect"))) << row.name;
  }
}

TEST(CloseTable, UnknownCodesReadAsInternal) {
  EXPECT_EQ(RowOf(static_cast<CloseCode>(4999)).code, CloseCode::kInternal);
}

TEST(EventTypeTable, HasOneRowForEachPayloadUnderItsName) {
  const auto* payload = v1::Event::descriptor()->FindOneofByName("payload");
  ASSERT_EQ(payload->field_count(), static_cast<int>(kEventTypes.size()));
  for (int i = 0; i < payload->field_count(); ++i) {
    const EventTypeRow* row = TypeNamed(payload->field(i)->name());
    ASSERT_NE(row, nullptr) << payload->field(i)->name();
    EXPECT_EQ(static_cast<int>(row->payload), payload->field(i)->number());
    EXPECT_EQ(TypeOf(row->payload), row);
  }
}

TEST(EventTypeTable, CriticalAreCompletionAndTheSevenThatCarryFailureInfo) {
  for (const EventTypeRow& row : kEventTypes) {
    const auto* field = v1::Event::descriptor()->FindFieldByName(std::string(row.name));
    const bool failure = field->message_type()->FindFieldByName("failure") != nullptr;
    EXPECT_EQ(row.critical, failure || row.payload == v1::Event::kAgentCompleted) << row.name;
    const bool terminal =
        row.payload == v1::Event::kAgentCompleted || row.payload == v1::Event::kAgentError;
    EXPECT_EQ(row.terminal, terminal) << row.name;
  }
}

TEST(EventTypeTable, UnknownPayloadsAndNamesHaveNoRow) {
  EXPECT_EQ(TypeOf(v1::Event::PAYLOAD_NOT_SET), nullptr);
  EXPECT_EQ(TypeOf(static_cast<v1::Event::PayloadCase>(19)), nullptr);
  EXPECT_EQ(TypeOf(static_cast<v1::Event::PayloadCase>(37)), nullptr);
  EXPECT_EQ(TypeNamed("agent_vanished"), nullptr);
}

TEST(Ids, AreOneTo128BytesOfPrintableAsciiWithoutSpace) {
  EXPECT_TRUE(ValidId("a"));
  EXPECT_TRUE(ValidId("!~"));
  EXPECT_TRUE(ValidId(std::string(128, 'x')));
  EXPECT_FALSE(ValidId(""));
  EXPECT_FALSE(ValidId(std::string(129, 'x')));
  EXPECT_FALSE(ValidId("a b"));
  EXPECT_FALSE(ValidId("a\x7f"));
  EXPECT_FALSE(ValidId("\xc3\xa9"));
  EXPECT_FALSE(ValidId(std::string_view("a\0b", 3)));
}

}  // namespace
}  // namespace clarion
