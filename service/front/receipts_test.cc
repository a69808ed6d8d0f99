// Publish with wait_for, WatchReceipts, and the times that GetEvent tells.
#include <future>
#include <thread>

#include "service/front/front_testing.h"

namespace clarion::front {
namespace {

using testing::HasSubstr;

v1::PublishRequest Waiting(v1::PublishRequest request, v1::WaitFor wanted,
                           std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
  request.set_wait_for(wanted);
  request.mutable_timeout()->set_seconds(timeout.count() / 1000);
  request.mutable_timeout()->set_nanos(static_cast<int>(timeout.count() % 1000) * 1'000'000);
  return request;
}

constexpr std::chrono::milliseconds kShort{20};

class ReceiptsTest : public FrontTest {
 protected:
  // A gateway with a connection of the user's that follows the thread.
  std::shared_ptr<FakeGateway> Following(FakeGateway::Behaviour behaviour = {}) {
    auto gateway = Gateway("g", behaviour);
    gateway->Connect(kUser, "c");
    v1::BindThreadRequest bind;
    bind.set_user_id(kUser);
    bind.set_thread_id(kThread);
    EXPECT_THAT(Call(&Stub::BindThread, bind), IsOk());
    return gateway;
  }
  v1::GetEventResponse Find(const std::string& event) {
    v1::GetEventRequest request;
    request.set_thread_id(kThread);
    request.set_event_id(event);
    v1::GetEventResponse response;
    EXPECT_THAT(Call(&Stub::GetEvent, request, &response), IsOk());
    return response;
  }
};

TEST_F(ReceiptsTest, PublishAnswersWhenTheEventWasSent) {
  auto gateway = Following();
  const auto sent = MustPublish(Waiting(Delta("e1"), v1::WAIT_FOR_SENT));
  EXPECT_EQ(sent.wait_outcome(), v1::WAIT_OUTCOME_REACHED);
  EXPECT_EQ(sent.disposition(), v1::DISPOSITION_DELIVERING);
  EXPECT_EQ(sent.offset(), 1u);
}

TEST_F(ReceiptsTest, PublishAnswersWhenTheUserHasAcknowledgedNotBefore) {
  auto gateway = Following();
  const auto first = MustPublish(Delta("e1"));
  auto answer = std::async(std::launch::async, [&] {
    return MustPublish(Waiting(Delta("e2"), v1::WAIT_FOR_ACKNOWLEDGED));
  });
  while (gateway->live_events() < 2) std::this_thread::yield();
  gateway->Ack(kThread, first.epoch(), 1);
  EXPECT_EQ(answer.wait_for(kShort), std::future_status::timeout);
  gateway->Ack(kThread, first.epoch(), 2);
  EXPECT_EQ(answer.get().wait_outcome(), v1::WAIT_OUTCOME_REACHED);
}

TEST_F(ReceiptsTest, ARepeatedEventThatWasAcknowledgedIsReachedAtOnce) {
  auto gateway = Following();
  auto answer = std::async(std::launch::async, [&] {
    return MustPublish(Waiting(Delta("e1"), v1::WAIT_FOR_ACKNOWLEDGED));
  });
  while (gateway->live_events() < 1) std::this_thread::yield();
  gateway->Ack(kThread, Find("e1").epoch(), 1);
  EXPECT_EQ(answer.get().wait_outcome(), v1::WAIT_OUTCOME_REACHED);
  gateway->Detach();
  const auto again =
      MustPublish(Waiting(Delta("e1"), v1::WAIT_FOR_ACKNOWLEDGED, std::chrono::milliseconds(0)));
  EXPECT_TRUE(again.duplicate());
  EXPECT_EQ(again.wait_outcome(), v1::WAIT_OUTCOME_REACHED);
}

TEST_F(ReceiptsTest, TheEventIsAcceptedWhateverBecomesOfTheWait) {
  const auto alone = MustPublish(Waiting(Delta("e1"), v1::WAIT_FOR_SENT, kShort));
  EXPECT_EQ(alone.wait_outcome(), v1::WAIT_OUTCOME_NO_CONNECTION);
  EXPECT_EQ(alone.disposition(), v1::DISPOSITION_QUEUED);
  auto gateway = Following({.sends = false});
  const auto slow = MustPublish(Waiting(Delta("e2"), v1::WAIT_FOR_SENT, kShort));
  EXPECT_EQ(slow.wait_outcome(), v1::WAIT_OUTCOME_SLOW);
  v1::ListEventsRequest list;
  list.set_thread_id(kThread);
  EXPECT_EQ(MustListEvents(list).events_size(), 2);
}

TEST_F(ReceiptsTest, APageThatDoesNotAcknowledgeTimesOut) {
  auto gateway = Following();
  const auto answer = MustPublish(Waiting(Delta("e1"), v1::WAIT_FOR_ACKNOWLEDGED, kShort * 20));
  EXPECT_EQ(answer.wait_outcome(), v1::WAIT_OUTCOME_TIMED_OUT);
}

TEST_F(ReceiptsTest, FailUnlessReachedFailsWithTheResponseInItsDetails) {
  v1::PublishRequest request = Waiting(Delta("e1"), v1::WAIT_FOR_SENT, kShort);
  request.set_fail_unless_reached(true);
  const grpc::Status status = Publish(request);
  EXPECT_THAT(status, RefusedAs(Reason::kSendFailed));
  EXPECT_THAT(status.error_message(), HasSubstr("NO_CONNECTION"));
  v1::PublishResponse response;
  const v1::RpcStatus details = DetailsOf(FromGrpc(status));
  for (const auto& detail : details.details()) {
    if (detail.type_url() == "type.googleapis.com/clarion.v1.PublishResponse") {
      EXPECT_TRUE(response.ParseFromString(detail.value()));
    }
  }
  EXPECT_EQ(response.offset(), 1u);
  EXPECT_EQ(response.wait_outcome(), v1::WAIT_OUTCOME_NO_CONNECTION);
  EXPECT_EQ(Find("e1").event().offset(), 1u);
}

TEST_F(ReceiptsTest, WaitingIsCheckedFieldByField) {
  v1::PublishRequest request = Waiting(Delta("e1"), static_cast<v1::WaitFor>(77));
  EXPECT_THAT(Publish(request), NamesField("wait_for"));
  EXPECT_THAT(Publish(Waiting(Delta("e1"), v1::WAIT_FOR_SENT, std::chrono::seconds(61))),
              NamesField("timeout"));
  EXPECT_THAT(Publish(Waiting(Delta("e1"), v1::WAIT_FOR_UNSPECIFIED)), NamesField("timeout"));
  request = Delta("e1");
  request.set_fail_unless_reached(true);
  EXPECT_THAT(Publish(request), NamesField("fail_unless_reached"));
  EXPECT_THAT(Publish(Waiting(Delta("two words"), v1::WAIT_FOR_SENT)),
              NamesField("event.event_id"));
}

TEST_F(ReceiptsTest, AStreamRefusesToWaitForOneOfItsEvents) {
  grpc::ClientContext context;
  auto stream = stub_->PublishStream(&context);
  v1::PublishStreamRequest batch;
  *batch.add_events() = Waiting(Delta("e1"), v1::WAIT_FOR_SENT);
  ASSERT_TRUE(stream->Write(batch));
  v1::PublishStreamResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.results(0).refused().reason(), "CONTEXT_INVALID");
  EXPECT_THAT(response.results(0).refused().violations(0), HasSubstr("wait_for"));
  stream->WritesDone();
  EXPECT_THAT(stream->Finish(), IsOk());
}

TEST_F(ReceiptsTest, AStopAnswersThoseWhoWaitThatTheirEventIsAccepted) {
  auto gateway = Following({.sends = false});
  auto answer = std::async(std::launch::async, [&] {
    return MustPublish(Waiting(Delta("e1"), v1::WAIT_FOR_SENT, std::chrono::seconds(60)));
  });
  while (gateway->live_events() < 1) std::this_thread::yield();
  gateway->Detach();
  app_->Stop();
  const v1::PublishResponse response = answer.get();
  EXPECT_EQ(response.offset(), 1u);
  EXPECT_EQ(response.wait_outcome(), v1::WAIT_OUTCOME_TIMED_OUT);
}

TEST_F(ReceiptsTest, GetEventTellsWhenItWasSentAndAcknowledged) {
  auto gateway = Following();
  const auto published = MustPublish(Waiting(Delta("e1"), v1::WAIT_FOR_SENT));
  v1::GetEventResponse found = Find("e1");
  EXPECT_GE(found.first_sent_at().seconds(), found.event().accepted_at().seconds());
  EXPECT_FALSE(found.acknowledged());
  EXPECT_FALSE(found.has_acknowledged_at());
  gateway->Ack(kThread, published.epoch(), published.offset());
  while (!found.acknowledged()) found = Find("e1");
  EXPECT_GE(found.acknowledged_at().seconds(), found.first_sent_at().seconds());
}

TEST_F(ReceiptsTest, AWatcherHearsHowFarTheUserHasComeAndHowLongThatTook) {
  auto gateway = Following();
  const auto published = MustPublish(Delta("e1"));
  grpc::ClientContext context;
  v1::WatchReceiptsRequest request;
  request.set_thread_id(kThread);
  request.set_user_id(kUser);
  auto stream = stub_->WatchReceipts(&context, request);
  v1::WatchReceiptsResponse receipt;
  ASSERT_TRUE(stream->Read(&receipt));
  EXPECT_TRUE(receipt.snapshot());
  EXPECT_EQ(receipt.user_id(), kUser);
  EXPECT_EQ(receipt.acknowledged(), 0u);
  EXPECT_EQ(receipt.last().offset(), 1u);
  EXPECT_FALSE(receipt.has_acknowledged_at());
  gateway->Ack(kThread, published.epoch(), published.offset());
  ASSERT_TRUE(stream->Read(&receipt));
  EXPECT_FALSE(receipt.snapshot());
  EXPECT_EQ(receipt.acknowledged(), 1u);
  EXPECT_TRUE(receipt.has_acknowledged_at());
  ASSERT_TRUE(receipt.has_publish_to_ack());
  EXPECT_LT(receipt.publish_to_ack().seconds(), kPatience.count());
  app_->Stop();
  EXPECT_FALSE(stream->Read(&receipt));
  EXPECT_THAT(stream->Finish(), RefusedAs(Reason::kNotInitialized));
}

TEST_F(ReceiptsTest, AWatcherOfAnotherUsersThreadIsRefused) {
  MustPublish(Delta("e1"));
  grpc::ClientContext context;
  v1::WatchReceiptsRequest request;
  request.set_thread_id(kThread);
  request.set_user_id("eve");
  auto stream = stub_->WatchReceipts(&context, request);
  v1::WatchReceiptsResponse receipt;
  EXPECT_FALSE(stream->Read(&receipt));
  EXPECT_THAT(stream->Finish(), RefusedAs(Reason::kThreadOwnership));
  grpc::ClientContext another;
  request.set_thread_id("");
  stream = stub_->WatchReceipts(&another, request);
  EXPECT_FALSE(stream->Read(&receipt));
  EXPECT_THAT(stream->Finish(), NamesField("thread_id"));
}

}  // namespace
}  // namespace clarion::front
