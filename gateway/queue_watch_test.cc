// Who has to give way when all queues together hold too much.
#include "gateway/queue_watch.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class QueueWatchTest : public ::testing::Test {
 protected:
  class FakeQueue final : public QueueWatch::Queue {
   public:
    FakeQueue(QueueWatchTest* test, std::string name, size_t bytes, size_t rest)
        : test_(test), name_(std::move(name)), rest_(rest) {
      Hold(bytes);
    }
    ~FakeQueue() { Hold(0); }
    size_t queued_bytes() const override { return bytes_; }
    size_t kernel_bytes() override { return kernel_bytes_; }
    // The peer takes so many of the 100 bytes that were written.
    void Take(size_t bytes) { kernel_bytes_ -= bytes; }
    void Relieve() override {
      test_->said_.push_back("relieve " + name_);
      if (bytes_ > rest_) Hold(rest_);
    }
    void GiveUp(Cause cause) override {
      test_->said_.push_back((cause == Cause::kStalled ? "stalled " : "close ") + name_);
      Hold(1);
    }
    void Hold(size_t bytes) {
      test_->budget_.Change(bytes_, bytes);
      bytes_ = bytes;
    }

   private:
    QueueWatchTest* const test_;
    const std::string name_;
    const size_t rest_;
    size_t bytes_ = 0;
    size_t kernel_bytes_ = 100;
  };

  // One that has taken nothing since `at` and holds so many bytes, of which `rest` cannot be had
  // again.
  std::unique_ptr<FakeQueue> Blocked(const std::string& name, int at, size_t bytes,
                                     size_t rest = 0) {
    auto queue = std::make_unique<FakeQueue>(this, name, bytes, rest);
    watch_.OnBlocked(*queue, At(at));
    return queue;
  }
  static QueueWatch::Clock::time_point At(int ms) {
    return QueueWatch::Clock::time_point(std::chrono::hours(1)) + milliseconds(ms);
  }
  std::vector<std::string> Said() { return std::exchange(said_, {}); }

  QueueBudget budget_{1'000};
  QueueWatch watch_{budget_, milliseconds(100)};
  std::vector<std::string> said_;
};

TEST_F(QueueWatchTest, WhileTheBoundHoldsNobodyGivesWay) {
  const auto a = Blocked("a", 0, 900), b = Blocked("b", 1, 100);
  watch_.CheckBudget();
  EXPECT_THAT(Said(), IsEmpty());
  EXPECT_TRUE(budget_.tight());
  EXPECT_FALSE(budget_.over());
}

TEST_F(QueueWatchTest, OfThoseAboveTheFairShareTheLongestStalledIsRelievedFirst) {
  // A share is 333.
  const auto small = Blocked("small", 0, 200), old = Blocked("old", 1, 500),
             young = Blocked("young", 2, 600);
  watch_.CheckBudget();
  EXPECT_THAT(Said(), ElementsAre("relieve old"));
  EXPECT_FALSE(budget_.over());
}

TEST_F(QueueWatchTest, WhoGivesNothingBackIsClosedOnceAllWereRelieved) {
  const auto stubborn = Blocked("stubborn", 0, 700, 700), b = Blocked("b", 1, 600, 500);
  watch_.CheckBudget();
  EXPECT_THAT(Said(), ElementsAre("relieve stubborn", "relieve b", "close stubborn"));
  EXPECT_FALSE(budget_.over());
}

TEST_F(QueueWatchTest, WhoHoldsNoMoreThanAFairShareIsLeftAloneWhoeverItIs) {
  // The large one is of another loop.
  budget_.Change(0, 900);
  const auto a = Blocked("a", 0, 100), b = Blocked("b", 1, 100);
  watch_.CheckBudget();
  EXPECT_THAT(Said(), IsEmpty());
  EXPECT_TRUE(budget_.over());
  budget_.Change(900, 0);
}

TEST_F(QueueWatchTest, WhoTakesNothingForSoLongIsGivenUpOnce) {
  const auto a = Blocked("a", 0, 10), b = Blocked("b", 50, 10);
  watch_.CheckStalls(At(99));
  EXPECT_THAT(Said(), IsEmpty());
  watch_.CheckStalls(At(100));
  EXPECT_THAT(Said(), ElementsAre("stalled a"));
  watch_.OnBlocked(*b, At(120));  // it took something
  watch_.CheckStalls(At(199));
  EXPECT_THAT(Said(), IsEmpty());
  const auto gone = Blocked("gone", 0, 10);
  gone->unlink();
  watch_.CheckStalls(At(199));
  EXPECT_THAT(Said(), IsEmpty());
}

TEST_F(QueueWatchTest, WhoTakesOfWhatTheKernelHoldsIsSlowNotStalled) {
  const auto slow = Blocked("slow", 0, 10), dead = Blocked("dead", 0, 10);
  slow->Take(1);
  watch_.CheckStalls(At(100));
  EXPECT_THAT(Said(), ElementsAre("stalled dead"));
  slow->Hold(500);  // more waits than before, and yet it takes
  slow->Take(1);
  watch_.CheckStalls(At(199));
  watch_.CheckStalls(At(200));
  EXPECT_THAT(Said(), ElementsAre("stalled dead")) << "which nothing has ended here";
  watch_.CheckStalls(At(300));
  EXPECT_THAT(Said(), ElementsAre("stalled slow", "stalled dead"));
}

}  // namespace
}  // namespace clarion::gateway
