// Compaction by itself: what becomes one event, what does not, and what the one says.
#include "service/delivery/compactor.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "proto/contract/event_json.h"

namespace clarion::delivery {
namespace {

using ::testing::ElementsAre;

v1::Event Envelope(const std::string& id, const std::string& run = "r") {
  v1::Event event;
  event.set_event_id(id);
  event.set_user_id("u");
  event.set_thread_id("t");
  event.set_run_id(run);
  event.set_agent_name("a");
  event.mutable_occurred_at()->set_seconds(1'795'184'569);
  event.mutable_accepted_at()->set_seconds(1'795'184'570);
  return event;
}
v1::Event Said(const std::string& id, const std::string& text, bool is_final = false) {
  v1::Event event = Envelope(id);
  event.mutable_agent_message_delta()->set_message_id("m");
  event.mutable_agent_message_delta()->set_role("assistant");
  event.mutable_agent_message_delta()->set_delta(text);
  event.mutable_agent_message_delta()->set_is_final(is_final);
  return event;
}
v1::Event Thought(const std::string& id, const std::string& text, bool is_final = false) {
  v1::Event event = Envelope(id);
  event.mutable_agent_thinking()->set_message_id("m");
  event.mutable_agent_thinking()->set_delta(text);
  event.mutable_agent_thinking()->set_is_final(is_final);
  return event;
}
v1::Event Progressed(const std::string& id) {
  v1::Event event = Envelope(id);
  event.mutable_tool_progress()->set_tool_call_id("c");
  event.mutable_tool_progress()->set_progress(1);
  return event;
}

EventPtr Encode(const v1::Event& event) {
  std::string json;
  EXPECT_TRUE(AppendEventJson(event, &json));
  return std::make_shared<EncodedEvent>(json, event.SerializeAsString());
}

log::EventRun Stored(uint64_t first, const std::vector<v1::Event>& events,
                     const std::string& epoch = "e") {
  log::EventRun run{.epoch = Epoch(epoch), .first = Offset(first)};
  for (const v1::Event& event : events) run.events.push_back(Encode(event));
  return run;
}

std::vector<link::Live> Compact(const std::vector<v1::Event>& events, PageShape shape = {}) {
  Compactor compactor(ThreadId("t"), shape);
  compactor.Add(Stored(1, events));
  return compactor.Take();
}

// `text` of each event, with how many offsets it covers if that is not one; `.` at a message's end.
std::vector<std::string> Texts(const std::vector<link::Live>& runs) {
  std::vector<std::string> texts;
  for (const link::Live& run : runs) {
    for (const EventPtr& stored : run.events) {
      const auto event = EventFromJson(absl::StrCat("{\"offset\":1,", std::string(stored->json())));
      EXPECT_TRUE(event.ok()) << event.status() << stored->json();
      std::string text = event->event_id();
      if (event->has_agent_message_delta()) {
        text = event->agent_message_delta().delta();
        if (event->agent_message_delta().is_final()) text += ".";
      }
      if (event->has_agent_thinking()) text = "(" + event->agent_thinking().delta() + ")";
      if (stored->offsets() > 1) absl::StrAppend(&text, " x", stored->offsets());
      texts.push_back(text);
    }
  }
  return texts;
}

TEST(CompactorTest, DeltasOfOneMessageBecomeOneEvent) {
  EXPECT_THAT(Texts(Compact({Said("1", "Here "), Said("2", "I "), Said("3", "am.")})),
              ElementsAre("Here I am. x3"));
  EXPECT_THAT(Texts(Compact({Thought("1", "a"), Thought("2", "b")})), ElementsAre("(ab) x2"));
}

TEST(CompactorTest, WhatIsAloneTravelsAsItIsStored) {
  const log::EventRun run = Stored(1, {Said("1", "a"), Progressed("2"), Said("3", "b")});
  Compactor compactor(ThreadId("t"), {});
  compactor.Add(run);
  const std::vector<link::Live> page = compactor.Take();
  ASSERT_EQ(page.size(), 1u);
  EXPECT_EQ(page[0].events, run.events) << "the same objects";
  EXPECT_EQ(compactor.merged(), 0u);
}

TEST(CompactorTest, AnythingElseEndsAGroup) {
  EXPECT_THAT(Texts(Compact({Said("1", "a"), Said("2", "b"), Progressed("p"), Said("4", "c"),
                             Said("5", "d")})),
              ElementsAre("ab x2", "p", "cd x2"));
  EXPECT_THAT(
      Texts(Compact({Said("1", "a"), Thought("2", "b"), Thought("3", "c"), Said("4", "d")})),
      ElementsAre("a", "(bc) x2", "d"));
}

TEST(CompactorTest, TheEndOfAMessageEndsItsGroup) {
  EXPECT_THAT(
      Texts(Compact({Said("1", "a"), Said("2", "b", true), Said("3", "c"), Said("4", "d")})),
      ElementsAre("ab. x2", "cd x2"));
  EXPECT_THAT(Texts(Compact({Said("1", "a", true), Said("2", "b", true)})),
              ElementsAre("a.", "b."));
  EXPECT_THAT(Texts(Compact({Said("1", "a"), Said("2", "", true)})), ElementsAre("a. x2"));
}

TEST(CompactorTest, AnotherMessageRunAgentOrRoleIsAnotherGroup) {
  v1::Event message = Said("2", "b");
  message.mutable_agent_message_delta()->set_message_id("m2");
  v1::Event role = Said("2", "b");
  role.mutable_agent_message_delta()->set_role("tool");
  v1::Event run = Said("2", "b");
  run.set_run_id("r2");
  v1::Event agent = Said("2", "b");
  agent.set_agent_name("a2");
  for (const v1::Event& other : {message, role, run, agent}) {
    for (const bool proto : {false, true}) {
      EXPECT_EQ(Compact({Said("1", "a"), other}, {.json = !proto, .proto = proto})[0].events.size(),
                2u)
          << other.ShortDebugString();
    }
  }
}

TEST(CompactorTest, AnotherEpochIsAnotherGroup) {
  Compactor compactor(ThreadId("t"), {});
  EXPECT_TRUE(compactor.Add(Stored(1, {Said("1", "a"), Said("2", "b")}, "e1")));
  EXPECT_TRUE(compactor.Add(Stored(3, {Said("3", "c"), Said("4", "d")}, "e2")));
  const std::vector<link::Live> page = compactor.Take();
  ASSERT_EQ(page.size(), 2u);
  EXPECT_EQ(page[0].last(), Offset(2));
  EXPECT_EQ(page[1].first, Offset(3));
  EXPECT_EQ(page[1].last(), Offset(4));
  EXPECT_THAT(Texts(page), ElementsAre("ab x2", "cd x2"));
}

TEST(CompactorTest, AGroupGoesOnOverReads) {
  Compactor compactor(ThreadId("t"), {});
  EXPECT_TRUE(compactor.Add(Stored(1, {Said("1", "a"), Said("2", "b")})));
  EXPECT_EQ(compactor.next(), Offset(3));
  EXPECT_TRUE(compactor.Add(Stored(3, {Said("3", "c"), Progressed("p")})));
  EXPECT_EQ(compactor.merged(), 2u);
  EXPECT_THAT(Texts(compactor.Take()), ElementsAre("abc x3", "p"));
}

TEST(CompactorTest, EverythingButTheTextIsTheLastOnesInBothEncodings) {
  v1::Event first = Said("1", "a\"\\\n\xC3\xA9");
  first.mutable_trace_context()->set_traceparent("first");
  v1::Event last = Said("2", "\x01\xF0\x9F\x98\x80\\", true);
  last.mutable_occurred_at()->set_nanos(7'000'000);
  last.mutable_accepted_at()->set_seconds(1'795'184'999);
  last.mutable_trace_context()->set_traceparent(
      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  last.mutable_trace_context()->set_tracestate("k=v");
  const std::vector<link::Live> page = Compact({first, last});
  ASSERT_EQ(page[0].events.size(), 1u);
  const EncodedEvent& merged = *page[0].events[0];
  EXPECT_EQ(merged.offsets(), 2u);

  v1::Event expected = last;
  expected.mutable_agent_message_delta()->set_delta(first.agent_message_delta().delta() +
                                                    last.agent_message_delta().delta());
  std::string json;
  AppendEventJson(expected, &json);
  EXPECT_EQ(merged.json(), json);
  v1::Event proto;
  ASSERT_TRUE(proto.ParseFromString(std::string(merged.proto())));
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(proto, expected))
      << proto.DebugString();
}

TEST(CompactorTest, MakesOnlyTheEncodingThatIsWanted) {
  const auto json = Compact({Said("1", "a"), Said("2", "b")}, {.proto = false});
  EXPECT_FALSE(json[0].events[0]->json().empty());
  EXPECT_TRUE(json[0].events[0]->proto().empty());
  const auto proto = Compact({Said("1", "a"), Said("2", "b")}, {.json = false});
  EXPECT_TRUE(proto[0].events[0]->json().empty());
  v1::Event event;
  ASSERT_TRUE(event.ParseFromString(std::string(proto[0].events[0]->proto())));
  EXPECT_EQ(event.agent_message_delta().delta(), "ab");
}

TEST(CompactorTest, NothingIsMergedForWhoWantsAll) {
  EXPECT_THAT(Texts(Compact({Said("1", "a"), Said("2", "b")}, {.compact = false})),
              ElementsAre("a", "b"));
}

TEST(CompactorTest, APageEndsWhereItsBytesEndAlsoInsideAGroup) {
  Compactor compactor(ThreadId("t"), {.max_bytes = 1'300});
  const std::string text(400, 'x');
  EXPECT_FALSE(compactor.Add(Stored(1, {Said("1", text), Said("2", text), Said("3", text)})));
  EXPECT_EQ(compactor.next(), Offset(3));
  const std::vector<link::Live> page = compactor.Take();
  ASSERT_EQ(page[0].events.size(), 1u);
  EXPECT_EQ(page[0].last(), Offset(2));
  EXPECT_LE(page[0].events[0]->json().size(), 1'300u);
}

TEST(CompactorTest, APageEndsWhereItsEventsEndAndHoldsAtLeastOne) {
  Compactor few(ThreadId("t"), {.max_events = 2});
  EXPECT_FALSE(
      few.Add(Stored(1, {Progressed("1"), Said("2", "a"), Said("3", "b"), Progressed("4")})));
  EXPECT_THAT(Texts(few.Take()), ElementsAre("1", "ab x2"));
  Compactor small(ThreadId("t"), {.max_bytes = 1});
  EXPECT_FALSE(small.Add(Stored(1, {Progressed("1"), Progressed("2")})));
  EXPECT_THAT(Texts(small.Take()), ElementsAre("1"));
}

TEST(CompactorTest, APageThatEndsBeforeARunHasNoneOfIt) {
  Compactor compactor(ThreadId("t"), {.max_events = 1});
  EXPECT_TRUE(compactor.Add(Stored(1, {Progressed("1")}, "e1")));
  EXPECT_FALSE(compactor.Add(Stored(2, {Progressed("2")}, "e2")));
  EXPECT_EQ(compactor.next(), Offset(2));
  const std::vector<link::Live> page = compactor.Take();
  ASSERT_EQ(page.size(), 1u);
  EXPECT_EQ(page[0].epoch.str(), "e1");
}

// What an older or newer encoder wrote otherwise is not guessed at.
TEST(CompactorTest, WhatIsNotWrittenAsItIsNowIsNotMerged) {
  const EventPtr delta = Encode(Said("1", "a"));
  const std::string json(delta->json());
  for (const std::string& other :
       {json.substr(0, json.size() - 1), json + " ", std::string("event1"), std::string(),
        R"("type":"agent_message_delta","more":1,)" + json.substr(7)}) {
    EXPECT_FALSE(ReadJsonDelta(other).has_value()) << other;
  }
  EXPECT_TRUE(ReadJsonDelta(json).has_value());
  const std::string proto(delta->proto());
  EXPECT_TRUE(ReadProtoDelta(proto).has_value());
  for (size_t cut = 0; cut < proto.size(); ++cut) {
    // Cut between fields it may still be a delta; never of more than there is.
    const auto read = ReadProtoDelta(std::string_view(proto).substr(0, cut));
    if (read.has_value()) {
      EXPECT_LE(read->text.size(), cut);
    }
  }
  EXPECT_FALSE(ReadProtoDelta(std::string_view(Encode(Progressed("1"))->proto())).has_value());
}

}  // namespace
}  // namespace clarion::delivery
