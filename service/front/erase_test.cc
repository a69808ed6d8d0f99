// DeleteThread, DeleteUser.
#include "service/front/front_testing.h"

namespace clarion::front {
namespace {

class EraseTest : public FrontTest {
 protected:
  static v1::DeleteThreadRequest Thread(const std::string& thread = kThread,
                                        const std::string& user = kUser) {
    v1::DeleteThreadRequest request;
    request.set_user_id(user);
    request.set_thread_id(thread);
    return request;
  }
  v1::DeleteThreadResponse MustDelete(const v1::DeleteThreadRequest& request) {
    v1::DeleteThreadResponse response;
    EXPECT_THAT(Call(&Stub::DeleteThread, request, &response), IsOk());
    return response;
  }
  v1::GetLedgerResponse MustGetLedger() {
    v1::GetLedgerResponse response;
    EXPECT_THAT(Call(&Stub::GetLedger, v1::GetLedgerRequest(), &response), IsOk());
    return response;
  }
  int ThreadsOf(const std::string& user) {
    v1::ListThreadsRequest request;
    request.set_user_id(user);
    v1::ListThreadsResponse response;
    EXPECT_THAT(Call(&Stub::ListThreads, request, &response), IsOk());
    return response.threads_size();
  }
};

TEST_F(EraseTest, DeletedThreadIsNotThereForAnyCall) {
  MustPublish(Started("run"));
  MustPublish(Delta("e1"));
  const v1::DeleteThreadResponse deleted = MustDelete(Thread());
  EXPECT_EQ(deleted.events(), 2u);
  EXPECT_EQ(deleted.expired(), 2u);
  EXPECT_FALSE(deleted.already_deleted());
  for (int round = 0; round < 2; ++round) {
    EXPECT_THAT(Publish(Delta("e1")), RefusedAs(Reason::kEventDropped)) << "a repetition";
    EXPECT_THAT(Publish(Delta("e2")), RefusedAs(Reason::kEventDropped));
    EXPECT_THAT(Publish(Delta("e2", kThread, "eve")), RefusedAs(Reason::kEventDropped));
    EXPECT_THAT(StartRun(RunRequest("q")), RefusedAs(Reason::kEventDropped));
    v1::BindThreadRequest bind;
    bind.set_user_id(kUser);
    bind.set_thread_id(kThread);
    EXPECT_THAT(Call(&Stub::BindThread, bind), RefusedAs(Reason::kEventDropped));
    v1::AwaitReadyRequest ready;
    ready.set_user_id(kUser);
    ready.set_thread_id(kThread);
    ready.set_min_readiness(v1::READINESS_SUBSCRIBED);
    EXPECT_THAT(Call(&Stub::AwaitReady, ready), RefusedAs(Reason::kEventDropped));
    v1::ListEventsRequest events;
    events.set_thread_id(kThread);
    EXPECT_THAT(Call(&Stub::ListEvents, events), RefusedAs(Reason::kNotFound));
    v1::GetEventRequest event;
    event.set_thread_id(kThread);
    event.set_event_id("e1");
    EXPECT_THAT(Call(&Stub::GetEvent, event), RefusedAs(Reason::kNotFound));
    v1::ListUndeliveredRequest undelivered;
    undelivered.set_thread_id(kThread);
    EXPECT_THAT(Call(&Stub::ListUndelivered, undelivered), RefusedAs(Reason::kNotFound));
    EXPECT_EQ(ThreadsOf(kUser), 0);
    EXPECT_TRUE(MustDelete(Thread()).already_deleted());
    Restart();
  }
}

TEST_F(EraseTest, LedgerKeepsWhatADeletedThreadHad) {
  MustPublish(Delta("e1"));
  MustPublish(Delta("e2"));
  MustPublish(Delta("e1", "t-2"));
  MustDelete(Thread());
  for (int round = 0; round < 2; ++round) {
    const v1::GetLedgerResponse ledger = MustGetLedger();
    EXPECT_EQ(ledger.total().accepted(), 3u);
    EXPECT_EQ(ledger.total().pending(), 1u);
    EXPECT_EQ(ledger.total().expired(), 2u);
    EXPECT_EQ(ledger.deleted_threads().accepted(), 2u);
    EXPECT_EQ(ledger.deleted_threads().expired(), 2u);
    EXPECT_EQ(ledger.deleted_threads().pending(), 0u);
    Restart();
  }
}

TEST_F(EraseTest, ThreadThatIsNotTheUsersOrNotThereIsNotDeleted) {
  EXPECT_THAT(Call(&Stub::DeleteThread, Thread()), RefusedAs(Reason::kNotFound));
  MustPublish(Delta("e1"));
  EXPECT_THAT(Call(&Stub::DeleteThread, Thread(kThread, "eve")),
              RefusedAs(Reason::kThreadOwnership));
  EXPECT_EQ(ThreadsOf(kUser), 1);
}

TEST_F(EraseTest, UserIsDeletedWithAllThreadsAndNobodyElses) {
  for (const char* thread : {"t-1", "t-2", "t-3"}) MustPublish(Delta("e1", thread));
  MustPublish(Delta("e2", "t-2"));
  MustPublish(Delta("e1", "t-4", "eve"));
  v1::DeleteUserRequest request;
  request.set_user_id(kUser);
  v1::DeleteUserResponse response;
  ASSERT_THAT(Call(&Stub::DeleteUser, request, &response), IsOk());
  EXPECT_EQ(response.threads(), 3u);
  EXPECT_EQ(response.events(), 4u);
  EXPECT_EQ(response.expired(), 4u);
  EXPECT_TRUE(response.complete());
  EXPECT_EQ(ThreadsOf(kUser), 0);
  EXPECT_EQ(ThreadsOf("eve"), 1);
  EXPECT_THAT(Publish(Delta("e3", "t-3")), RefusedAs(Reason::kEventDropped));
  ASSERT_THAT(Call(&Stub::DeleteUser, request, &response), IsOk());
  EXPECT_EQ(response.threads(), 0u);
  EXPECT_TRUE(response.complete());
}

TEST_F(EraseTest, UserWithMoreThreadsThanOneCallDeletesIsDeletedByRepeating) {
  constexpr int kThreads = 1001;
  for (int n = 0; n < kThreads; ++n) {
    v1::BindThreadRequest bind;
    bind.set_user_id(kUser);
    bind.set_thread_id("t-" + std::to_string(n));
    ASSERT_THAT(Call(&Stub::BindThread, bind), IsOk());
  }
  v1::DeleteUserRequest request;
  request.set_user_id(kUser);
  v1::DeleteUserResponse response;
  ASSERT_THAT(Call(&Stub::DeleteUser, request, &response), IsOk());
  EXPECT_EQ(response.threads(), 1000u);
  EXPECT_FALSE(response.complete());
  ASSERT_THAT(Call(&Stub::DeleteUser, request, &response), IsOk());
  EXPECT_EQ(response.threads(), 1u);
  EXPECT_TRUE(response.complete());
}

TEST_F(EraseTest, ChecksTheFields) {
  EXPECT_THAT(Call(&Stub::DeleteThread, Thread("", "")), NamesField("thread_id"));
  EXPECT_THAT(Call(&Stub::DeleteThread, Thread("", "")), NamesField("user_id"));
  EXPECT_THAT(Call(&Stub::DeleteThread, Thread(kThread, "_clarion")), NamesField("user_id"));
  v1::DeleteUserRequest request;
  EXPECT_THAT(Call(&Stub::DeleteUser, request), NamesField("user_id"));
  request.set_user_id(kUser);
  AddUnknown(&request);
  EXPECT_THAT(Call(&Stub::DeleteUser, request), NamesField("#999"));
}

}  // namespace
}  // namespace clarion::front
