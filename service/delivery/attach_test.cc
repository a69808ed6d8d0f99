// How gateways attach: Hello, and several that come with one id.
#include <optional>
#include <string>

#include "service/delivery/delivery_fixture.h"

namespace clarion::delivery {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class HelloTest : public DeliveryTest {
 protected:
  std::optional<absl::Status> AnswerTo(const v1::GatewayMessage& message) {
    auto carrier = std::make_shared<FakeAttachment>();
    auto session = delivery().OnAttached(carrier);
    session->OnMessages({message});
    return carrier->closed();
  }
};

TEST_F(HelloTest, IsWelcomedInACommonVersion) {
  TestGateway gateway(delivery(), "g");
  EXPECT_THAT(gateway.Heard(), ElementsAre("welcome 1"));
}

TEST_F(HelloTest, IsToldWhatTheServiceCanDo) {
  TestGateway gateway(delivery(), "g");
  const auto said = gateway.carrier().Take();
  ASSERT_TRUE(said.has_value());
  EXPECT_THAT(std::get<v1::ServiceMessage>(*said).welcome().capabilities(),
              ElementsAre("user_pages", "resting", "all_listed"));
}

TEST_F(HelloTest, WithoutACommonVersionIsClosedWithASentence) {
  v1::GatewayMessage message;
  message.mutable_hello()->set_gateway_id("g");
  message.mutable_hello()->add_versions(2);
  const auto closed = AnswerTo(message);
  ASSERT_TRUE(closed.has_value());
  EXPECT_THAT(std::string(closed->message()), HasSubstr("speaks no version of the link"));
}

TEST_F(HelloTest, MustComeFirstAndOnce) {
  v1::GatewayMessage heartbeat;
  heartbeat.mutable_heartbeat();
  EXPECT_TRUE(AnswerTo(heartbeat).has_value());
  auto gateway = Attach();
  v1::GatewayMessage again;
  again.mutable_hello()->set_gateway_id("g");
  again.mutable_hello()->add_versions(1);
  gateway->Say(again);
  EXPECT_TRUE(gateway->carrier().closed().has_value());
}

TEST_F(HelloTest, HeartbeatsAndUnknownMessagesAreTaken) {
  auto gateway = Attach();
  v1::GatewayMessage heartbeat;
  heartbeat.mutable_heartbeat();
  gateway->Say(heartbeat);
  gateway->Say(v1::GatewayMessage());
  EXPECT_THAT(gateway->Heard(), ElementsAre("heartbeat"));
}

TEST_F(HelloTest, WithABadInstanceIsRefused) {
  v1::GatewayMessage message;
  message.mutable_hello()->set_gateway_id("g");
  message.mutable_hello()->add_versions(1);
  message.mutable_hello()->set_instance(std::string(129, 'x'));
  EXPECT_EQ(ReasonOf(AnswerTo(message).value()), Reason::kContextInvalid);
}

// Gateways that all call themselves `g`.
class SameIdTest : public DeliveryTest {
 protected:
  std::unique_ptr<TestGateway> Start(const std::string& instance) {
    return std::make_unique<TestGateway>(delivery(), "g", instance);
  }
  // Nothing while it is attached.
  static std::optional<Reason> EndOf(TestGateway& gateway) {
    const std::optional<absl::Status> closed = gateway.carrier().closed();
    return closed.has_value() ? ReasonOf(*closed) : std::nullopt;
  }
};

TEST_F(SameIdTest, TheNewerDisplacesTheOlderWhichHearsByWhom) {
  auto first = Start("1");
  auto second = Start("2");
  EXPECT_EQ(EndOf(*first), Reason::kGatewayDisplaced);
  EXPECT_EQ(first->carrier().closed()->code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(first->carrier().closed()->message()),
              testing::AllOf(HasSubstr("'g'"), HasSubstr(second->carrier().peer()),
                             HasSubstr("--gateway-id")));
  EXPECT_EQ(EndOf(*second), std::nullopt);
}

TEST_F(SameIdTest, TheDisplacedIsRefusedAndDisturbsNobodyWhileTheNewerIsAttached) {
  auto first = Start("1");
  auto second = Start("2");
  second->Open("c", "ann");
  second->Heard();
  auto again = Start("1");
  EXPECT_EQ(EndOf(*again), Reason::kGatewayDisplaced);
  EXPECT_THAT(again->Heard(), IsEmpty());
  again->Detach();
  EXPECT_EQ(EndOf(*second), std::nullopt);
  ASSERT_EQ(delivery().Gateways().size(), 1u);
  EXPECT_EQ(delivery().Gateways()[0].connections, 1u);
}

TEST_F(SameIdTest, TheDisplacedTakesOverWhenTheNewerHasGone) {
  auto first = Start("1");
  auto second = Start("2");
  second->Detach();
  auto again = Start("1");
  EXPECT_THAT(again->Heard(), ElementsAre("welcome 1"));
}

TEST_F(SameIdTest, AStartWinsAtOnceThoughTheStreamOfTheLastLifeLooksAlive) {
  auto first = Start("1");
  auto second = Start("2");
  auto third = Start("3");
  EXPECT_THAT(third->Heard(), ElementsAre("welcome 1"));
  EXPECT_EQ(EndOf(*second), Reason::kGatewayDisplaced);
  EXPECT_EQ(EndOf(*Start("1")), Reason::kGatewayDisplaced);
  EXPECT_EQ(EndOf(*Start("2")), Reason::kGatewayDisplaced);
  EXPECT_EQ(EndOf(*third), std::nullopt);
}

TEST_F(SameIdTest, TheNewerAttachesAnewAtOnceAndStillIsTheNewer) {
  auto first = Start("1");
  auto second = Start("2");
  auto anew = Start("2");  // its old stream looks alive
  EXPECT_THAT(anew->Heard(), ElementsAre("welcome 1"));
  EXPECT_EQ(EndOf(*second), Reason::kGatewayUnavailable);
  EXPECT_EQ(EndOf(*Start("1")), Reason::kGatewayDisplaced);
}

TEST_F(SameIdTest, TheNewerWhoseStreamBrokeTakesItsPlaceBack) {
  auto first = Start("1");
  auto second = Start("2");
  second->Detach();
  auto waiting = Start("1");
  auto anew = Start("2");
  EXPECT_THAT(anew->Heard(), ElementsAre("welcome 1"));
  EXPECT_EQ(EndOf(*waiting), Reason::kGatewayDisplaced);
}

TEST_F(SameIdTest, OneThatDoesNotSayItsInstanceIsNeverRefused) {
  auto first = Start("");
  auto second = Start("2");
  auto again = Start("");
  EXPECT_THAT(again->Heard(), ElementsAre("welcome 1"));
  EXPECT_EQ(EndOf(*second), Reason::kGatewayDisplaced);
  auto anew = Start("");
  EXPECT_EQ(EndOf(*again), Reason::kGatewayUnavailable);
}

// What is remembered is bounded, and the newest of it is kept.
TEST_F(SameIdTest, ManyDisplacedAreRefusedToo) {
  std::vector<std::unique_ptr<TestGateway>> gateways;
  gateways.reserve(300);
  for (int i = 0; i < 300; ++i) gateways.push_back(Start(absl::StrCat(i)));
  EXPECT_EQ(EndOf(*Start("298")), Reason::kGatewayDisplaced);
  EXPECT_EQ(EndOf(*Start("100")), Reason::kGatewayDisplaced);
  EXPECT_THAT(Start("0")->Heard(), ElementsAre("welcome 1"));
}

TEST_F(HelloTest, AGatewayThatDrainsIsToldWhichOfItsThreadsHaveOpenRuns) {
  GiveTo("t", "ann");
  GiveTo("u", "ann");
  log_.AppendText(ThreadId("t"), UserId("ann"), "begins", log::RunStep::kStart);
  Append("u", "ann", {"one"});
  auto gateway = AttachSubscribed("ann", "t");
  Subscribed(*gateway, "c", 2, "u");
  auto other = Attach("h");
  other->Open("d", "ann");
  Subscribed(*other, "d", 1, "t");
  gateway->Heard();
  other->Heard();
  gateway->Drain();
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("busy t"));
  EXPECT_THAT(other->Heard(), IsEmpty());
}

}  // namespace
}  // namespace clarion::delivery
