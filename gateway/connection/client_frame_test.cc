#include "gateway/connection/client_frame.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

using ::testing::HasSubstr;
using Verdict = ClientMessage::Verdict;

ClientMessage Json(const std::string& text) {
  return ParseClientMessage(Encoding::kJson, text);
}

v1::ClientFrame Valid(const std::string& text) {
  const ClientMessage message = Json(text);
  EXPECT_EQ(message.verdict, Verdict::kValid) << text << ": " << message.problem;
  return message.frame;
}

void ExpectInvalid(const std::string& text, const std::string& problem) {
  const ClientMessage message = Json(text);
  EXPECT_EQ(message.verdict, Verdict::kInvalid) << text;
  EXPECT_THAT(message.problem, HasSubstr(problem)) << text;
}

TEST(ClientFrameTest, EveryFieldOfConnectAndSubscribeIsRead) {
  const v1::ClientFrame frame = Valid(
      R"({"type":"connect","id":"1","token":"t","protocol":1,"client":"page","subscribe":[)"
      R"({"thread_id":"a","after":{"epoch":"e","offset":7}},{"thread_id":"b","from":"live","history":"full"},)"
      R"({"all":true,"after":[{"thread_id":"c","epoch":"f","offset":9}]}]})");
  EXPECT_EQ(frame.id(), "1");
  EXPECT_EQ(frame.connect().token(), "t");
  EXPECT_EQ(frame.connect().client(), "page");
  ASSERT_EQ(frame.connect().subscribe_size(), 3);
  EXPECT_EQ(frame.connect().subscribe(0).after().epoch(), "e");
  EXPECT_EQ(frame.connect().subscribe(0).after().offset(), 7u);
  EXPECT_EQ(frame.connect().subscribe(1).from(), v1::START_FROM_LIVE);
  EXPECT_EQ(frame.connect().subscribe(1).history(), v1::HISTORY_FULL);
  EXPECT_TRUE(frame.connect().subscribe(2).all());
  EXPECT_EQ(frame.connect().subscribe(2).positions(0).thread_id(), "c");
  EXPECT_EQ(frame.connect().subscribe(2).positions(0).offset(), 9u);
}

TEST(ClientFrameTest, TheOtherFramesAreRead) {
  EXPECT_EQ(Valid(R"({"type":"ack","thread_id":"t","epoch":"e","offset":3})").ack().offset(), 3u);
  EXPECT_TRUE(Valid(R"({"type":"unsubscribe","all":true})").unsubscribe().all());
  EXPECT_EQ(Valid(R"({"type":"refresh","token":"x"})").refresh().token(), "x");
  EXPECT_TRUE(Valid(R"({"type":"pong"})").has_pong());
  EXPECT_EQ(Valid(R"({"type":"probe_reply","nonce":"n"})").probe_reply().nonce(), "n");
  EXPECT_TRUE(Valid(R"({"type":"run_input","thread_id":"t","anything":[1]})").has_run_input());
  EXPECT_EQ(Valid(R"({"type":"subscribe","thread_id":"t","after":null})").subscribe().has_after(),
            false);
}

TEST(ClientFrameTest, LimitsAndKindsAreRefusedByName) {
  const std::string long_id(129, 'x');
  ExpectInvalid(R"({"type":"nothing"})", "type");
  ExpectInvalid(R"({"thread_id":"t"})", "type");
  ExpectInvalid(R"({"type":7})", "type");
  ExpectInvalid(R"({"type":"pong","id":")" + long_id + "\"}", "id");
  ExpectInvalid(R"({"type":"subscribe"})", "thread_id");
  ExpectInvalid(R"({"type":"subscribe","thread_id":"a b"})", "thread_id");
  ExpectInvalid(R"({"type":"subscribe","thread_id":")" + long_id + "\"}", "thread_id");
  ExpectInvalid(R"({"type":"subscribe","thread_id":7})", "thread_id must be a string");
  ExpectInvalid(R"({"type":"subscribe","thread_id":"t","all":true})", "exclude");
  ExpectInvalid(R"({"type":"subscribe","all":1})", "all must be");
  ExpectInvalid(R"({"type":"subscribe","all":true,"from":"live"})", "not from");
  ExpectInvalid(R"({"type":"subscribe","thread_id":"t","form":"live"})", "form is unknown");
  ExpectInvalid(R"({"type":"subscribe","thread_id":"t","from":"end"})", "from");
  ExpectInvalid(R"({"type":"subscribe","thread_id":"t","history":"short"})", "history");
  ExpectInvalid(
      R"({"type":"subscribe","thread_id":"t","from":"live","after":{"epoch":"e","offset":1}})",
      "exclude");
  ExpectInvalid(R"({"type":"subscribe","thread_id":"t","after":{"offset":1}})", "after.epoch");
  ExpectInvalid(R"({"type":"subscribe","thread_id":"t","after":{"epoch":"e","offset":-1}})",
                "after.offset");
  ExpectInvalid(R"({"type":"subscribe","thread_id":"t","after":{"epoch":"e","offset":1.5}})",
                "after.offset");
  ExpectInvalid(
      R"({"type":"subscribe","thread_id":"t","after":{"epoch":"e","offset":9007199254740992}})",
      "after.offset");
  ExpectInvalid(R"({"type":"subscribe","thread_id":"t","after":{"epoch":"e","offfset":1}})",
                "after.offfset is unknown");
  ExpectInvalid(R"({"type":"subscribe","thread_id":"t","after":[]})", "");
  ExpectInvalid(R"({"type":"subscribe","all":true,"after":[7]})", "after[0]");
  ExpectInvalid(R"({"type":"ack","thread_id":"t","offset":1})", "epoch");
  ExpectInvalid(R"({"type":"refresh"})", "token");
  ExpectInvalid(R"({"type":"connect","token":"t"})", "protocol");
  ExpectInvalid(
      R"({"type":"connect","token":"t","protocol":1,"subscribe":[{"type":"subscribe","thread_id":"t"}]})",
      "subscribe[0]");
  ExpectInvalid(R"({"type":"connect","token":"t","protocol":1,"subscribe":{}})", "subscribe");
  ExpectInvalid(R"({"type":"connect","token":"t","protocol":1,"subscribe":[7]})", "subscribe[0]");
}

TEST(ClientFrameTest, ListOfPositionsWithoutAllIsRefused) {
  ExpectInvalid(
      R"({"type":"subscribe","thread_id":"t","after":[{"thread_id":"t","epoch":"e","offset":1}]})",
      "all");
}

TEST(ClientFrameTest, MoreThan1024PositionsAreRefused) {
  std::string list;
  for (int i = 0; i < 1025; ++i) list += R"({"thread_id":"t","epoch":"e","offset":1},)";
  list.pop_back();
  ExpectInvalid(R"({"type":"subscribe","all":true,"after":[)" + list + "]}", "1,024");
}

TEST(ClientFrameTest, RefusedFrameKeepsItsId) {
  EXPECT_EQ(Json(R"({"type":"subscribe","id":"7"})").frame.id(), "7");
  EXPECT_EQ(Json(R"({"type":"nothing","id":"7"})").frame.id(), "7");
}

TEST(ClientFrameTest, WhatIsNoFrameIsUnreadable) {
  for (const std::string& text :
       {std::string(), std::string("x"), std::string("[]"), std::string("7"), std::string("{"),
        std::string("{}{}"), std::string("{\"type\":\"pong\"} x"), std::string(5000, '['),
        "{\"type\":" + std::string(40, '[') + std::string(40, ']') + "}", std::string("\0\0", 2)}) {
    EXPECT_EQ(Json(text).verdict, Verdict::kUnreadable) << text.substr(0, 40);
  }
}

TEST(ClientFrameTest, ProtoFrameIsReadAndHeldToTheSameLimits) {
  v1::ClientFrame frame;
  frame.set_id("1");
  frame.mutable_subscribe()->set_thread_id("t");
  ClientMessage message = ParseClientMessage(Encoding::kProto, frame.SerializeAsString());
  EXPECT_EQ(message.verdict, Verdict::kValid);
  EXPECT_EQ(message.frame.subscribe().thread_id(), "t");

  frame.mutable_subscribe()->set_history(v1::HISTORY_COMPACTED);
  EXPECT_EQ(ParseClientMessage(Encoding::kProto, frame.SerializeAsString()).verdict,
            Verdict::kValid);
  frame.mutable_subscribe()->set_history(static_cast<v1::History>(7));
  message = ParseClientMessage(Encoding::kProto, frame.SerializeAsString());
  EXPECT_EQ(message.verdict, Verdict::kInvalid);
  EXPECT_EQ(message.frame.id(), "1");

  EXPECT_EQ(ParseClientMessage(Encoding::kProto, "\xff\xff").verdict, Verdict::kUnreadable);
  EXPECT_EQ(ParseClientMessage(Encoding::kProto, "").verdict, Verdict::kInvalid);
}

TEST(ClientFrameTest, UnknownFieldsInProtoAreRefused) {
  v1::ClientFrame frame;
  frame.mutable_pong();
  // Field 99 of the frame, a varint.
  const std::string bytes = frame.SerializeAsString() + std::string("\x98\x06\x01", 3);
  EXPECT_EQ(ParseClientMessage(Encoding::kProto, bytes).verdict, Verdict::kInvalid);
}

}  // namespace
}  // namespace clarion::gateway
