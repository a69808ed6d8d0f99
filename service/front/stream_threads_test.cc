#include "service/front/stream_threads.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::front {
namespace {

using testing::ElementsAre;

class StreamThreadsTest : public testing::Test {
 protected:
  std::optional<StreamStop> Offer(const std::string& event,
                                  log::RunStep effect = log::RunStep::kInside,
                                  const std::string& user = "ada") {
    log::AppendItem item;
    item.event_id = EventId(event);
    item.event = std::make_shared<const EncodedEvent>(event, "");
    item.run_step = effect;
    return threads_.Offer(thread_, UserId(user), std::move(item), {.index = next_++});
  }
  // The events of the next append; nothing if none may begin.
  std::vector<std::string> Next() {
    const auto append = threads_.Next(thread_);
    std::vector<std::string> events;
    if (!append) return events;
    for (const auto& item : append->request.items) events.push_back(item.event_id.str());
    return events;
  }

  const ThreadId thread_{"t"};
  StreamThreads threads_;
  int next_ = 0;
};

TEST_F(StreamThreadsTest, GathersWhatComesWhileAnAppendIsUnderWay) {
  Offer("a");
  EXPECT_THAT(Next(), ElementsAre("a"));
  Offer("b");
  Offer("c");
  EXPECT_THAT(Next(), ElementsAre());
  threads_.Answered(thread_);
  EXPECT_THAT(Next(), ElementsAre("b", "c"));
}

TEST_F(StreamThreadsTest, EndsAnAppendAtTheStartOfARun) {
  Offer("a");
  Offer("start", log::RunStep::kStart);
  Offer("b");
  EXPECT_THAT(Next(), ElementsAre("a", "start"));
  threads_.Answered(thread_);
  EXPECT_THAT(Next(), ElementsAre("b"));
}

TEST_F(StreamThreadsTest, EndsAnAppendWhereTheOwnerChanges) {
  Offer("a");
  Offer("b", log::RunStep::kInside, "eve");
  EXPECT_THAT(Next(), ElementsAre("a"));
}

TEST_F(StreamThreadsTest, GivesBackWhatWaitedWhenAThreadStopsAndTakesNothingUntilResumed) {
  Offer("a");
  Next();
  Offer("b");
  EXPECT_EQ(threads_.Stop(thread_, {EventId("a"), Reason::kBufferOverflow}).size(), 1u);
  threads_.Answered(thread_);
  EXPECT_EQ(threads_.stopped(), 1u);
  const auto stop = Offer("c");
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->refused, EventId("a"));
  threads_.Resume(thread_, EventId("b"));
  EXPECT_TRUE(Offer("d").has_value());
  threads_.Resume(thread_, EventId("a"));
  EXPECT_EQ(threads_.stopped(), 0u);
  EXPECT_FALSE(Offer("e").has_value());
  EXPECT_THAT(Next(), ElementsAre("e"));
}

TEST_F(StreamThreadsTest, LeavesOtherThreadsAlone) {
  threads_.Stop(ThreadId("other"), {EventId("x"), Reason::kLogUnavailable});
  EXPECT_FALSE(Offer("a").has_value());
  EXPECT_THAT(Next(), ElementsAre("a"));
}

}  // namespace
}  // namespace clarion::front
