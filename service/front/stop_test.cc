// A service that stops while its disk stands still.
#include <chrono>
#include <future>
#include <memory>
#include <thread>

#include "service/front/front_testing.h"
#include "tests/contract/log_crash_fs.h"

namespace clarion::front {
namespace {

using namespace std::chrono_literals;

class StopTest : public FrontTest {
 protected:
  void SetUp() override {
    options_.log_env = disk_->env();
    FrontTest::SetUp();
  }
  void TearDown() override {
    disk_->Go();
    FrontTest::TearDown();
  }
  const std::shared_ptr<log::CrashFileSystem> disk_ = log::CrashFileSystem::Make();
};

// Longer than peers are waited for that only have not looked.
constexpr auto kLong = 2s;

TEST_F(StopTest, WaitsForTheAnswerOfACallWhoseEventTheDiskHasNot) {
  disk_->StallSyncs();
  auto published = std::async(std::launch::async, [this] { return Publish(Started("run")); });
  disk_->WaitUntilSyncStalls();
  std::thread stop([this] { app_->Stop(); });
  EXPECT_EQ(published.wait_for(kLong), std::future_status::timeout);
  disk_->Go();
  EXPECT_THAT(published.get(), IsOk());
  stop.join();
}

TEST_F(StopTest, WaitsForTheAnswerOfARunWhoseStartTheDiskHasNot) {
  disk_->StallSyncs();
  auto started = std::async(std::launch::async, [this] { return StartRun(RunRequest("q1")); });
  disk_->WaitUntilSyncStalls();
  std::thread stop([this] { app_->Stop(); });
  EXPECT_EQ(started.wait_for(kLong), std::future_status::timeout);
  disk_->Go();
  EXPECT_THAT(started.get(), IsOk());
  stop.join();
}

TEST_F(StopTest, WaitsForTheAnswersOfAStreamWhoseEventsTheDiskHasNot) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  auto stream = stub_->PublishStream(&context);
  disk_->StallSyncs();
  v1::PublishStreamRequest batch;
  *batch.add_events() = Started("run");
  ASSERT_TRUE(stream->Write(batch));
  disk_->WaitUntilSyncStalls();
  v1::PublishStreamResponse results;
  auto read = std::async(std::launch::async, [&] { return stream->Read(&results); });
  std::thread stop([this] { app_->Stop(); });
  EXPECT_EQ(read.wait_for(kLong), std::future_status::timeout);
  disk_->Go();
  EXPECT_TRUE(read.get());
  EXPECT_TRUE(results.results_size() == 1 && results.results(0).has_accepted())
      << results.DebugString();
  EXPECT_FALSE(stream->Read(&results));
  EXPECT_THAT(stream->Finish(), RefusedAs(Reason::kNotInitialized));
  stop.join();
}

}  // namespace
}  // namespace clarion::front
