// `subscribe` {all}: what a connection is bound to, and how much of it.
#include "service/delivery/delivery_fixture.h"

namespace clarion::delivery {
namespace {

using ::testing::ElementsAre;

class AllThreadsTest : public DeliveryTest {
 protected:
  void Assign(const std::string& thread, const std::string& user) {
    log_.Assign(ThreadId(thread), UserId(user), [](const auto&) {});
    log_.RunAll();
  }
  // What is said to a connection of a user of so many threads who wants all of them.
  std::vector<std::string> HeardOf(int threads, bool polls) {
    for (int i = 0; i < threads; ++i) GiveTo(absl::StrCat("t", i), "ann");
    auto gateway = Attach();
    if (polls) {
      gateway->Poll("c", "ann");
    } else {
      gateway->Open("c", "ann");
    }
    gateway->SubscribeAll("c");
    log_.RunAll();
    return gateway->Heard();
  }
};

TEST_F(AllThreadsTest, AreBoundThoseThereAreAndThoseThatCome) {
  GiveTo("t1", "ann");
  GiveTo("t2", "ann");
  GiveTo("other", "bob");
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->SubscribeAll("c");
  log_.RunAll();
  Assign("t3", "ann");
  Assign("x", "bob");
  EXPECT_THAT(gateway->Heard(), ElementsAre("all 7 ok", "bind c t1 all", "bind c t2 all",
                                            "all 7 ok", "bind c t3 all"));
}

TEST_F(AllThreadsTest, EndWithOff) {
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->SubscribeAll("c");
  gateway->SubscribeAll("c", false);
  log_.RunAll();
  Assign("t", "ann");
  EXPECT_THAT(gateway->Heard(), ElementsAre("all 7 ok"));
}

TEST_F(AllThreadsTest, AreAnsweredEachTimeTheyAreAskedForAndBoundOnce) {
  GiveTo("t", "ann");
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->SubscribeAll("c");
  log_.RunAll();
  gateway->SubscribeAll("c", /*on=*/true, 8);
  gateway->SubscribeAll("nobody", /*on=*/true, 9);
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("all 7 ok", "bind c t all", "all 7 ok", "all 8 ok",
                                            "all 8 ok", "all 9 NOT_FOUND"));
}

TEST_F(AllThreadsTest, AreListedByPages) {
  const std::vector<std::string> heard = HeardOf(1201, /*polls=*/false);
  EXPECT_EQ(heard.size(), 1u + 1201u + 1u);
  EXPECT_EQ(heard.back(), "all 7 ok") << "that was all";
}

TEST_F(AllThreadsTest, StopAtTheLimitAndSaySoOnce) {
  options_.all_threads = 2;
  for (const char* id : {"t1", "t2", "t3", "t4"}) GiveTo(id, "ann");
  auto gateway = Attach();
  gateway->Open("c", "ann");
  gateway->SubscribeAll("c");
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ElementsAre("all 7 ok", "bind c t1 all", "bind c t2 all",
                                            "no more c t3", "all 7 ok"));
}

// Its page can name no more where it stands.
TEST_F(AllThreadsTest, AConnectionThatPollsFollows1024) {
  const std::vector<std::string> heard = HeardOf(1100, /*polls=*/true);
  ASSERT_EQ(heard.size(), 1u + 1024u + 2u);
  EXPECT_THAT(heard[1025], ::testing::StartsWith("no more c "));
}

// From poll to poll: what its page names is what it follows, however many there are besides.
TEST_F(AllThreadsTest, AConnectionThatPollsFollowsWhatItsPageNames) {
  for (int i = 0; i < 1'024; ++i) GiveTo(absl::StrCat("t", i), "ann");
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  gateway->SubscribeAll("c");
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ::testing::SizeIs(1u + 1'024u + 1u));
  uint64_t subscription = 100;
  const auto poll = [&](int threads, bool limit_told = false) {
    gateway->Rest("c", 30, limit_told);
    gateway->Poll("c", "ann");
    for (int i = 0; i < threads; ++i)
      gateway->SubscribeAfter("c", ++subscription, absl::StrCat("t", i), PositionOf("e1", 0));
    gateway->SubscribeAll("c");
    log_.RunAll();
    std::vector<std::string> heard;
    for (const std::string& line : gateway->Heard()) {
      if (!line.starts_with("started ")) heard.push_back(line);
    }
    return heard;
  };
  GiveTo("first", "ann");
  EXPECT_THAT(gateway->Heard(), ElementsAre("no more c first"));
  EXPECT_THAT(poll(1'024), ElementsAre("all 7 ok", "no more c first", "all 7 ok"))
      << "its page did not hear it";
  EXPECT_THAT(poll(1'024, /*limit_told=*/true), ElementsAre("all 7 ok", "all 7 ok"));
  EXPECT_THAT(poll(1'023), ElementsAre("all 7 ok", "bind c first all", "all 7 ok"));
  gateway->Detach();
  gateway = Attach();
  EXPECT_THAT(poll(1'024), ElementsAre("all 7 ok", "all 7 ok")) << "its page knows";
}

TEST_F(AllThreadsTest, WhatIsNotTheUsersTakesNoPlaceAmongItsClaims) {
  options_.claims_per_user = 1;
  auto gateway = Attach();
  gateway->Poll("c", "ann");
  for (uint64_t id : {1, 2, 3}) {
    v1::GatewayMessage message = TestGateway::Subscription("c", id, absl::StrCat("t", id));
    message.mutable_subscribe()->set_no_claim(true);
    gateway->Say(message);
  }
  gateway->SubscribeAll("c");
  log_.RunAll();
  EXPECT_THAT(gateway->Heard(), ::testing::UnorderedElementsAre("claim 1", "claim 2", "claim 3",
                                                                "all 7 ok", "all 7 ok"));
  Subscribed(*gateway, "c", 4, "his");
  EXPECT_THAT(gateway->Heard(), ElementsAre("claim 4"));
  Assign("t2", "ann");
  EXPECT_THAT(gateway->Heard(), ElementsAre("bind c t2 all"));
  EXPECT_EQ(log_.followed(), 1u) << "the claim";
}

}  // namespace
}  // namespace clarion::delivery
