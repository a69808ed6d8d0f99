// A disk that is full: what is refused is told, what was accepted stays, and once there is room the
// service goes on by itself. The disk is a tmpfs that only the service sees.
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "clarion/v1/event_service.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/contract/error.h"
#include "tests/e2e/support/producer.h"
#include "tests/e2e/support/program.h"

namespace clarion::testing {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr size_t kTextBytes = 200'000;

class FullDiskTest : public ::testing::Test {
 protected:
  // 160 MB, of which the service gets 40 until FreeSpace().
  static constexpr std::string_view kMount =
      "mount -t tmpfs -o size=160m tmpfs \"$0\" && head -c 120M /dev/zero > \"$0/ballast\" && "
      "exec \"$@\"";

  void SetUp() override {
    std::vector<std::string> arguments = {"--mount"};
    if (geteuid() != 0) arguments.push_back("--map-root-user");
    if (std::system(("unshare " + arguments.back() + " true").c_str()) != 0) {
      GTEST_SKIP() << "this machine lets nobody mount a file system";
    }
    const std::string disk = (dir_.path() / "disk").string();
    std::filesystem::create_directory(disk);
    const std::string loopback = "127.0.0.1:";
    const std::string program = CLARION_BIN_DIR "/service/clarion-service";
    for (const std::string& argument : std::vector<std::string>{
             "sh", "-c", std::string(kMount), disk, program, "--log-url",
             "embedded:" + disk + "/log", "--listen", loopback + std::to_string(grpc_port_),
             "--admin-listen", loopback + std::to_string(admin_port_), "--run-protocol", "off"}) {
      arguments.push_back(argument);
    }
    service_ = std::make_unique<Program>("/usr/bin/unshare", arguments, dir_.path() / "log");
    service_->Start();
    WaitUntilServing(*service_, admin_port_, "/readyz");
    stub_ = v1::EventService::NewStub(grpc::CreateChannel(loopback + std::to_string(grpc_port_),
                                                          grpc::InsecureChannelCredentials()));
  }

  void FreeSpace() const {
    std::filesystem::remove("/proc/" + std::to_string(service_->pid()) + "/root" +
                            (dir_.path() / "disk" / "ballast").string());
  }

  grpc::Status Publish(int n) const {
    v1::PublishRequest request;
    *request.mutable_event() = Thinking("u", "t", EventIdOf(n), std::string(kTextBytes, 'x'));
    v1::PublishResponse response;
    grpc::ClientContext context;
    return stub_->Publish(&context, request, &response);
  }

  std::vector<std::string> ListedIds() const {
    std::vector<std::string> ids;
    v1::ListEventsRequest request;
    request.set_thread_id("t");
    for (;;) {
      v1::ListEventsResponse response;
      grpc::ClientContext context;
      const grpc::Status status = stub_->ListEvents(&context, request, &response);
      EXPECT_TRUE(status.ok()) << status.error_message();
      for (const v1::Event& event : response.events()) {
        ids.push_back(event.event_id());
        EXPECT_EQ(event.offset(), ids.size());
      }
      if (!status.ok() || response.complete()) return ids;
      request.mutable_after()->set_epoch(response.last().epoch());
      request.mutable_after()->set_offset(ids.size());
    }
  }

  static std::string EventIdOf(int n) { return "e" + std::to_string(n); }

  TempDir dir_;
  const uint16_t grpc_port_ = FreePort();
  const uint16_t admin_port_ = FreePort();
  std::unique_ptr<Program> service_;
  std::unique_ptr<v1::EventService::Stub> stub_;
};

TEST_F(FullDiskTest, IsToldAndEndsNothingAndOnceThereIsRoomTheServiceGoesOn) {
  int refused = 0;
  while (Publish(refused).ok()) ++refused;
  ASSERT_GT(refused, 10);
  EXPECT_EQ(HttpGet(admin_port_, "/readyz"), "") << "it is ready though it cannot write";
  // Longer than the five seconds after which the database would begin to mend itself.
  for (const auto end = Clock::now() + 6s; Clock::now() < end;) {
    const grpc::Status status = Publish(refused);
    ASSERT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
    ASSERT_EQ(ReasonOf(FromGrpc(status)), Reason::kLogUnavailable);
    ASSERT_TRUE(RetryAfterOf(FromGrpc(status)).has_value());
    ASSERT_TRUE(service_->running()) << service_->log();
  }

  FreeSpace();
  grpc::Status status = grpc::Status::CANCELLED;
  for (const auto end = Clock::now() + 60s; !status.ok() && Clock::now() < end;) {
    status = Publish(refused);
  }
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_NE(HttpGet(admin_port_, "/readyz"), "");
  std::vector<std::string> accepted;
  for (int n = 0; n <= refused; ++n) accepted.push_back(EventIdOf(n));
  EXPECT_EQ(ListedIds(), accepted);
}

}  // namespace
}  // namespace clarion::testing
