// Threads that are deleted while somebody follows them.
#include "proto/contract/error.h"
#include "service/delivery/delivery_fixture.h"

namespace clarion::delivery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class DeletedThreadTest : public DeliveryTest {
 protected:
  void Delete(const std::string& thread) {
    log_.Delete(ThreadId(thread), UserId("ann"), [](const absl::StatusOr<log::DeletedThread>&) {});
    log_.RunAll();
  }
};

TEST_F(DeletedThreadTest, EverySubscriptionOfItIsToldAndEnds) {
  Append("t", "ann", {"one", "two"});
  Append("other", "ann", {"one"});
  auto a = AttachSubscribed("ann", "t");
  auto b = Attach("b");
  b->Open("c2", "ann");
  Subscribed(*b, "c2", 1, "t", v1::START_FROM_LIVE);
  Subscribed(*b, "c2", 2, "other");
  a->Confirm(1);
  EXPECT_EQ(delivery().Subscriptions(ThreadId("t")), 1u);
  a->Heard();
  b->Heard();
  Delete("t");
  EXPECT_THAT(a->Heard(), ElementsAre("refused 1 NOT_FOUND deleted=1..2"));
  EXPECT_THAT(b->Heard(), ElementsAre("refused 1 NOT_FOUND deleted=1..2"));
  EXPECT_EQ(delivery().Subscriptions(ThreadId("t")), 0u);
  EXPECT_THAT(delivery().GetConnections(UserId("ann"), ThreadId("t"), false), IsEmpty());
  log_.RunAll();
  EXPECT_EQ(log_.followed(), 1u);
  Append("other", "ann", {"two"});
  EXPECT_THAT(b->Heard(), ElementsAre("live other e2:2 two"));
}

TEST_F(DeletedThreadTest, OneThatLagsIsToldToo) {
  Append("t", "ann", {"one"});
  auto gateway = AttachSubscribed("ann", "t");
  gateway->carrier().set_live_room(0);
  Append("t", "ann", {"two", "three"});
  gateway->Heard();
  Delete("t");
  EXPECT_THAT(gateway->Heard(), ElementsAre("refused 1 NOT_FOUND deleted=1..3"));
  gateway->Follow("t", PositionOf("e1", 3));
  EXPECT_THAT(gateway->Heard(), IsEmpty());
}

TEST_F(DeletedThreadTest, OneThatWasInterruptedIsToldWhenItIsFollowedAgain) {
  Append("t", "ann", {"one", "two"});
  auto gateway = AttachSubscribed("ann", "t");
  gateway->Heard();
  log_.Interrupt(ThreadId("t"));
  Delete("t");
  EXPECT_THAT(gateway->Heard(), ElementsAre("refused 1 NOT_FOUND deleted=1..2"));
}

TEST_F(DeletedThreadTest, WithoutEventsNothingIsMissed) {
  log_.GiveTo(ThreadId("t"), UserId("ann"));
  log_.RunAll();
  auto gateway = AttachSubscribed("ann", "t");
  gateway->Heard();
  Delete("t");
  EXPECT_THAT(gateway->Heard(), ElementsAre("refused 1 NOT_FOUND"));
}

TEST_F(DeletedThreadTest, ClaimsHearNothingAndLaterSubscriptionsAreClaims) {
  Append("t", "ann", {"one"});
  auto gateway = AttachSubscribed("eve", "t");
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 1"));
  Delete("t");
  EXPECT_THAT(gateway->Heard(), IsEmpty());
  gateway->Open("mine", "ann");
  Subscribed(*gateway, "mine", 2, "t");
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 2"));
}

TEST_F(DeletedThreadTest, WhoFollowedItBeforeItsGatewayCameBackIsToldAndHoldsNoClaim) {
  Append("t", "ann", {"one"});
  auto gateway = Attach();
  Delete("t");
  gateway->Open("mine", "ann");
  gateway->SubscribeAfter("mine", 3, "t", PositionOf("e1", 1), /*restored=*/true);
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("refused 3 NOT_FOUND"));
}

TEST_F(DeletedThreadTest, PageOfItIsNotThereRatherThanEmptyOrRolledBack) {
  Append("t", "ann", {"one", "two"});
  auto gateway = AttachSubscribed("ann", "t");
  log_.Delete(ThreadId("t"), UserId("ann"), [](const absl::StatusOr<log::DeletedThread>&) {});
  // Readers see it before followers do.
  absl::StatusOr<link::Page> page = link::Page();
  v1::ReadPageRequest request;
  request.set_thread_id("t");
  *request.mutable_after() = PositionOf("e1", 1);
  delivery().ReadPage(request, [&](absl::StatusOr<link::Page> got) { page = std::move(got); });
  log_.RunReaders(ThreadId("t"));
  EXPECT_EQ(ReasonOf(page.status()), Reason::kLogUnavailable) << page.status();
  log_.RunAll();
}

}  // namespace
}  // namespace clarion::delivery
