// clarionctl audit, over a service that says what the test wants.
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "clarion/v1/event_service.grpc.pb.h"
#include "gmock/gmock.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "service/ctl/ctl_testing.h"
#include "service/ctl/program.h"

namespace clarion::ctl {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr int kCannot = 2;

struct FakeThread {
  std::string user = "ada";
  uint64_t last = 0;
  uint64_t floor = 1;
  uint64_t acknowledged = 0;
  uint64_t acknowledged_events = 0;
  uint64_t expired_events = 0;
  uint64_t lost = 0;  // an offset that the log does not give out
  uint64_t pending() const { return last - std::max(acknowledged, floor - 1); }
};

// Keeps its ledger as a service does, unless the test spoils it.
class AuditService final : public v1::EventService::Service {
 public:
  std::map<std::string, FakeThread> threads;
  v1::LedgerCounts deleted;
  int64_t off_by = 0;           // what the totals say too much
  uint64_t pending_off_by = 0;  // likewise each thread's pending
  // One more event each time the totals are read.
  bool moving = false;
  // The floor of t1 rises to this while it is read.
  uint64_t floor_after_first_page = 0;
  uint64_t page = 1000;

  grpc::Status ListThreads(grpc::ServerContext*, const v1::ListThreadsRequest*,
                           v1::ListThreadsResponse* response) override {
    for (const auto& [id, thread] : threads) {
      v1::ThreadSummary* summary = response->add_threads();
      summary->set_thread_id(id);
      summary->set_user_id(thread.user);
      summary->mutable_last()->set_epoch("e");
      summary->mutable_last()->set_offset(thread.last);
      summary->set_floor(thread.floor);
      summary->set_acknowledged(thread.acknowledged);
      summary->set_acknowledged_events(thread.acknowledged_events);
      summary->set_pending_events(thread.pending() + pending_off_by);
      summary->set_expired_events(thread.expired_events);
    }
    return grpc::Status::OK;
  }

  grpc::Status ListEvents(grpc::ServerContext*, const v1::ListEventsRequest* request,
                          v1::ListEventsResponse* response) override {
    FakeThread& thread = threads.at(request->thread_id());
    if (request->has_after() && request->thread_id() == "t1" && floor_after_first_page > 0) {
      const uint64_t settled = std::max(thread.acknowledged, thread.floor - 1);
      thread.expired_events += floor_after_first_page - 1 - settled;
      thread.floor = std::exchange(floor_after_first_page, 0);
    }
    uint64_t offset = std::max(thread.floor, request->after().offset() + 1);
    for (uint64_t left = page; left > 0 && offset <= thread.last; ++offset) {
      if (offset == thread.lost) continue;
      v1::Event* event = response->add_events();
      event->set_offset(offset);
      event->set_thread_id(request->thread_id());
      event->set_user_id(thread.user);
      --left;
    }
    response->mutable_last()->set_epoch("e");
    response->mutable_last()->set_offset(thread.last);
    response->set_floor(thread.floor);
    response->set_complete(offset > thread.last);
    return grpc::Status::OK;
  }

  grpc::Status GetLedger(grpc::ServerContext*, const v1::GetLedgerRequest*,
                         v1::GetLedgerResponse* response) override {
    if (moving) ++threads.begin()->second.last;
    *response->mutable_deleted_threads() = deleted;
    v1::LedgerCounts& total = *response->mutable_total();
    total = deleted;
    for (const auto& [id, thread] : threads) {
      total.set_accepted(total.accepted() + thread.last);
      total.set_acknowledged(total.acknowledged() + thread.acknowledged_events);
      total.set_pending(total.pending() + thread.pending());
      total.set_expired(total.expired() + thread.expired_events);
    }
    total.set_accepted(total.accepted() + static_cast<uint64_t>(off_by));
    total.set_pending(total.pending() + static_cast<uint64_t>(off_by));
    return grpc::Status::OK;
  }
};

class AuditTest : public testing::Test {
 protected:
  AuditTest() {
    service_.threads["t1"] = {
        .last = 10, .floor = 4, .acknowledged = 6, .acknowledged_events = 4, .expired_events = 2};
    service_.threads["t2"] = {.user = "eve", .last = 3};
    service_.threads["t3"] = {.last = 5, .floor = 6, .expired_events = 5};
    service_.threads["t4"] = {};  // assigned, and nothing came
    service_.deleted.set_accepted(7);
    service_.deleted.set_acknowledged(4);
    service_.deleted.set_expired(3);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  ~AuditTest() override { server_->Shutdown(); }

  Ran RunAudit(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"audit", "--service",
                                          "127.0.0.1:" + std::to_string(port_)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Ctl(arguments);
  }

  AuditService service_;

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(AuditTest, LedgerThatAddsUpHasNoDifference) {
  const Ran ran = RunAudit();
  EXPECT_EQ(ran.exit_code, kOk) << ran.out;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("differences: 0"), HasSubstr("threads: 4, events kept: 10"),
                             HasSubstr("totals: agree"), HasSubstr("accepted 25"),
                             HasSubstr("acknowledged 8"), HasSubstr("expired 10")));
}

TEST_F(AuditTest, PagesOfAThreadAreOneReading) {
  service_.page = 2;
  EXPECT_EQ(RunAudit().exit_code, kOk);
  service_.threads["t1"].lost = 6;  // the last of a page
  EXPECT_EQ(RunAudit().exit_code, kFailed);
}

TEST_F(AuditTest, LostEventIsFoundWhereverItWas) {
  for (const uint64_t lost : {4, 7, 10}) {
    service_.threads["t1"].lost = lost;
    const Ran ran = RunAudit();
    EXPECT_EQ(ran.exit_code, kFailed) << lost;
    EXPECT_THAT(ran.out, AllOf(HasSubstr("thread t1 of ada"), HasSubstr("not there")));
    EXPECT_THAT(ran.out, Not(HasSubstr("t2")));
  }
}

TEST_F(AuditTest, CountsOfAThreadThatDoNotAddUpAreFound) {
  service_.threads["t1"].acknowledged_events = 5;
  const Ran ran = RunAudit();
  EXPECT_EQ(ran.exit_code, kFailed);
  EXPECT_THAT(ran.out, AllOf(HasSubstr("thread t1 of ada: acknowledged 5"),
                             HasSubstr("are 11, and not its 10 events")));
}

TEST_F(AuditTest, PendingThatIsNotWhatFloorAndAckSayIsFound) {
  service_.threads["t1"].expired_events = 1;  // so that the sum is right
  service_.threads["t2"].last = 0;
  service_.pending_off_by = 1;
  const Ran ran = RunAudit();
  EXPECT_EQ(ran.exit_code, kFailed);
  EXPECT_THAT(ran.out,
              HasSubstr("thread t1 of ada: pending is 5; by its floor 4 and its ack 6 it is 4"));
  EXPECT_THAT(ran.out, HasSubstr("events kept beyond its ack 6 are 4"));
}

TEST_F(AuditTest, TotalsThatAreNotTheSumAreFound) {
  service_.off_by = -1;
  const Ran ran = RunAudit({"--json"});
  EXPECT_EQ(ran.exit_code, kFailed);
  EXPECT_THAT(ran.out, AllOf(HasSubstr("all threads together"), HasSubstr(R"("totals":"differ")")));
  service_.off_by = 0;
  service_.deleted.set_accepted(8);
  EXPECT_EQ(RunAudit().exit_code, kFailed) << "what deleted threads left does not add up";
}

TEST_F(AuditTest, TotalsThatMoveAreSaidToMoveAndNothingElse) {
  service_.moving = true;
  const Ran ran = RunAudit();
  EXPECT_EQ(ran.exit_code, kOk) << ran.out;
  EXPECT_THAT(ran.out, HasSubstr("totals: moving"));
}

TEST_F(AuditTest, FloorThatRisesWhileEventsAreReadIsNoDifference) {
  service_.page = 2;
  service_.floor_after_first_page = 9;
  const Ran ran = RunAudit();
  EXPECT_EQ(ran.exit_code, kOk) << ran.out;
}

TEST_F(AuditTest, WhereNobodyAnswersItCannotBeFoundOut) {
  EXPECT_EQ(
      Ctl({"audit", "--timeout", "0.3", "--service", "127.0.0.1:" + std::to_string(ClosedPort())})
          .exit_code,
      kCannot);
}

}  // namespace
}  // namespace clarion::ctl
