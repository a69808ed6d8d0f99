// Bytes that are no request, and requests that are too large: answered as any other mistake is.
#include <array>

#include "proto/contract/raw_call_testing.h"
#include "service/front/front_testing.h"

namespace clarion::front {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kService[] = "/clarion.v1.EventService/";

constexpr std::array kRpcs = {"Publish",        "StartRun",         "AwaitReady",  "BindThread",
                              "GetConnections", "WatchConnections", "ListThreads", "ListEvents",
                              "GetEvent",       "CheckWiring"};

// The bytes of `request` where `good`, which it holds once, is `bad`, of the same length.
std::string Spoilt(const google::protobuf::Message& request, std::string_view good,
                   std::string_view bad) {
  std::string bytes = request.SerializeAsString();
  const size_t at = bytes.find(good);
  EXPECT_NE(at, std::string::npos);
  return bytes.replace(at, good.size(), bad);
}

std::string OperationIn(const grpc::Status& status) {
  return clarion::ContextOf(FromGrpc(status)).operation;
}

class WireTest : public FrontTest {
 protected:
  std::shared_ptr<grpc::Channel> Channel() const {
    return grpc::CreateChannel(Target(), grpc::InsecureChannelCredentials());
  }
  grpc::Status Call(const std::string& rpc, std::string_view bytes) {
    return RawCall(Channel(), kService + rpc, bytes);
  }
  RawStream Stream() { return RawStream(Channel(), std::string(kService) + "PublishStream"); }

  static std::string Batch(const std::string& event_id) {
    v1::PublishStreamRequest batch;
    *batch.add_events() = Delta(event_id);
    return batch.SerializeAsString();
  }
  static std::vector<v1::PublishResult> ReadAll(RawStream& stream) {
    std::vector<v1::PublishResult> results;
    for (v1::PublishStreamResponse response; stream.Read(&response);) {
      results.insert(results.end(), response.results().begin(), response.results().end());
    }
    return results;
  }
};

TEST_F(WireTest, EveryCallRefusesBytesThatAreNoRequestAndSaysSo) {
  for (const std::string rpc : kRpcs) {
    const grpc::Status status = Call(rpc, "\x0a\x7fshort");
    EXPECT_THAT(status, RefusedAs(Reason::kContextInvalid)) << rpc;
    EXPECT_FALSE(FieldsIn(status).empty()) << rpc;
    EXPECT_EQ(OperationIn(status), rpc);
  }
}

TEST_F(WireTest, EveryCallNamesTheFieldThatIsNotUtf8) {
  v1::StartRunRequest start;
  start.set_agent_name("good");
  v1::AwaitReadyRequest ready;
  ready.set_thread_id("good");
  v1::BindThreadRequest bind;
  bind.set_user_id("good");
  v1::GetConnectionsRequest get;
  get.set_user_id("good");
  v1::WatchConnectionsRequest watch;
  watch.set_thread_id("good");
  v1::ListThreadsRequest threads;
  threads.set_page_token("good");
  v1::ListEventsRequest events;
  events.mutable_before()->set_epoch("good");
  v1::GetEventRequest event;
  event.set_event_id("good");
  v1::CheckWiringRequest wiring;
  wiring.add_gateway_ids("fine");
  wiring.add_gateway_ids("good");
  v1::PublishRequest publish = Delta("e1");
  publish.mutable_event()->mutable_agent_message_delta()->set_delta("good");

  const auto expect = [&](const std::string& rpc, const google::protobuf::Message& request,
                          const std::string& field) {
    const grpc::Status status = Call(rpc, Spoilt(request, "good",
                                                 "b\xff\xfe"
                                                 "d"));
    EXPECT_THAT(status, RefusedAs(Reason::kContextInvalid)) << rpc;
    EXPECT_THAT(FieldsIn(status), ElementsAre(field)) << rpc;
    EXPECT_THAT(status.error_message(), HasSubstr("UTF-8")) << rpc;
    EXPECT_EQ(OperationIn(status), rpc);
  };
  expect("Publish", publish, "event.agent_message_delta.delta");
  expect("StartRun", start, "agent_name");
  expect("AwaitReady", ready, "thread_id");
  expect("BindThread", bind, "user_id");
  expect("GetConnections", get, "user_id");
  expect("WatchConnections", watch, "thread_id");
  expect("ListThreads", threads, "page_token");
  expect("ListEvents", events, "before.epoch");
  expect("GetEvent", event, "event_id");
  expect("CheckWiring", wiring, "gateway_ids[1]");
}

TEST_F(WireTest, StreamEndsAtTheMessageThatIsNoneAfterTheResultsBeforeIt) {
  RawStream stream = Stream();
  stream.Write(Batch("e1"));
  stream.Write(Batch("e2"));
  stream.Write("\x0a\x7fshort");
  stream.Write(Batch("e4"));
  const std::vector<v1::PublishResult> results = ReadAll(stream);
  const grpc::Status status = stream.Finish();
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].accepted().offset(), 1u) << results[0].DebugString();
  EXPECT_EQ(results[1].accepted().offset(), 2u) << results[1].DebugString();
  EXPECT_THAT(status, RefusedAs(Reason::kContextInvalid));
  EXPECT_THAT(status.error_message(), HasSubstr("message 3 of the stream"));
  EXPECT_EQ(OperationIn(status), "PublishStream");
}

TEST_F(WireTest, StreamNamesTheFieldThatIsNotUtf8) {
  v1::PublishStreamRequest batch;
  *batch.add_events() = Delta("e1");
  *batch.add_events() = Delta("e2");
  batch.mutable_events(1)->mutable_event()->set_agent_name("good");
  RawStream stream = Stream();
  stream.Write(Spoilt(batch, "good",
                      "b\xff\xfe"
                      "d"));
  EXPECT_TRUE(ReadAll(stream).empty());
  const grpc::Status status = stream.Finish();
  EXPECT_THAT(status, RefusedAs(Reason::kContextInvalid));
  EXPECT_THAT(FieldsIn(status), ElementsAre("events[1].event.agent_name"));
  EXPECT_THAT(status.error_message(), HasSubstr("message 1 of the stream"));
}

TEST_F(WireTest, EveryCallRefusesAMessageOverItsLimitWithAReason) {
  const std::string large(5 * 1024 * 1024, '\0');
  for (const std::string rpc : kRpcs) {
    const grpc::Status status = Call(rpc, large);
    EXPECT_THAT(status, RefusedAs(Reason::kBufferOverflow)) << rpc;
    EXPECT_THAT(status.error_message(), HasSubstr("5242880")) << rpc;
    EXPECT_EQ(OperationIn(status), rpc);
  }
}

TEST_F(WireTest, StreamEndsAtAMessageOverItsLimitAfterTheResultsBeforeIt) {
  RawStream stream = Stream();
  stream.Write(Batch("e1"));
  stream.Write(std::string(5 * 1024 * 1024, '\0'));
  ASSERT_EQ(ReadAll(stream).size(), 1u);
  const grpc::Status status = stream.Finish();
  EXPECT_THAT(status, RefusedAs(Reason::kBufferOverflow));
  EXPECT_THAT(status.error_message(), HasSubstr("message 2 of the stream"));
}

TEST_F(WireTest, MessageBeyondWhatIsReceivedEndsTheCall) {
  EXPECT_EQ(Call("Publish", std::string(17 * 1024 * 1024, '\0')).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(Publish(Delta("e1")), IsOk());
}

}  // namespace
}  // namespace clarion::front
