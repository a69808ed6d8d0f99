// How the wait of a start ends. What callers see is in service/front/start_run_test.cc.
#include "service/runs/start_run.h"

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/gate.h"
#include "proto/base/manual_scheduler.h"
#include "service/delivery/fake_log.h"

namespace clarion::runs {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class StartRunTest : public testing::Test {
 protected:
  StartRunTest() {
    StartRunCall call;
    call.request.set_request_id("q");
    call.request.set_user_id("ann");
    call.request.set_thread_id("t");
    call.request.set_agent_name("agent");
    call.request.set_min_readiness(v1::READINESS_SUBSCRIBED);
    call.request.mutable_ready_timeout()->set_seconds(60);
    call.request.set_if_not_ready(v1::IF_NOT_READY_START);
    call.request.set_if_exists(v1::IF_EXISTS_FAIL);
    call.may_start = [this] { return may_start_; };
    handle_ = StartRun(
        {.log = &log_, .delivery = delivery_.get(), .intake = &intake_, .gate = &gate_},
        std::move(call),
        [this](absl::StatusOr<v1::StartRunResponse> answer) { answer_ = std::move(answer); });
    log_.RunAll();
  }

  delivery::FakeLog log_;
  ManualScheduler scheduler_;
  std::unique_ptr<delivery::Delivery> delivery_ =
      delivery::Delivery::Create({}, &log_, &scheduler_);
  Intake intake_{{}, delivery_.get(), &scheduler_};
  Gate gate_;
  bool may_start_ = true;
  std::optional<absl::StatusOr<v1::StartRunResponse>> answer_;
  std::unique_ptr<delivery::Cancellation> handle_;
};

TEST_F(StartRunTest, StartsOnceTheTimeIsOver) {
  EXPECT_FALSE(answer_.has_value());
  scheduler_.Advance(std::chrono::seconds(60));
  log_.RunAll();
  ASSERT_TRUE(answer_.has_value());
  ASSERT_TRUE(answer_->ok()) << answer_->status();
  EXPECT_EQ((*answer_)->readiness(), v1::READINESS_NONE);
  EXPECT_THAT(log_.Texts(ThreadId("t")), SizeIs(1));
}

TEST_F(StartRunTest, StartsNothingOnceItsCallerWasAnswered) {
  may_start_ = false;
  scheduler_.Advance(std::chrono::seconds(60));
  log_.RunAll();
  EXPECT_FALSE(answer_.has_value());
  EXPECT_THAT(log_.Texts(ThreadId("t")), IsEmpty());
}

TEST_F(StartRunTest, StartsNothingWhenTheServiceStops) {
  delivery_->Stop();
  log_.RunAll();
  ASSERT_TRUE(answer_.has_value());
  EXPECT_EQ(ReasonOf(answer_->status()), Reason::kNotInitialized);
  EXPECT_THAT(log_.Texts(ThreadId("t")), IsEmpty());
}

}  // namespace
}  // namespace clarion::runs
