#include "service/delivery/page_turns.h"

#include <atomic>
#include <functional>
#include <future>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/contract/error.h"
#include "service/delivery/delivery_fixture.h"
#include "telemetry/metrics.h"

namespace clarion::delivery {
namespace {

using ::testing::ElementsAre;

TEST(PageTurnsTest, SoManyAtATimeTheOthersInOrder) {
  PageTurns turns({.at_once = 2});
  std::vector<int> begun;
  for (int i = 1; i <= 5; ++i) EXPECT_TRUE(turns.Begin([&begun, i] { begun.push_back(i); }));
  EXPECT_THAT(begun, ElementsAre(1, 2));
  EXPECT_EQ(GetGauge("clarion_pages_under_way", "").value(), 2);
  EXPECT_EQ(GetGauge("clarion_pages_waiting", "").value(), 3);
  turns.End();
  EXPECT_THAT(begun, ElementsAre(1, 2, 3));
  for (int i = 0; i < 4; ++i) turns.End();
  EXPECT_THAT(begun, ElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(GetGauge("clarion_pages_under_way", "").value(), 0);
}

TEST(PageTurnsTest, RefusesWhatWouldWaitBeyondItsBound) {
  PageTurns turns({.at_once = 1, .waiting = 1});
  EXPECT_TRUE(turns.Begin([] {}));
  EXPECT_TRUE(turns.Begin([] {}));
  EXPECT_FALSE(turns.Begin([] { FAIL(); }));
  turns.End();
  turns.End();
}

TEST(PageTurnsTest, WorksOnAThreadOfItsOwnAndFinishesItBeforeItStops) {
  PageTurns turns({.threads = 1});
  std::atomic<int> done{0};
  std::promise<std::thread::id> where;
  turns.Work([&] { where.set_value(std::this_thread::get_id()); });
  EXPECT_NE(where.get_future().get(), std::this_thread::get_id());
  for (int i = 0; i < 100; ++i) turns.Work([&] { ++done; });
  turns.Stop();
  EXPECT_EQ(done, 100);
  turns.Work([&] { ++done; });
  EXPECT_EQ(done, 101);
}

TEST(PageTurnsTest, ThoseThatWaitHaveTheirTurnWhenItStops) {
  PageTurns turns({.at_once = 1, .threads = 1});
  int begun = 0;
  EXPECT_TRUE(turns.Begin([] {}));
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(turns.Begin([&] {
      ++begun;
      turns.End();
    }));
  }
  turns.Stop();
  EXPECT_EQ(begun, 3);
  turns.End();
}

// Whatever happens to a page, its turn ends.
TEST(PageTurnsTest, PagesThatFailGiveTheirTurnsBack) {
  FakeLog log;
  ManualScheduler scheduler;
  auto delivery = Delivery::Create({.service_id = "s", .pages_at_once = 1}, &log, &scheduler);
  log.AppendText(ThreadId("t"), UserId("ann"), "event");
  log.RunAll();
  std::vector<absl::Status> answers;
  const auto ask = [&](const std::string& thread, const std::string& user = "") {
    v1::ReadPageRequest request;
    request.set_thread_id(thread);
    request.set_user_id(user);
    delivery->ReadPage(
        request, [&](const absl::StatusOr<link::Page>& page) { answers.push_back(page.status()); });
  };
  log.FailRead(MakeError(Reason::kLogUnavailable, "no"));
  ask("t");
  ask("t", "bob");
  ask("t");
  EXPECT_EQ(answers.size(), 0u) << "one at a time";
  log.RunAll();
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_FALSE(answers[0].ok());
  EXPECT_FALSE(answers[1].ok());
  EXPECT_TRUE(answers[2].ok()) << answers[2];
  ask("t");
  delivery->Stop();
  log.RunAll();
  EXPECT_EQ(answers.size(), 4u);
}

}  // namespace
}  // namespace clarion::delivery
