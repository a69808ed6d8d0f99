// StartRun: waiting, repetition, runs that exist.
#include <thread>

#include "service/front/front_testing.h"

namespace clarion::front {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class StartRunTest : public FrontTest {
 protected:
  static v1::StartRunRequest Waiting(const std::string& request_id,
                                     std::chrono::milliseconds timeout,
                                     v1::IfNotReady if_not_ready) {
    v1::StartRunRequest request = RunRequest(request_id);
    request.set_min_readiness(v1::READINESS_SUBSCRIBED);
    request.mutable_ready_timeout()->set_seconds(timeout.count() / 1000);
    request.mutable_ready_timeout()->set_nanos(static_cast<int>(timeout.count() % 1000) *
                                               1'000'000);
    request.set_if_not_ready(if_not_ready);
    return request;
  }
  v1::ListEventsResponse Events() {
    v1::ListEventsRequest list;
    list.set_thread_id(kThread);
    return MustListEvents(list);
  }
};

TEST_F(StartRunTest, StartsAtOnceWhenNobodyNeedsToBeThere) {
  v1::StartRunRequest request = RunRequest("q1", "");
  request.set_input("{\"q\":1}");
  request.set_parent_run_id("parent");
  const auto run = MustStartRun(request);
  EXPECT_THAT(run.run_id(), Not(IsEmpty()));
  EXPECT_THAT(run.producer_token(), SizeIs(32));
  EXPECT_EQ(run.readiness(), v1::READINESS_NONE);
  EXPECT_EQ(run.started().offset(), 1u);
  EXPECT_EQ(run.started().disposition(), v1::DISPOSITION_QUEUED);
  EXPECT_FALSE(run.existed());
  const auto events = Events();
  ASSERT_EQ(events.events_size(), 1);
  EXPECT_EQ(events.events(0).run_id(), run.run_id());
  EXPECT_EQ(events.events(0).agent_started().input(), "{\"q\":1}");
  EXPECT_EQ(events.events(0).agent_started().parent_run_id(), "parent");
  EXPECT_EQ(events.events(0).event_id().substr(0, 7), "_start.");
}

TEST_F(StartRunTest, WaitsUntilTheUserFollowsAndDeliversTheStart) {
  auto gateway = Gateway("g");
  gateway->Connect(kUser, "c");
  const auto run = MustStartRun(Waiting("q1", std::chrono::seconds(10), v1::IF_NOT_READY_FAIL));
  EXPECT_EQ(run.readiness(), v1::READINESS_SUBSCRIBED);
  EXPECT_EQ(run.started().disposition(), v1::DISPOSITION_DELIVERING);
  EXPECT_EQ(run.started().subscriptions(), 1u);
  EXPECT_EQ(run.started().offset(), 1u);
}

TEST_F(StartRunTest, WaitsForABrowserThatComesWhileItWaits) {
  auto gateway = Gateway("g");
  std::thread browser([&] {
    gateway->Connect(kUser, "c");
    gateway->Subscribe("c", kThread);
  });
  const auto run = MustStartRun(Waiting("q1", std::chrono::seconds(10), v1::IF_NOT_READY_FAIL));
  browser.join();
  EXPECT_EQ(run.readiness(), v1::READINESS_SUBSCRIBED);
}

TEST_F(StartRunTest, StartsAllTheSameWhenNobodyComesUnlessToldToFail) {
  const auto run =
      MustStartRun(Waiting("q1", std::chrono::milliseconds(20), v1::IF_NOT_READY_START));
  EXPECT_EQ(run.readiness(), v1::READINESS_NONE);
  EXPECT_EQ(run.started().disposition(), v1::DISPOSITION_QUEUED);
}

TEST_F(StartRunTest, FailsWithTheStatesSeenAndStartsNothing) {
  const grpc::Status status =
      StartRun(Waiting("q1", std::chrono::milliseconds(20), v1::IF_NOT_READY_FAIL));
  EXPECT_THAT(status, RefusedAs(Reason::kNotReady));
  EXPECT_THAT(status.error_message(), HasSubstr("seen:"));
  EXPECT_EQ(clarion::ContextOf(FromGrpc(status)).run_id, "run");
  EXPECT_EQ(Events().events_size(), 0);
  // Not a repetition of an answer: it may be tried again.
  EXPECT_FALSE(MustStartRun(RunRequest("q1")).started().duplicate());
}

TEST_F(StartRunTest, RepeatsTheFirstAnswerWithoutWaiting) {
  const auto first = MustStartRun(RunRequest("q1"));
  const auto again = MustStartRun(Waiting("q1", std::chrono::seconds(120), v1::IF_NOT_READY_FAIL));
  EXPECT_EQ(again.producer_token(), first.producer_token());
  EXPECT_EQ(again.run_id(), first.run_id());
  EXPECT_EQ(again.readiness(), first.readiness());
  EXPECT_EQ(again.started().offset(), first.started().offset());
  EXPECT_EQ(again.started().epoch(), first.started().epoch());
  EXPECT_TRUE(again.started().duplicate());
  Restart();
  EXPECT_EQ(MustStartRun(RunRequest("q1")).producer_token(), first.producer_token());
  EXPECT_EQ(Events().events_size(), 1);
}

TEST_F(StartRunTest, RepeatsTheFirstAnswerAlsoAfterTheRunHasEnded) {
  const auto first = MustStartRun(RunRequest("q1"));
  MustPublish(Completed("run"));
  EXPECT_EQ(MustStartRun(RunRequest("q1")).producer_token(), first.producer_token());
}

TEST_F(StartRunTest, MakesTheSameRunIdForTheSameRequest) {
  const auto first = MustStartRun(RunRequest("q1", ""));
  EXPECT_EQ(MustStartRun(RunRequest("q1", "")).run_id(), first.run_id());
  EXPECT_NE(MustStartRun(RunRequest("q2", "")).run_id(), first.run_id());
}

TEST_F(StartRunTest, RefusesARequestIdThatStartedSomethingElse) {
  MustStartRun(RunRequest("q1"));
  v1::StartRunRequest other = RunRequest("q1");
  other.set_input("1");
  EXPECT_THAT(StartRun(other), NamesField("request_id"));
  other = RunRequest("q1");
  other.set_agent_name("another");
  EXPECT_THAT(StartRun(other), NamesField("request_id"));
  EXPECT_THAT(StartRun(RunRequest("q1", "other-run")), NamesField("request_id"));
}

TEST_F(StartRunTest, GivesTwoCallersAtOnceOneRun) {
  for (int round = 0; round < 30; ++round) {
    const auto request = RunRequest("q" + std::to_string(round), "run" + std::to_string(round));
    v1::StartRunResponse answers[2];
    std::thread other([&] { answers[1] = MustStartRun(request); });
    answers[0] = MustStartRun(request);
    other.join();
    EXPECT_EQ(answers[0].producer_token(), answers[1].producer_token());
    EXPECT_EQ(answers[0].started().offset(), answers[1].started().offset());
    EXPECT_NE(answers[0].started().duplicate(), answers[1].started().duplicate());
  }
}

TEST_F(StartRunTest, TwoBackendsThatWaitForThePageStartTheRunOnce) {
  auto gateway = Gateway("g");
  gateway->Connect(kUser, "c");
  for (int round = 0; round < 30; ++round) {
    v1::StartRunRequest requests[2];
    v1::StartRunResponse answers[2];
    for (int i = 0; i < 2; ++i) {
      requests[i] = RunRequest("q" + std::to_string(2 * round + i), "run" + std::to_string(round));
      requests[i].set_min_readiness(v1::READINESS_VERIFIED);
      requests[i].set_if_exists(v1::IF_EXISTS_RETURN);
    }
    std::thread other([&] { answers[1] = MustStartRun(requests[1]); });
    answers[0] = MustStartRun(requests[0]);
    other.join();
    EXPECT_NE(answers[0].existed(), answers[1].existed());
    EXPECT_NE(answers[0].producer_token().empty(), answers[1].producer_token().empty());
    EXPECT_EQ(answers[0].started().offset(), answers[1].started().offset());
    EXPECT_EQ(answers[0].readiness(), v1::READINESS_VERIFIED);
    EXPECT_EQ(answers[1].readiness(), v1::READINESS_VERIFIED);
  }
  EXPECT_EQ(Events().events_size(), 30);
}

TEST_F(StartRunTest, StartsWithASilentPageOrFailsAsItIsTold) {
  auto gateway = Gateway("g", {.answers_probes = false});
  gateway->Connect(kUser, "c");
  v1::StartRunRequest request =
      Waiting("q1", std::chrono::milliseconds(200), v1::IF_NOT_READY_FAIL);
  request.set_min_readiness(v1::READINESS_VERIFIED);
  EXPECT_THAT(StartRun(request), RefusedAs(Reason::kNotReady));
  request.set_if_not_ready(v1::IF_NOT_READY_START);
  EXPECT_EQ(MustStartRun(request).readiness(), v1::READINESS_SUBSCRIBED);
}

TEST_F(StartRunTest, TreatsARunOfAnotherRequestAsIfExistsSays) {
  const auto first = MustStartRun(RunRequest("q1"));
  EXPECT_THAT(StartRun(RunRequest("q2")), RefusedAs(Reason::kRunProtocol));
  v1::StartRunRequest request = RunRequest("q2");
  request.set_if_exists(v1::IF_EXISTS_FAIL);
  EXPECT_THAT(StartRun(request), RefusedAs(Reason::kRunProtocol));
  request.set_if_exists(v1::IF_EXISTS_RETURN);
  const auto existing = MustStartRun(request);
  EXPECT_TRUE(existing.existed());
  EXPECT_THAT(existing.producer_token(), IsEmpty());
  EXPECT_EQ(existing.started().offset(), first.started().offset());
  EXPECT_EQ(existing.started().epoch(), first.started().epoch());
  EXPECT_EQ(Events().events_size(), 1);
}

TEST_F(StartRunTest, ReturnsARunThatWasPublishedPlainly) {
  MustPublish(Started("run"));
  v1::StartRunRequest request = RunRequest("q1");
  request.set_if_exists(v1::IF_EXISTS_RETURN);
  const auto existing = MustStartRun(request);
  EXPECT_TRUE(existing.existed());
  EXPECT_EQ(existing.started().offset(), 1u);
}

TEST_F(StartRunTest, TakingOverFencesTheFormerProducerAndIsRepeatable) {
  const std::string former = MustStartRun(RunRequest("q1")).producer_token();
  v1::StartRunRequest take = RunRequest("q2");
  take.set_if_exists(v1::IF_EXISTS_TAKE_OVER);
  const v1::StartRunResponse taken = MustStartRun(take);
  EXPECT_TRUE(taken.existed());
  EXPECT_EQ(taken.started().offset(), 1u);
  EXPECT_EQ(MustStartRun(take).producer_token(), taken.producer_token()) << "its repetition";
  v1::PublishRequest text = Delta("1");
  text.mutable_event()->set_run_id("run");
  text.set_producer_token(former);
  EXPECT_THAT(Publish(text), RefusedAs(Reason::kRunFenced));
  text.set_producer_token(taken.producer_token());
  MustPublish(text);
  // Of a run that is not there it is a start.
  take = RunRequest("q3", "other");
  take.set_if_exists(v1::IF_EXISTS_TAKE_OVER);
  const v1::StartRunResponse started = MustStartRun(take);
  EXPECT_FALSE(started.existed());
  EXPECT_EQ(MustStartRun(take).producer_token(), started.producer_token());
  MustPublish(Completed("other"));
  v1::StartRunRequest late = RunRequest("q4", "other");
  late.set_if_exists(v1::IF_EXISTS_TAKE_OVER);
  EXPECT_THAT(StartRun(late), RefusedAs(Reason::kRunProtocol));
}

TEST_F(StartRunTest, RefusesAThreadOfAnotherUserBeforeAnythingElse) {
  MustStartRun(RunRequest("q1"));
  v1::StartRunRequest eve = RunRequest("q1");
  eve.set_user_id("eve");
  EXPECT_THAT(StartRun(eve), RefusedAs(Reason::kThreadOwnership));
}

TEST_F(StartRunTest, NamesEveryFieldThatIsWrong) {
  v1::StartRunRequest request;
  request.set_run_id("two words");
  request.set_min_readiness(static_cast<v1::Readiness>(9));
  request.set_if_exists(static_cast<v1::IfExists>(9));
  request.mutable_lease()->set_seconds(24 * 3600 + 1);
  request.mutable_ready_timeout()->set_seconds(121);
  const grpc::Status status = StartRun(request);
  for (const char* field : {"request_id", "user_id", "thread_id", "run_id", "agent_name",
                            "min_readiness", "if_exists", "lease", "ready_timeout"}) {
    EXPECT_THAT(status, NamesField(field));
  }
  request = RunRequest("q1");
  request.set_input("not json");
  EXPECT_THAT(StartRun(request), NamesField("input"));
  request = RunRequest("q1");
  request.set_if_not_ready(static_cast<v1::IfNotReady>(9));
  EXPECT_THAT(StartRun(request), NamesField("if_not_ready"));
  request = RunRequest("q1");
  request.set_min_readiness(static_cast<v1::Readiness>(-1));
  EXPECT_THAT(StartRun(request), NamesField("min_readiness"));
  request = RunRequest("q1");
  AddUnknown(&request);
  EXPECT_THAT(StartRun(request), NamesField("#999"));
  request = RunRequest("q1");
  request.set_user_id("_clarion");
  EXPECT_THAT(StartRun(request), NamesField("user_id"));
}

TEST_F(StartRunTest, EndsTheWaitWhenTheServiceStops) {
  auto gateway = Gateway("g");
  gateway->Connect("somebody-else", "c");
  grpc::Status status;
  std::thread caller(
      [&] { status = StartRun(Waiting("q1", std::chrono::seconds(120), v1::IF_NOT_READY_FAIL)); });
  // The thread is the user's once the call waits.
  v1::ListThreadsRequest threads;
  threads.set_user_id(kUser);
  v1::ListThreadsResponse response;
  while (response.threads().empty()) {
    ASSERT_THAT(Call(&Stub::ListThreads, threads, &response), IsOk());
  }
  app_->Stop();
  caller.join();
  EXPECT_THAT(status, RefusedAs(Reason::kNotInitialized));
}

}  // namespace
}  // namespace clarion::front
