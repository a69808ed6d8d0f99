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

TEST_F(StopTest, WaitsForTheAnswersOfALogThatWaitsForItsDisk) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  auto stream = stub_->PublishStream(&context);
  disk_->StallSyncs();
  auto published =
      std::async(std::launch::async, [this] { return Publish(Started("run", "t-1")); });
  disk_->WaitUntilSyncStalls();
  v1::PublishStreamRequest batch;
  *batch.add_events() = Started("run", "t-2");
  ASSERT_TRUE(stream->Write(batch));
  v1::PublishStreamResponse results;
  auto read = std::async(std::launch::async, [&] { return stream->Read(&results); });
  std::thread stop([this] { app_->Stop(); });
  // Longer than peers are waited for that only have not looked.
  EXPECT_EQ(published.wait_for(2s), std::future_status::timeout);
  disk_->Go();
  EXPECT_THAT(published.get(), IsOk());
  // Unless the stop was faster than the stream's message.
  if (read.get()) {
    ASSERT_EQ(results.results_size(), 1);
    EXPECT_TRUE(results.results(0).has_accepted()) << results.DebugString();
    EXPECT_FALSE(stream->Read(&results));
  }
  EXPECT_THAT(stream->Finish(), RefusedAs(Reason::kNotInitialized));
  stop.join();
}

}  // namespace
}  // namespace clarion::front
