// A service that stops while its disk stands still.
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <thread>

#include "service/front/front_testing.h"
#include "tests/contract/log_crash_fs.h"

namespace clarion::front {
namespace {

using namespace std::chrono_literals;

// Longer than peers are waited for that only have not looked.
constexpr auto kLong = 2s;

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

  // `call` writes to a disk that stands still; the service stops; the disk goes on.
  void ExpectAnswered(const std::function<grpc::Status()>& call) {
    disk_->StallSyncs();
    auto answer = std::async(std::launch::async, call);
    disk_->WaitUntilSyncStalls();
    std::thread stop([this] { app_->Stop(); });
    EXPECT_EQ(answer.wait_for(kLong), std::future_status::timeout);
    disk_->Go();
    EXPECT_THAT(answer.get(), IsOk());
    stop.join();
  }

  const std::shared_ptr<log::CrashFileSystem> disk_ = log::CrashFileSystem::Make();
};

TEST_F(StopTest, WaitsForTheAnswerOfACallWhoseEventTheDiskHasNot) {
  ExpectAnswered([this] { return Publish(Started("run")); });
}

TEST_F(StopTest, WaitsForTheAnswerOfARunWhoseStartTheDiskHasNot) {
  ExpectAnswered([this] { return StartRun(RunRequest("q1")); });
}

TEST_F(StopTest, WaitsForTheThreadOfAUserThatIsBeingDeletedAndLeavesTheOthers) {
  for (const char* thread : {"t-1", "t-2", "t-3"}) MustPublish(Delta("e1", thread));
  v1::DeleteUserRequest request;
  request.set_user_id(kUser);
  v1::DeleteUserResponse response;
  ExpectAnswered([&] { return Call(&Stub::DeleteUser, request, &response); });
  EXPECT_EQ(response.threads(), 1u);
  EXPECT_FALSE(response.complete());
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
