// VERIFIED: a page's own code answered a probe.
#include <deque>

#include "proto/contract/error.h"
#include "service/delivery/delivery_fixture.h"

namespace clarion::delivery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ProbeTest : public DeliveryTest {
 protected:
  std::unique_ptr<Cancellation> Await(std::chrono::seconds timeout = std::chrono::seconds(10)) {
    return delivery().AwaitReady(UserId("ann"), ThreadId("t"), v1::READINESS_VERIFIED, timeout,
                                 [this](absl::StatusOr<ReadyState> state) {
                                   ++answers_;
                                   if (state.ok()) state_ = *std::move(state);
                                 });
  }
  // Ann's connection `c` follows `t`, and its browser knows.
  std::unique_ptr<TestGateway> Follows() {
    GiveTo("t", "ann");
    auto gateway = AttachSubscribed("ann", "t");
    gateway->Confirm(1);
    gateway->Heard();
    return gateway;
  }
  int answers_ = 0;
  ReadyState state_;
};

TEST_F(ProbeTest, VerifiedComesWithThePagesAnswerNotBefore) {
  auto gateway = Follows();
  auto waiting = Await();
  const std::string nonce = gateway->TakeNonce();
  ASSERT_NE(nonce, "");
  EXPECT_EQ(answers_, 0);
  gateway->AnswerProbe("c", nonce);
  EXPECT_EQ(answers_, 1);
  EXPECT_EQ(state_.readiness, v1::READINESS_VERIFIED);
  EXPECT_EQ(state_.subscriptions, 1u);
  EXPECT_EQ(state_.steps.front().readiness(), v1::READINESS_SUBSCRIBED);
  EXPECT_EQ(state_.steps.back().readiness(), v1::READINESS_VERIFIED);
}

TEST_F(ProbeTest, APageThatComesWhileSomebodyWaitsIsProbedOnceItFollows) {
  GiveTo("t", "ann");
  auto gateway = Attach();
  auto waiting = Await();
  gateway->Open("c", "ann");
  Subscribed(*gateway, "c", 1, "t");
  EXPECT_EQ(gateway->TakeNonce(), "");
  gateway->Confirm(1);
  gateway->AnswerProbe("c", gateway->TakeNonce());
  EXPECT_EQ(answers_, 1);
}

TEST_F(ProbeTest, ASilentPageIsSubscribedAndNoMore) {
  auto gateway = Follows();
  auto waiting = Await(std::chrono::seconds(3));
  scheduler_.Advance(std::chrono::seconds(3));
  EXPECT_EQ(answers_, 1);
  EXPECT_EQ(state_.readiness, v1::READINESS_SUBSCRIBED);
}

TEST_F(ProbeTest, OneOfSeveralPagesIsEnough) {
  auto gateway = Follows();
  gateway->Open("d", "ann");
  Subscribed(*gateway, "d", 2, "t");
  gateway->Confirm(2);
  gateway->Heard();
  auto waiting = Await();
  EXPECT_THAT(gateway->Heard(), ElementsAre("probe c", "probe d"));
}

TEST_F(ProbeTest, AnswersThatNameNoOpenProbeCountForNothing) {
  auto gateway = Follows();
  gateway->AnswerProbe("c", "1");
  auto waiting = Await();
  const std::string nonce = gateway->TakeNonce();
  gateway->AnswerProbe("c", nonce + "0");
  gateway->AnswerProbe("nobody", nonce);
  auto other = Attach("g2");
  other->AnswerProbe("c", nonce);  // not its connection
  EXPECT_EQ(answers_, 0);
  gateway->AnswerProbe("c", nonce);
  EXPECT_EQ(answers_, 1);
  auto again = Await();
  gateway->AnswerProbe("c", nonce);  // an answer counts once
  EXPECT_EQ(answers_, 1);
}

TEST_F(ProbeTest, ThoseWhoWaitAtTheSameTimeShareAProbeAndAnOldOneProvesNothingToOthers) {
  auto gateway = Follows();
  auto first = Await();
  const std::string old_nonce = gateway->TakeNonce();
  auto second = Await();
  EXPECT_THAT(gateway->Heard(), IsEmpty());
  scheduler_.Advance(std::chrono::seconds(6));
  auto third = Await();
  const std::string nonce = gateway->TakeNonce();
  EXPECT_NE(nonce, old_nonce);
  gateway->AnswerProbe("c", old_nonce);
  EXPECT_EQ(answers_, 2) << "the third began to wait too late for it";
  gateway->AnswerProbe("c", nonce);
  EXPECT_EQ(answers_, 3);
}

TEST_F(ProbeTest, AnAnswerToALaterProbeServesThoseBefore) {
  auto gateway = Follows();
  auto first = Await(std::chrono::seconds(30));
  scheduler_.Advance(std::chrono::seconds(6));
  gateway->Heard();
  auto second = Await(std::chrono::seconds(30));
  gateway->AnswerProbe("c", gateway->TakeNonce());
  EXPECT_EQ(answers_, 2);
}

// Slower than others come to wait.
TEST_F(ProbeTest, ASlowPagesAnswersCountHoweverOftenItIsAsked) {
  auto gateway = Follows();
  auto first = Await(std::chrono::seconds(120));
  std::deque<std::string> nonces{gateway->TakeNonce()};
  std::vector<std::unique_ptr<Cancellation>> others;
  for (int i = 0; i < 40; ++i) {
    scheduler_.Advance(std::chrono::milliseconds(5'200));
    gateway->Heard();  // the last one again
    others.push_back(Await(std::chrono::seconds(1'000)));
    nonces.push_back(gateway->TakeNonce());
    if (i == 10) {
      gateway->AnswerProbe("c", nonces.front());
      EXPECT_EQ(answers_, 1);
    }
  }
  gateway->AnswerProbe("c", nonces[5]);
  EXPECT_EQ(answers_, 1) << "so many are not kept";
  gateway->AnswerProbe("c", nonces[30]);
  EXPECT_EQ(answers_, 1 + 30);
}

// It may not have listened yet, or have been busy.
TEST_F(ProbeTest, APageThatDoesNotAnswerIsAskedTheSameAgainWhileSomebodyWaits) {
  auto gateway = Follows();
  auto first = Await(std::chrono::seconds(6));
  const std::string nonce = gateway->TakeNonce();
  scheduler_.Advance(std::chrono::seconds(3));
  auto second = Await(std::chrono::seconds(9));
  EXPECT_EQ(gateway->TakeNonce(), "") << "shared";
  scheduler_.Advance(std::chrono::seconds(2));
  EXPECT_EQ(gateway->TakeNonce(), nonce);
  scheduler_.Advance(std::chrono::seconds(5));
  EXPECT_EQ(gateway->TakeNonce(), nonce);
  gateway->AnswerProbe("c", nonce);
  EXPECT_EQ(answers_, 2);
  EXPECT_EQ(state_.readiness, v1::READINESS_VERIFIED);
  // Nobody waits any more.
  scheduler_.Advance(std::chrono::seconds(10));
  EXPECT_EQ(gateway->TakeNonce(), "");
  auto third = Await(std::chrono::seconds(2));
  gateway->TakeNonce();
  scheduler_.Advance(std::chrono::seconds(10));
  EXPECT_EQ(gateway->TakeNonce(), "");
}

TEST_F(ProbeTest, APageThatHasLeftTheThreadVerifiesNothing) {
  auto gateway = Follows();
  auto waiting = Await();
  const std::string nonce = gateway->TakeNonce();
  gateway->Unsubscribe(1);
  gateway->AnswerProbe("c", nonce);
  EXPECT_EQ(answers_, 0);
}

TEST_F(ProbeTest, AConnectionThatCameBackIsProbedAnew) {
  auto gateway = Follows();
  auto waiting = Await();
  const std::string nonce = gateway->TakeNonce();
  gateway->CloseConnection("c");
  gateway->Open("c", "ann");
  Subscribed(*gateway, "c", 2, "t");
  gateway->Confirm(2);
  gateway->AnswerProbe("c", nonce);
  EXPECT_EQ(answers_, 0);
  gateway->AnswerProbe("c", gateway->TakeNonce());
  EXPECT_EQ(answers_, 1);
}

TEST_F(ProbeTest, WhoWantsASubscriptionOnlyCausesNoProbe) {
  auto gateway = Follows();
  auto waiting = delivery().AwaitReady(UserId("ann"), ThreadId("t"), v1::READINESS_SUBSCRIBED,
                                       std::chrono::seconds(1), [](const auto&) {});
  EXPECT_THAT(gateway->Heard(), IsEmpty());
}

}  // namespace
}  // namespace clarion::delivery
