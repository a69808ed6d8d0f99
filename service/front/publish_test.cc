// Publish: what is accepted, what is refused and how, in which order things are checked.
#include <grpcpp/generic/generic_stub.h>

#include <future>

#include "proto/contract/event_json.h"
#include "service/front/front_testing.h"

namespace clarion::front {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

using PublishTest = FrontTest;

constexpr char kTraceparent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST_F(PublishTest, NumbersEventsOfAThreadFromOneInOneEpoch) {
  const auto first = MustPublish(Delta("e1"));
  const auto second = MustPublish(Delta("e2"));
  EXPECT_EQ(first.offset(), 1u);
  EXPECT_EQ(second.offset(), 2u);
  EXPECT_THAT(first.epoch(), Not(IsEmpty()));
  EXPECT_EQ(second.epoch(), first.epoch());
  EXPECT_FALSE(first.duplicate());
}

TEST_F(PublishTest, QueuesAnEventThatNobodyFollowsForItsRetention) {
  const auto queued = MustPublish(Delta("e1"));
  EXPECT_EQ(queued.disposition(), v1::DISPOSITION_QUEUED);
  EXPECT_EQ(queued.subscriptions(), 0u);
  const auto critical = MustPublish(Completed("r"));
  EXPECT_GT(critical.queued_until().seconds(), queued.queued_until().seconds() + 24 * 3600);
}

TEST_F(PublishTest, DeliversToTheSubscriptionsOfTheThread) {
  auto gateway = Gateway("g");
  gateway->Connect(kUser, "c");
  MustPublish(Delta("e1"));
  v1::BindThreadRequest bind;
  bind.set_user_id(kUser);
  bind.set_thread_id(kThread);
  ASSERT_THAT(Call(&Stub::BindThread, bind), IsOk());
  const auto delivered = MustPublish(Delta("e2"));
  EXPECT_EQ(delivered.disposition(), v1::DISPOSITION_DELIVERING);
  EXPECT_EQ(delivered.subscriptions(), 1u);
}

TEST_F(PublishTest, AnswersARepeatedEventWithItsFirstPlace) {
  const auto first = MustPublish(Delta("e1"));
  MustPublish(Delta("e2"));
  v1::PublishRequest again = Delta("e1");
  again.mutable_event()->mutable_occurred_at()->set_seconds(1'700'000'000);
  again.mutable_event()->mutable_trace_context()->set_traceparent(kTraceparent);
  const auto second = MustPublish(again);
  EXPECT_TRUE(second.duplicate());
  EXPECT_EQ(second.offset(), first.offset());
  EXPECT_EQ(second.epoch(), first.epoch());
}

TEST_F(PublishTest, RefusesAnotherEventUnderTheSameId) {
  MustPublish(Delta("e1"));
  v1::PublishRequest payload = Delta("e1");
  payload.mutable_event()->mutable_agent_message_delta()->set_delta("other");
  EXPECT_THAT(Publish(payload), RefusedAs(Reason::kContextInvalid));
  EXPECT_THAT(Publish(payload), NamesField("event.event_id"));
  v1::PublishRequest run = Delta("e1");
  run.mutable_event()->set_run_id("other");
  EXPECT_THAT(Publish(run), NamesField("event.event_id"));
  v1::PublishRequest type = Delta("e1");
  type.mutable_event()->mutable_step_started()->set_step_name("m");
  EXPECT_THAT(Publish(type), NamesField("event.event_id"));
}

TEST_F(PublishTest, RefusesAThreadOfAnotherUserAndSaysWhatItIsAbout) {
  MustPublish(Delta("e1"));
  traceparent_ = kTraceparent;
  const grpc::Status status = Publish(Delta("e2", kThread, "eve"));
  EXPECT_THAT(status, RefusedAs(Reason::kThreadOwnership));
  const ErrorContext about = clarion::ContextOf(FromGrpc(status));
  EXPECT_EQ(about.user_id, "eve");
  EXPECT_EQ(about.thread_id, kThread);
  EXPECT_EQ(about.run_id, "r");
  EXPECT_EQ(about.operation, "Publish");
  EXPECT_EQ(about.trace_id, "0af7651916cd43dd8448eb211c80319c");
}

TEST_F(PublishTest, ChecksFieldsBeforeTheUserAndTheUserBeforeDuplicates) {
  MustPublish(Delta("e1"));
  v1::PublishRequest invalid = Delta("e1", kThread, "eve");
  invalid.mutable_event()->clear_run_id();
  EXPECT_THAT(Publish(invalid), RefusedAs(Reason::kContextInvalid));
  EXPECT_THAT(Publish(Delta("e1", kThread, "eve")), RefusedAs(Reason::kThreadOwnership));
}

TEST_F(PublishTest, ChecksDuplicatesBeforeTheRun) {
  MustPublish(Started("run"));
  EXPECT_TRUE(MustPublish(Started("run")).duplicate());
  v1::PublishRequest again = Started("run");
  again.mutable_event()->set_event_id("another");
  EXPECT_THAT(Publish(again), RefusedAs(Reason::kRunProtocol));
}

TEST_F(PublishTest, IsAnsweredWithAReasonWhenTheServiceStops) {
  options_.last_answers = std::chrono::seconds(1);
  Restart();
  std::atomic<int> published{0};
  std::vector<grpc::Status> ends(4);
  std::vector<std::thread> callers;
  callers.reserve(ends.size());
  for (size_t n = 0; n < ends.size(); ++n) {
    callers.emplace_back([&, n] {
      const std::string thread = "t-" + std::to_string(n);
      for (int i = 0; ends[n].ok(); ++i, ++published) {
        ends[n] = Publish(Delta("e" + std::to_string(i), thread));
      }
    });
  }
  while (published < 100) std::this_thread::yield();
  Stop();
  for (std::thread& caller : callers) caller.join();
  for (const grpc::Status& end : ends) {
    EXPECT_THAT(end, RefusedAs(Reason::kNotInitialized));
    EXPECT_TRUE(RetryAfterOf(FromGrpc(end)).has_value());
  }
}

TEST_F(PublishTest, TakesNoTokenButTheOneOfTheRun) {
  v1::StartRunRequest start;
  start.set_request_id("q1");
  start.set_user_id(kUser);
  start.set_thread_id(kThread);
  start.set_run_id("r");
  start.set_agent_name("agent");
  const std::string token = MustStartRun(start).producer_token();
  v1::PublishRequest mine = Delta("e1");
  mine.set_producer_token(token);
  MustPublish(mine);
  v1::PublishRequest older = Delta("e2");
  older.set_producer_token("of-an-older-producer");
  EXPECT_THAT(Publish(older), RefusedAs(Reason::kRunFenced));
  // What was accepted is a repetition, whoever asks: duplicates are checked before the run.
  older.mutable_event()->set_event_id("e1");
  EXPECT_TRUE(MustPublish(older).duplicate());
  // A token is of one run.
  v1::PublishRequest elsewhere = Delta("e3");
  elsewhere.mutable_event()->set_run_id("another");
  elsewhere.set_producer_token(token);
  EXPECT_THAT(Publish(elsewhere), RefusedAs(Reason::kRunFenced));
  Restart();
  older.mutable_event()->set_event_id("e4");
  EXPECT_THAT(Publish(older), RefusedAs(Reason::kRunFenced));
  mine.mutable_event()->set_event_id("e4");
  EXPECT_EQ(MustPublish(mine).offset(), 3u);
}

TEST_F(PublishTest, TakesNoTokenWithAStartOfItsOwn) {
  v1::PublishRequest request = Started("run");
  request.set_producer_token("made-up");
  EXPECT_THAT(Publish(request), NamesField("producer_token"));
}

TEST_F(PublishTest, RefusesFieldsThatItDoesNotKnowWhereverTheyStand) {
  v1::PublishRequest request = Delta("e1");
  AddUnknown(&request);
  EXPECT_THAT(Publish(request), NamesField("#999"));
  request = Delta("e1");
  AddUnknown(request.mutable_event());
  EXPECT_THAT(Publish(request), NamesField("event.#999"));
  request = Delta("e1");
  AddUnknown(request.mutable_event()->mutable_agent_message_delta());
  EXPECT_THAT(Publish(request), NamesField("event.agent_message_delta.#999"));
}

TEST_F(PublishTest, RefusesReservedIdsAndMissingParts) {
  EXPECT_THAT(Publish(v1::PublishRequest()), NamesField("event"));
  EXPECT_THAT(Publish(Delta("_mine")), NamesField("event.event_id"));
  EXPECT_THAT(Publish(Delta("e1", kThread, "_clarion")), NamesField("event.user_id"));
  EXPECT_THAT(Publish(Delta("")), NamesField("event.event_id"));
  EXPECT_THAT(Publish(Delta("e1", "two words")), NamesField("event.thread_id"));
  v1::PublishRequest request = Delta("e1");
  request.mutable_event()->set_offset(5);
  EXPECT_THAT(Publish(request), NamesField("event.offset"));
  request = Delta("e1");
  request.set_producer_token(std::string(129, 'x'));
  EXPECT_THAT(Publish(request), NamesField("producer_token"));
}

TEST_F(PublishTest, RefusesAnEventOverItsLimitAndNamesTheSize) {
  v1::PublishRequest request = Delta("e1");
  v1::Custom* custom = request.mutable_event()->mutable_custom();
  custom->set_name("big");
  custom->set_value('"' + std::string(300 * 1024, 'x') + '"');
  const grpc::Status status = Publish(request);
  EXPECT_THAT(status, RefusedAs(Reason::kBufferOverflow));
  EXPECT_THAT(status.error_message(), HasSubstr("262144"));
  EXPECT_THAT(status.error_message(), HasSubstr("bytes encoded"));
  custom->set_value('"' + std::string(200 * 1024, 'x') + '"');
  EXPECT_THAT(Publish(request), IsOk());
}

TEST_F(PublishTest, KeepsTheTraceOfTheCallWhereTheEventHasNone) {
  traceparent_ = kTraceparent;
  MustPublish(Delta("e1"));
  v1::PublishRequest own = Delta("e2");
  const std::string traceparent = "00-11111111111111111111111111111111-2222222222222222-00";
  own.mutable_event()->mutable_trace_context()->set_traceparent(traceparent);
  MustPublish(own);
  traceparent_ = "nonsense";
  MustPublish(Delta("e3"));
  v1::ListEventsRequest list;
  list.set_thread_id(kThread);
  const auto events = MustListEvents(list);
  ASSERT_EQ(events.events_size(), 3);
  EXPECT_EQ(events.events(0).trace_context().traceparent(), kTraceparent);
  EXPECT_EQ(events.events(1).trace_context().traceparent(), traceparent);
  EXPECT_FALSE(events.events(2).has_trace_context());
  EXPECT_TRUE(events.events(0).has_accepted_at());
  EXPECT_TRUE(events.events(0).has_occurred_at());
}

TEST_F(PublishTest, SaysTheChainOfCausesOutsideProductionOnly) {
  const auto has_debug = [](const grpc::Status& status) {
    const v1::RpcStatus details = DetailsOf(FromGrpc(status));
    for (const auto& detail : details.details()) {
      if (detail.type_url() == "type.googleapis.com/google.rpc.DebugInfo") return true;
    }
    return false;
  };
  EXPECT_TRUE(has_debug(Publish(Delta(""))));
  options_.production = true;
  Restart();
  EXPECT_FALSE(has_debug(Publish(Delta(""))));
  EXPECT_THAT(Publish(Delta("")), NamesField("event.event_id"));
}

TEST_F(PublishTest, RemembersEventsAcrossARestart) {
  const auto first = MustPublish(Delta("e1"));
  Restart();
  const auto again = MustPublish(Delta("e1"));
  EXPECT_TRUE(again.duplicate());
  EXPECT_EQ(again.offset(), first.offset());
  EXPECT_EQ(again.epoch(), first.epoch());
  EXPECT_EQ(MustPublish(Delta("e2")).offset(), 2u);
}

TEST_F(PublishTest, ServesManyCallersAtOnceWithoutGaps) {
  constexpr int kCallers = 8, kEvents = 50;
  std::vector<std::thread> callers;
  callers.reserve(kCallers);
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([this, caller] {
      for (int i = 0; i < kEvents; ++i) {
        MustPublish(Delta(std::to_string(caller) + "-" + std::to_string(i)));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(MustPublish(Delta("last")).offset(), kCallers * kEvents + 1u);
}

TEST_F(PublishTest, LeavesTheWayBackReserved) {
  grpc::ClientContext context;
  auto reader = stub_->WatchRunInputs(&context, v1::WatchRunInputsRequest());
  v1::WatchRunInputsResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

// A call by name with bytes, for services whose stubs we do not have.
grpc::Status RawCall(const std::string& target, const std::string& method,
                     const std::string& request, std::string* response) {
  grpc::GenericStub stub(grpc::CreateChannel(target, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  const grpc::Slice slice(request);
  grpc::ByteBuffer in(&slice, 1), out;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, method, grpc::StubOptions(), &in, &out,
                 [&done](grpc::Status status) { done.set_value(std::move(status)); });
  const grpc::Status status = done.get_future().get();
  if (!status.ok()) return status;
  std::vector<grpc::Slice> slices;
  out.Dump(&slices).IgnoreError();
  for (const grpc::Slice& part : slices) {
    response->append(reinterpret_cast<const char*>(part.begin()), part.size());
  }
  return status;
}

TEST_F(PublishTest, SaysThatItServes) {
  // grpc.health.v1: field 1 of the request is the service's name, field 1 of the answer 1 for
  // SERVING.
  for (const std::string service : {"", "clarion.v1.EventService"}) {
    std::string request, response;
    if (!service.empty()) {
      request = std::string("\x0a") + static_cast<char>(service.size()) + service;
    }
    ASSERT_THAT(RawCall(Target(), "/grpc.health.v1.Health/Check", request, &response), IsOk());
    EXPECT_EQ(response, "\x08\x01");
  }
}

TEST_F(PublishTest, DescribesItsServicesToTools) {
  grpc::GenericStub stub(grpc::CreateChannel(Target(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  grpc::CompletionQueue queue;
  const auto wait = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  ASSERT_TRUE(wait());
  // ServerReflectionRequest: field 7, list_services.
  const grpc::Slice slice(std::string("\x3a\x01*"));
  call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
  ASSERT_TRUE(wait());
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  ASSERT_TRUE(wait());
  grpc::Slice text;
  ASSERT_TRUE(answer.DumpToSingleSlice(&text).ok());
  EXPECT_THAT(std::string(reinterpret_cast<const char*>(text.begin()), text.size()),
              HasSubstr("clarion.v1.EventService"));
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  wait();
  queue.Shutdown();
  while (wait()) {
  }
}

}  // namespace
}  // namespace clarion::front
