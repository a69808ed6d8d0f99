// PublishStream: order of results, refusals that stop a thread and the word that lifts them.
#include "service/front/front_testing.h"

namespace clarion::front {
namespace {

using testing::HasSubstr;

class PublishStreamTest : public FrontTest {
 protected:
  void Open() {
    context_ = std::make_unique<grpc::ClientContext>();
    context_->set_deadline(std::chrono::system_clock::now() + kPatience);
    stream_ = stub_->PublishStream(context_.get());
    results_.clear();
    taken_ = 0;
  }
  static v1::PublishStreamRequest Batch(const std::vector<v1::PublishRequest>& events) {
    v1::PublishStreamRequest batch;
    for (const auto& event : events) *batch.add_events() = event;
    return batch;
  }
  void Send(const std::vector<v1::PublishRequest>& events) {
    ASSERT_TRUE(stream_->Write(Batch(events)));
  }
  // The next result; answers may hold several.
  v1::PublishResult Next() {
    while (taken_ == results_.size()) {
      v1::PublishStreamResponse response;
      if (!stream_->Read(&response)) {
        ADD_FAILURE() << "the stream ended: " << stream_->Finish().error_message();
        return {};
      }
      for (const auto& result : response.results()) results_.push_back(result);
    }
    return results_[taken_++];
  }
  grpc::Status Finish() {
    stream_->WritesDone();
    return FinishReading();
  }
  grpc::Status FinishReading() {
    v1::PublishStreamResponse response;
    while (stream_->Read(&response)) {
      for (const auto& result : response.results()) results_.push_back(result);
    }
    return stream_->Finish();
  }
  // Opens as many runs in the thread as the log allows.
  void FillRuns(const std::string& thread) {
    for (int i = 0; i < kOpenRuns; ++i) MustPublish(Started("open-" + std::to_string(i), thread));
  }
  static constexpr int kOpenRuns = 100;

  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::PublishStreamRequest, v1::PublishStreamResponse>>
      stream_;
  std::vector<v1::PublishResult> results_;
  size_t taken_ = 0;
};

TEST_F(PublishStreamTest, AnswersEachEventInOrderAcrossThreadsAndBatches) {
  Open();
  Send({Delta("a1", "a"), Delta("b1", "b"), Delta("a2", "a")});
  Send({Delta("a3", "a"), Delta("b2", "b")});
  ASSERT_THAT(Finish(), IsOk());
  const std::vector<std::pair<std::string, uint64_t>> expected = {
      {"a1", 1}, {"b1", 1}, {"a2", 2}, {"a3", 3}, {"b2", 2}};
  ASSERT_EQ(results_.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(results_[i].event_id(), expected[i].first);
    EXPECT_EQ(results_[i].accepted().offset(), expected[i].second) << results_[i].DebugString();
  }
}

TEST_F(PublishStreamTest, AcceptsManyBatchesUnderWay) {
  constexpr int kBatches = 200, kEvents = 50;
  Open();
  std::thread writer([this] {
    for (int batch = 0; batch < kBatches; ++batch) {
      std::vector<v1::PublishRequest> events;
      events.reserve(kEvents);
      for (int i = 0; i < kEvents; ++i) {
        events.push_back(Delta("e" + std::to_string(batch * kEvents + i)));
      }
      ASSERT_TRUE(stream_->Write(Batch(events)));
    }
    stream_->WritesDone();
  });
  for (int i = 0; i < kBatches * kEvents; ++i) {
    const v1::PublishResult result = Next();
    ASSERT_EQ(result.event_id(), "e" + std::to_string(i));
    ASSERT_EQ(result.accepted().offset(), static_cast<uint64_t>(i + 1));
  }
  writer.join();
  EXPECT_THAT(FinishReading(), IsOk());
}

TEST_F(PublishStreamTest, RefusesAFaultyEventAndAcceptsTheOthers) {
  Open();
  v1::PublishRequest faulty = Delta("e2");
  faulty.mutable_event()->clear_agent_name();
  Send({Delta("e1"), faulty, Delta("e3"), Delta("e4", kThread, "eve"), Delta("e5")});
  ASSERT_THAT(Finish(), IsOk());
  ASSERT_EQ(results_.size(), 5u);
  EXPECT_EQ(results_[0].accepted().offset(), 1u);
  const v1::Refusal& refusal = results_[1].refused();
  EXPECT_EQ(refusal.reason(), "CONTEXT_INVALID");
  EXPECT_EQ(refusal.code(), static_cast<int>(grpc::StatusCode::INVALID_ARGUMENT));
  EXPECT_FALSE(refusal.retryable());
  ASSERT_EQ(refusal.violations_size(), 1);
  EXPECT_THAT(refusal.violations(0), HasSubstr("event.agent_name: "));
  EXPECT_EQ(refusal.metadata().at("thread_id"), kThread);
  EXPECT_EQ(refusal.metadata().at("operation"), "PublishStream");
  EXPECT_EQ(results_[2].accepted().offset(), 2u);
  EXPECT_EQ(results_[3].refused().reason(), "THREAD_OWNERSHIP");
  EXPECT_EQ(results_[4].accepted().offset(), 3u);
}

TEST_F(PublishStreamTest, RefusesAnEventOverItsLimitForGood) {
  Open();
  v1::PublishRequest big = Delta("big");
  big.mutable_event()->mutable_custom()->set_name("big");
  big.mutable_event()->mutable_custom()->set_value('"' + std::string(300 * 1024, 'x') + '"');
  Send({big, Delta("e1")});
  ASSERT_THAT(Finish(), IsOk());
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[0].refused().reason(), "BUFFER_OVERFLOW");
  EXPECT_FALSE(results_[0].refused().retryable());
  EXPECT_EQ(results_[1].accepted().offset(), 1u);
}

TEST_F(PublishStreamTest, AnswersDuplicates) {
  MustPublish(Delta("e1"));
  Open();
  Send({Delta("e1"), Delta("e2"), Delta("e2")});
  ASSERT_THAT(Finish(), IsOk());
  EXPECT_TRUE(results_[0].accepted().duplicate());
  EXPECT_FALSE(results_[1].accepted().duplicate());
  EXPECT_TRUE(results_[2].accepted().duplicate());
  EXPECT_EQ(results_[2].accepted().offset(), 2u);
}

TEST_F(PublishStreamTest, EndsWithTheFaultOfABatchAfterAnsweringThoseBefore) {
  Open();
  Send({Delta("e1")});
  Send({});
  const grpc::Status empty = Finish();
  EXPECT_THAT(empty, NamesField("events"));
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].accepted().offset(), 1u);

  Open();
  Send(std::vector<v1::PublishRequest>(1025, Delta("e")));
  EXPECT_THAT(Finish(), NamesField("events"));

  Open();
  v1::PublishStreamRequest unknown = Batch({Delta("e2")});
  AddUnknown(&unknown);
  ASSERT_TRUE(stream_->Write(unknown));
  EXPECT_THAT(Finish(), NamesField("#999"));

  Open();
  v1::PublishStreamRequest resume;
  resume.add_resumes()->set_thread_id(kThread);
  ASSERT_TRUE(stream_->Write(resume));
  EXPECT_THAT(Finish(), NamesField("resumes[0].event_id"));
}

TEST_F(PublishStreamTest, AbortsWhatFollowsARefusalThatMayBeRetriedUntilToldToResume) {
  FillRuns(kThread);
  Open();
  Send({Delta("before"), Started("one-more"), Delta("behind"), Delta("elsewhere", "t-2")});
  Send({Delta("later")});

  EXPECT_EQ(Next().accepted().offset(), kOpenRuns + 1u);
  const v1::PublishResult refused = Next();
  EXPECT_EQ(refused.refused().reason(), "BUFFER_OVERFLOW");
  EXPECT_EQ(refused.refused().code(), static_cast<int>(grpc::StatusCode::RESOURCE_EXHAUSTED));
  EXPECT_TRUE(refused.refused().retryable());
  EXPECT_TRUE(refused.refused().has_retry_after());
  const v1::PublishResult behind = Next();
  EXPECT_EQ(behind.refused().code(), static_cast<int>(grpc::StatusCode::ABORTED));
  EXPECT_EQ(behind.refused().reason(), "BUFFER_OVERFLOW");
  EXPECT_TRUE(behind.refused().retryable());
  EXPECT_EQ(Next().accepted().offset(), 1u);
  EXPECT_EQ(Next().refused().code(), static_cast<int>(grpc::StatusCode::ABORTED));

  // Another event's name lifts nothing.
  v1::PublishStreamRequest wrong = Batch({Delta("still")});
  wrong.add_resumes()->set_thread_id(kThread);
  wrong.mutable_resumes(0)->set_event_id("behind");
  ASSERT_TRUE(stream_->Write(wrong));
  EXPECT_EQ(Next().refused().code(), static_cast<int>(grpc::StatusCode::ABORTED));

  // A run ends, and the client sends again what was refused, in its order.
  MustPublish(Completed("open-0"));
  v1::PublishStreamRequest again = Batch({Started("one-more"), Delta("behind"), Delta("later")});
  again.add_resumes()->set_thread_id(kThread);
  again.mutable_resumes(0)->set_event_id("start-one-more");
  ASSERT_TRUE(stream_->Write(again));
  for (uint64_t offset = kOpenRuns + 3; offset < kOpenRuns + 6; ++offset) {
    EXPECT_EQ(Next().accepted().offset(), offset);
  }
  EXPECT_THAT(Finish(), IsOk());
}

TEST_F(PublishStreamTest, GoesOnWithoutTheRefusedEventWhenItIsGivenUp) {
  FillRuns(kThread);
  Open();
  Send({Started("one-more"), Delta("behind")});
  EXPECT_TRUE(Next().refused().retryable());
  EXPECT_EQ(Next().refused().code(), static_cast<int>(grpc::StatusCode::ABORTED));
  v1::PublishStreamRequest skip = Batch({Delta("behind")});
  skip.add_resumes()->set_thread_id(kThread);
  skip.mutable_resumes(0)->set_event_id("start-one-more");
  ASSERT_TRUE(stream_->Write(skip));
  EXPECT_EQ(Next().accepted().offset(), kOpenRuns + 1u);
  EXPECT_THAT(Finish(), IsOk());
}

TEST_F(PublishStreamTest, IsEndedWhenTheServiceStops) {
  Open();
  Send({Delta("e1")});
  EXPECT_EQ(Next().accepted().offset(), 1u);
  app_->Stop();
  v1::PublishStreamResponse response;
  EXPECT_FALSE(stream_->Read(&response));
  EXPECT_THAT(stream_->Finish(), RefusedAs(Reason::kNotInitialized));
}

}  // namespace
}  // namespace clarion::front
