// AwaitReady, BindThread, GetConnections, WatchConnections.
#include <thread>

#include "service/front/front_testing.h"
#include "telemetry/metrics.h"

namespace clarion::front {
namespace {

using testing::HasSubstr;
using testing::Not;

class ReadyTest : public FrontTest {
 protected:
  static v1::AwaitReadyRequest Await(std::chrono::milliseconds timeout,
                                     const std::string& user = kUser) {
    v1::AwaitReadyRequest request;
    request.set_user_id(user);
    request.set_thread_id(kThread);
    request.set_min_readiness(v1::READINESS_SUBSCRIBED);
    request.mutable_timeout()->set_seconds(timeout.count() / 1000);
    request.mutable_timeout()->set_nanos(static_cast<int>(timeout.count() % 1000) * 1'000'000);
    return request;
  }
  static v1::BindThreadRequest BindRequest(const std::string& user = kUser) {
    v1::BindThreadRequest request;
    request.set_user_id(user);
    request.set_thread_id(kThread);
    return request;
  }
  grpc::Status AwaitReady(const v1::AwaitReadyRequest& request) {
    return Call(&Stub::AwaitReady, request);
  }
};

TEST_F(ReadyTest, SaysWhenTheUserFollowsTheThread) {
  auto gateway = Gateway("g");
  gateway->Connect(kUser, "c");
  ASSERT_THAT(Call(&Stub::BindThread, BindRequest()), IsOk());
  v1::AwaitReadyResponse response;
  ASSERT_THAT(Call(&Stub::AwaitReady, Await(std::chrono::seconds(10)), &response), IsOk());
  EXPECT_EQ(response.readiness(), v1::READINESS_SUBSCRIBED);
  EXPECT_EQ(response.subscriptions(), 1u);
  EXPECT_GT(response.steps_size(), 0);
}

TEST_F(ReadyTest, SaysWhenThePageHasAnsweredAProbeAndWhenItDoesNot) {
  v1::AwaitReadyRequest request = Await(std::chrono::seconds(10));
  request.set_min_readiness(v1::READINESS_VERIFIED);
  v1::AwaitReadyResponse response;
  {
    auto gateway = Gateway("g");
    gateway->Connect(kUser, "c");
    ASSERT_THAT(Call(&Stub::BindThread, BindRequest()), IsOk());
    ASSERT_THAT(Call(&Stub::AwaitReady, request, &response), IsOk());
    EXPECT_EQ(response.readiness(), v1::READINESS_VERIFIED);
    gateway->Detach();
  }
  auto silent = Gateway("g2", {.answers_probes = false});
  silent->Connect(kUser, "c2");
  ASSERT_THAT(Call(&Stub::BindThread, BindRequest()), IsOk());
  *request.mutable_timeout() = Await(std::chrono::milliseconds(20)).timeout();
  const grpc::Status status = AwaitReady(request);
  EXPECT_THAT(status, RefusedAs(Reason::kNotReady));
  EXPECT_THAT(status.error_message(), HasSubstr("no page answered the probe"));
}

TEST_F(ReadyTest, FailsWithTheStatesSeenWhenTheTimeIsOver) {
  const grpc::Status status = AwaitReady(Await(std::chrono::milliseconds(10)));
  EXPECT_THAT(status, RefusedAs(Reason::kNotReady));
  EXPECT_THAT(status.error_message(), HasSubstr("seen:"));
  EXPECT_THAT(status.error_message(), HasSubstr("no gateway is attached"));
  Gateway("g");
  EXPECT_THAT(AwaitReady(Await(std::chrono::milliseconds(10))).error_message(),
              Not(HasSubstr("gateway")));
  EXPECT_EQ(clarion::ContextOf(FromGrpc(status)).operation, "AwaitReady");
}

TEST_F(ReadyTest, RefusesToWaitOnAThreadOfAnotherUser) {
  MustPublish(Delta("e1"));
  EXPECT_THAT(AwaitReady(Await(std::chrono::seconds(60), "eve")),
              RefusedAs(Reason::kThreadOwnership));
}

TEST_F(ReadyTest, RefusesToBindAThreadOfAnotherUserAndSaysWhatWasCalled) {
  MustPublish(Delta("e1"));
  const grpc::Status status = Call(&Stub::BindThread, BindRequest("eve"));
  EXPECT_THAT(status, RefusedAs(Reason::kThreadOwnership));
  EXPECT_EQ(clarion::ContextOf(FromGrpc(status)).operation, "BindThread");
}

TEST_F(ReadyTest, ChecksTheFieldsOfAwaitReady) {
  v1::AwaitReadyRequest request = Await(std::chrono::seconds(121));
  EXPECT_THAT(AwaitReady(request), NamesField("timeout"));
  request = Await(std::chrono::seconds(1));
  request.mutable_timeout()->set_nanos(-5);
  EXPECT_THAT(AwaitReady(request), NamesField("timeout"));
  request.set_min_readiness(static_cast<v1::Readiness>(9));
  EXPECT_THAT(AwaitReady(request), NamesField("min_readiness"));
  request.clear_min_readiness();
  EXPECT_THAT(AwaitReady(request), NamesField("min_readiness"));
  request.clear_user_id();
  EXPECT_THAT(AwaitReady(request), NamesField("user_id"));
  request.set_thread_id(std::string(129, 't'));
  EXPECT_THAT(AwaitReady(request), NamesField("thread_id"));
  AddUnknown(&request);
  EXPECT_THAT(AwaitReady(request), NamesField("#999"));
}

TEST_F(ReadyTest, BindsOpenConnectionsAndGivesTheThreadToTheUser) {
  auto gateway = Gateway("g");
  gateway->Connect(kUser, "c1");
  gateway->Connect(kUser, "c2");
  gateway->Connect("eve", "c3");
  v1::BindThreadResponse response;
  ASSERT_THAT(Call(&Stub::BindThread, BindRequest(), &response), IsOk());
  ASSERT_EQ(response.connections_size(), 2);
  EXPECT_EQ(response.connections(0).connection_id(), "c1");
  EXPECT_EQ(response.connections(0).outcome(), v1::BIND_OUTCOME_CONFIRMED);
  EXPECT_EQ(response.connections(1).outcome(), v1::BIND_OUTCOME_CONFIRMED);
  EXPECT_THAT(Call(&Stub::BindThread, BindRequest("eve")), RefusedAs(Reason::kThreadOwnership));
}

TEST_F(ReadyTest, ChecksTheFieldsOfBindThread) {
  v1::BindThreadRequest request = BindRequest();
  request.mutable_timeout()->set_seconds(31);
  EXPECT_THAT(Call(&Stub::BindThread, request), NamesField("timeout"));
  EXPECT_THAT(Call(&Stub::BindThread, v1::BindThreadRequest()), NamesField("thread_id"));
}

TEST_F(ReadyTest, ListsConnectionsOfAUserOrAThread) {
  auto gateway = Gateway("g");
  gateway->Connect(kUser, "c1");
  gateway->Connect("eve", "c2");
  v1::GetConnectionsRequest request;
  EXPECT_THAT(Call(&Stub::GetConnections, request), NamesField("user_id"));
  request.set_user_id(kUser);
  v1::GetConnectionsResponse response;
  ASSERT_THAT(Call(&Stub::GetConnections, request, &response), IsOk());
  ASSERT_EQ(response.connections_size(), 1);
  EXPECT_EQ(response.connections(0).connection_id(), "c1");
  EXPECT_EQ(response.connections(0).state(), v1::CONNECTION_STATE_CONNECTED);
  EXPECT_EQ(response.connections(0).gateway_id(), "g");

  gateway->Disconnect("c1");
  ASSERT_THAT(Call(&Stub::GetConnections, request, &response), IsOk());
  EXPECT_EQ(response.connections_size(), 0);
  request.set_include_gone(true);
  ASSERT_THAT(Call(&Stub::GetConnections, request, &response), IsOk());
  ASSERT_EQ(response.connections_size(), 1);
  EXPECT_EQ(response.connections(0).state(), v1::CONNECTION_STATE_DISCONNECTED);
}

class WatchTest : public FrontTest {
 protected:
  void Watch(const v1::WatchConnectionsRequest& request) {
    context_ = std::make_unique<grpc::ClientContext>();
    context_->set_deadline(std::chrono::system_clock::now() + kPatience);
    reader_ = stub_->WatchConnections(context_.get(), request);
  }
  v1::WatchConnectionsResponse Next() {
    v1::WatchConnectionsResponse response;
    EXPECT_TRUE(reader_->Read(&response));
    return response;
  }
  // Nobody reads, until the service gives up. First what HTTP/2 takes unread, so that it is the
  // caller that holds up the rest.
  void WatchUntilOverflow() {
    grpc::ChannelArguments fixed_window;
    fixed_window.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    stub_ = v1::EventService::NewStub(
        grpc::CreateCustomChannel(Target(), grpc::InsecureChannelCredentials(), fixed_window));
    v1::WatchConnectionsRequest request;
    request.set_user_id(kUser);
    Watch(request);
    reader_->WaitForInitialMetadata();
    auto gateway = Gateway("g");
    const uint64_t before = overflows_.value();
    for (int i = 0; i < 200'000 && overflows_.value() == before; ++i) {
      if (i == 1'500) std::this_thread::sleep_for(std::chrono::milliseconds(300));
      const std::string connection = std::string(100, 'c') + std::to_string(i % 500);
      gateway->Connect(kUser, connection);
      gateway->Disconnect(connection);
    }
    ASSERT_EQ(overflows_.value(), before + 1);
  }

  const Counter& overflows_ =
      GetCounter("clarion_failures_total", "", {{"reason", "BUFFER_OVERFLOW"}});
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReader<v1::WatchConnectionsResponse>> reader_;
};

TEST_F(WatchTest, ShowsAFirstPictureAndThenEveryChangeInOrder) {
  auto gateway = Gateway("g");
  gateway->Connect(kUser, "c1");
  v1::WatchConnectionsRequest request;
  request.set_user_id(kUser);
  Watch(request);
  const auto picture = Next();
  EXPECT_TRUE(picture.snapshot());
  EXPECT_EQ(picture.sequence(), 1u);
  EXPECT_EQ(picture.connection().connection_id(), "c1");
  gateway->Connect("eve", "c2");
  gateway->Connect(kUser, "c3");
  gateway->Disconnect("c1");
  const auto opened = Next();
  EXPECT_FALSE(opened.snapshot());
  EXPECT_EQ(opened.sequence(), 2u);
  EXPECT_EQ(opened.connection().connection_id(), "c3");
  const auto closed = Next();
  EXPECT_EQ(closed.sequence(), 3u);
  EXPECT_EQ(closed.connection().connection_id(), "c1");
  EXPECT_EQ(closed.connection().state(), v1::CONNECTION_STATE_DISCONNECTED);
  context_->TryCancel();
  v1::WatchConnectionsResponse rest;
  while (reader_->Read(&rest)) {
  }
  EXPECT_EQ(reader_->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(WatchTest, StandsBeforeThereIsAnythingToTell) {
  v1::WatchConnectionsRequest request;
  request.set_user_id(kUser);
  Watch(request);
  reader_->WaitForInitialMetadata();
  Gateway("g")->Connect(kUser, "c1");
  const auto change = Next();
  EXPECT_FALSE(change.snapshot());
  EXPECT_EQ(change.connection().connection_id(), "c1");
}

TEST_F(WatchTest, EndsACallerThatReadsTooSlowly) {
  WatchUntilOverflow();
  uint64_t last = 0;
  v1::WatchConnectionsResponse response;
  while (reader_->Read(&response)) {
    ASSERT_EQ(response.sequence(), last + 1);
    last = response.sequence();
  }
  EXPECT_GT(last, 0u);
  EXPECT_THAT(reader_->Finish(), RefusedAs(Reason::kBufferOverflow));
}

TEST_F(WatchTest, EndsACallerThatDoesNotReadAtAllAndCountsItOnce) {
  const uint64_t before = overflows_.value();
  WatchUntilOverflow();
  // The grace of the service is real time, and nothing tells this side that it is over.
  std::this_thread::sleep_for(std::chrono::milliseconds(2'500));
  v1::WatchConnectionsResponse rest;
  while (reader_->Read(&rest)) {
  }
  EXPECT_EQ(reader_->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(overflows_.value(), before + 1);
}

TEST_F(WatchTest, ACallThatHasEndedDoesNotFailOnceMore) {
  WatchUntilOverflow();
  const Counter& stops = GetCounter("clarion_failures_total", "", {{"reason", "NOT_INITIALIZED"}});
  const uint64_t before = stops.value();
  Stop();  // ends what lasts
  EXPECT_EQ(stops.value(), before);
  context_->TryCancel();
}

TEST_F(WatchTest, RefusesToWatchEverybody) {
  Watch(v1::WatchConnectionsRequest());
  v1::WatchConnectionsResponse response;
  EXPECT_FALSE(reader_->Read(&response));
  EXPECT_THAT(reader_->Finish(), NamesField("user_id"));
}

TEST_F(WatchTest, IsEndedWhenTheServiceStops) {
  v1::WatchConnectionsRequest request;
  request.set_thread_id(kThread);
  Watch(request);
  reader_->WaitForInitialMetadata();
  app_->Stop();
  v1::WatchConnectionsResponse response;
  EXPECT_FALSE(reader_->Read(&response));
  EXPECT_THAT(reader_->Finish(), RefusedAs(Reason::kNotInitialized));
}

}  // namespace
}  // namespace clarion::front
