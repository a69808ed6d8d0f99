// What browsers ask for that is answered once: their threads, and frames for a connection that
// another gateway holds.
#include "service/delivery/delivery_fixture.h"

namespace clarion::delivery {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class QuestionsTest : public DeliveryTest {
 protected:
  struct Answer {
    int times = 0;
    absl::StatusOr<v1::AskResponse> response = absl::UnknownError("no answer");
    std::optional<Reason> reason() const { return ReasonOf(response.status()); }
  };
  std::shared_ptr<Answer> Ask(const v1::AskRequest& request) {
    auto answer = std::make_shared<Answer>();
    delivery().Ask(request, [answer](absl::StatusOr<v1::AskResponse> response) {
      ++answer->times;
      answer->response = std::move(response);
    });
    log_.RunAll();
    return answer;
  }
  std::shared_ptr<Answer> Threads(const std::string& user, uint32_t size = 0,
                                  const std::string& token = "") {
    v1::AskRequest request;
    request.mutable_list_threads()->set_user_id(user);
    request.mutable_list_threads()->set_page_size(size);
    request.mutable_list_threads()->set_page_token(token);
    return Ask(request);
  }
  std::shared_ptr<Answer> Pass(const std::string& connection, const std::string& user,
                               uint64_t sequence = 1, const std::string& frames = "{}") {
    v1::AskRequest request;
    request.mutable_pass_frames()->set_connection_id(connection);
    request.mutable_pass_frames()->set_user_id(user);
    request.mutable_pass_frames()->set_sequence(sequence);
    request.mutable_pass_frames()->set_frames(frames);
    return Ask(request);
  }
  // Ids of DeliverFrames that `gateway` heard since the last call.
  static std::vector<uint64_t> DeliverIds(TestGateway& gateway) {
    std::vector<uint64_t> ids;
    for (const auto& said : gateway.carrier().TakeAll()) {
      const auto* message = std::get_if<v1::ServiceMessage>(&said);
      if (message != nullptr && message->has_deliver_frames()) {
        ids.push_back(message->deliver_frames().deliver_id());
      }
    }
    return ids;
  }
};

TEST_F(QuestionsTest, ListsTheThreadsOfTheUserAndNobodyElses) {
  Append("a", "ann", {"one", "two"});
  log_.AppendText(ThreadId("b"), UserId("ann"), "start", log::RunStep::kStart, RunId("run"));
  Append("c", "bob", {"three"});
  const auto answer = Threads("ann");
  ASSERT_TRUE(answer->response.ok()) << answer->response.status();
  const v1::ListThreadsResponse& threads = answer->response->list_threads();
  ASSERT_EQ(threads.threads_size(), 2);
  EXPECT_EQ(threads.threads(0).thread_id(), "a");
  EXPECT_EQ(threads.threads(0).user_id(), "ann");
  EXPECT_EQ(threads.threads(0).last().epoch(), "e1");
  EXPECT_EQ(threads.threads(0).last().offset(), 2u);
  EXPECT_EQ(threads.threads(0).floor(), 1u);
  EXPECT_EQ(threads.threads(0).pending_events(), 2u);
  ASSERT_EQ(threads.threads(1).active_runs_size(), 1);
  EXPECT_EQ(threads.threads(1).active_runs(0).run_id(), "run");
  EXPECT_EQ(threads.next_page_token(), "");
}

TEST_F(QuestionsTest, ListsThreadsPageByPage) {
  for (const char* id : {"a", "b", "c"}) Append(id, "ann", {"x"});
  const auto first = Threads("ann", 2);
  ASSERT_TRUE(first->response.ok());
  EXPECT_EQ(first->response->list_threads().threads_size(), 2);
  const auto second = Threads("ann", 2, first->response->list_threads().next_page_token());
  ASSERT_EQ(second->response->list_threads().threads_size(), 1);
  EXPECT_EQ(second->response->list_threads().threads(0).thread_id(), "c");
  EXPECT_EQ(second->response->list_threads().next_page_token(), "");
}

TEST_F(QuestionsTest, RefusesAListForNobodyForCanariesAndOverTheLimits) {
  for (const char* user : {"", "_clarion", "a b"}) {
    const auto answer = Threads(user);
    EXPECT_EQ(answer->reason(), Reason::kContextInvalid);
    ASSERT_EQ(ViolationsOf(answer->response.status()).size(), 1u);
    EXPECT_EQ(ViolationsOf(answer->response.status())[0].field, "list_threads.user_id");
  }
  EXPECT_EQ(Threads("ann", 1001)->reason(), Reason::kContextInvalid);
  EXPECT_EQ(Threads("ann", 1, std::string(1025, 'x'))->reason(), Reason::kContextInvalid);
}

TEST_F(QuestionsTest, RefusesAQuestionThatItDoesNotKnow) {
  const auto answer = Ask({});
  EXPECT_EQ(answer->reason(), Reason::kContextInvalid);
  EXPECT_EQ(ContextOf(answer->response.status()).operation, "Ask");
}

TEST_F(QuestionsTest, AnswersNoQuestionAfterItsEnd) {
  delivery().Stop();
  EXPECT_EQ(Threads("ann")->reason(), Reason::kNotInitialized);
  EXPECT_EQ(Pass("c", "ann")->reason(), Reason::kNotInitialized);
}

TEST_F(QuestionsTest, PassesFramesToTheGatewayThatHoldsTheConnection) {
  const auto other = Attach("other");
  const auto holder = Attach("holder");
  holder->Open("c", "ann");
  const auto answer = Pass("c", "ann", 3, R"([{"type":"ack"}])");
  EXPECT_EQ(answer->times, 0);
  EXPECT_THAT(other->Heard(), IsEmpty());
  const auto said = holder->carrier().Take();
  ASSERT_TRUE(said.has_value());
  const v1::DeliverFrames& deliver = std::get<v1::ServiceMessage>(*said).deliver_frames();
  EXPECT_EQ(deliver.frames().connection_id(), "c");
  EXPECT_EQ(deliver.frames().user_id(), "ann");
  EXPECT_EQ(deliver.frames().sequence(), 3u);
  EXPECT_EQ(deliver.frames().frames(), R"([{"type":"ack"}])");

  other->Delivered(deliver.deliver_id(), 9);
  EXPECT_EQ(answer->times, 0) << "another gateway answers for nobody else's connection";
  holder->Delivered(deliver.deliver_id(), 4);
  ASSERT_TRUE(answer->response.ok());
  EXPECT_EQ(answer->response->pass_frames().next_sequence(), 4u);
  holder->Delivered(deliver.deliver_id(), 5);
  scheduler_.Advance(seconds(60));
  EXPECT_EQ(answer->times, 1);
}

TEST_F(QuestionsTest, WhatTheGatewayRefusesComesBackWithItsReasonAndTheNumberItWaitsFor) {
  const auto gateway = Attach();
  gateway->Open("c", "ann");
  const auto answer = Pass("c", "ann", 7);
  gateway->Delivered(DeliverIds(*gateway).at(0), 5, "CONTEXT_INVALID");
  EXPECT_EQ(answer->reason(), Reason::kContextInvalid);
  v1::FramesPassed passed;
  bool found = false;
  const v1::RpcStatus details = DetailsOf(answer->response.status());
  for (const auto& detail : details.details()) {
    found = found || (detail.Is<v1::FramesPassed>() && detail.UnpackTo(&passed));
  }
  EXPECT_TRUE(found);
  EXPECT_EQ(passed.next_sequence(), 5u);
}

TEST_F(QuestionsTest, FramesForNobodysAndSomebodyElsesConnectionAreNotFoundAlike) {
  const auto gateway = Attach();
  gateway->Open("bobs", "bob");
  gateway->Open("gone", "ann");
  gateway->CloseConnection("gone");
  const auto foreign = Pass("bobs", "ann");
  const auto unknown = Pass("nobody", "ann");
  const auto gone = Pass("gone", "ann");
  for (const auto& answer : {unknown, foreign, gone}) {
    const absl::Status status = answer->response.status();
    EXPECT_EQ(ReasonOf(status), Reason::kNotFound);
    EXPECT_EQ(status.message(), unknown->response.status().message());
    EXPECT_EQ(ContextOf(status).user_id, "ann");
    EXPECT_EQ(ContextOf(status).cause, "");
  }
  EXPECT_THAT(gateway->Heard(), IsEmpty());
}

TEST_F(QuestionsTest, FramesThatTheGatewayDoesNotAnswerForAreUnavailable) {
  options_.pass_timeout = seconds(10);
  const auto gateway = Attach();
  gateway->Open("c", "ann");
  const auto answer = Pass("c", "ann");
  scheduler_.Advance(seconds(9));
  EXPECT_EQ(answer->times, 0);
  scheduler_.Advance(seconds(1));
  EXPECT_EQ(answer->reason(), Reason::kGatewayUnavailable);
  gateway->Delivered(DeliverIds(*gateway).at(0), 2);
  EXPECT_EQ(answer->times, 1);
}

TEST_F(QuestionsTest, FramesOfAConnectionThatGoesAreUnavailableAtOnce) {
  const auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->Open("d", "ann");
  const auto closed = Pass("c", "ann");
  const auto lost = Pass("d", "ann");
  gateway->CloseConnection("c");
  EXPECT_EQ(closed->reason(), Reason::kGatewayUnavailable);
  EXPECT_EQ(lost->times, 0);
  gateway->Detach();
  EXPECT_EQ(lost->reason(), Reason::kGatewayUnavailable);
}

TEST_F(QuestionsTest, FramesOnTheirWayAreAnsweredWhenTheServiceStops) {
  const auto gateway = Attach();
  gateway->Open("c", "ann");
  const auto answer = Pass("c", "ann");
  delivery().Stop();
  EXPECT_EQ(answer->times, 1);
  EXPECT_FALSE(answer->response.ok());
}

TEST_F(QuestionsTest, NoMoreFramesAreOnTheirWayThanMayBe) {
  options_.passing_frames = 3;
  const auto gateway = Attach();
  gateway->Open("c", "ann");
  for (uint64_t i = 1; i <= 3; ++i) EXPECT_EQ(Pass("c", "ann", i)->times, 0);
  const auto refused = Pass("c", "ann", 4);
  EXPECT_EQ(refused->reason(), Reason::kRateLimited);
  EXPECT_EQ(RetryAfterOf(refused->response.status()), seconds(1));
  const std::vector<uint64_t> ids = DeliverIds(*gateway);
  ASSERT_EQ(ids.size(), 3u);
  gateway->Delivered(ids[0], 2);
  EXPECT_EQ(Pass("c", "ann", 4)->times, 0) << "there is room again";
}

TEST_F(QuestionsTest, OneConnectionDoesNotTakeTheRoomOfAll) {
  const auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->Open("d", "bob");
  for (uint64_t i = 1; i <= 64; ++i) ASSERT_EQ(Pass("c", "ann", i)->times, 0);
  EXPECT_EQ(Pass("c", "ann", 65)->reason(), Reason::kRateLimited);
  EXPECT_EQ(Pass("d", "bob")->times, 0);
}

TEST_F(QuestionsTest, RefusesFramesWithoutANumberOrAUser) {
  EXPECT_EQ(Pass("c", "ann", 0)->reason(), Reason::kContextInvalid);
  EXPECT_EQ(Pass("c", "_clarion")->reason(), Reason::kContextInvalid);
}

}  // namespace
}  // namespace clarion::delivery
