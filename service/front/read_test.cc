// ListThreads, ListEvents, GetEvent.
#include "service/front/front_testing.h"

namespace clarion::front {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class ReadTest : public FrontTest {
 protected:
  void PublishMany(int count) {
    for (int i = 1; i <= count; ++i) epoch_ = MustPublish(Delta("e" + std::to_string(i))).epoch();
  }
  v1::Position At(uint64_t offset) const {
    v1::Position position;
    position.set_epoch(epoch_);
    position.set_offset(offset);
    return position;
  }
  static v1::ListEventsRequest Events(uint32_t page_size = 0) {
    v1::ListEventsRequest request;
    request.set_thread_id(kThread);
    request.set_page_size(page_size);
    return request;
  }
  static std::vector<uint64_t> Offsets(const v1::ListEventsResponse& page) {
    std::vector<uint64_t> offsets;
    for (const auto& event : page.events()) offsets.push_back(event.offset());
    return offsets;
  }
  // Activity is told apart by the millisecond.
  static void AwaitNextMillisecond() {
    const auto now = [] {
      return std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
    };
    for (const auto begin = now(); now() == begin;) std::this_thread::yield();
  }
  std::string epoch_;
};

TEST_F(ReadTest, PagesForwardAfterAPosition) {
  PublishMany(5);
  v1::ListEventsRequest request = Events(2);
  auto page = MustListEvents(request);
  EXPECT_THAT(Offsets(page), ElementsAre(1, 2));
  EXPECT_FALSE(page.complete());
  EXPECT_EQ(page.last().offset(), 5u);
  EXPECT_EQ(page.last().epoch(), epoch_);
  EXPECT_EQ(page.floor(), 1u);
  *request.mutable_after() = At(3);
  page = MustListEvents(request);
  EXPECT_THAT(Offsets(page), ElementsAre(4, 5));
  EXPECT_TRUE(page.complete());
  EXPECT_EQ(page.events(0).event_id(), "e4");
  EXPECT_EQ(page.events(0).agent_message_delta().delta(), "hello");
  *request.mutable_after() = At(5);
  page = MustListEvents(request);
  EXPECT_THAT(Offsets(page), IsEmpty());
  EXPECT_TRUE(page.complete());
}

TEST_F(ReadTest, PagesBackwardBeforeAPosition) {
  PublishMany(5);
  v1::ListEventsRequest request = Events(2);
  *request.mutable_before() = At(6);
  auto page = MustListEvents(request);
  EXPECT_THAT(Offsets(page), ElementsAre(4, 5));
  EXPECT_FALSE(page.complete());
  *request.mutable_before() = At(4);
  page = MustListEvents(request);
  EXPECT_THAT(Offsets(page), ElementsAre(2, 3));
  *request.mutable_before() = At(2);
  page = MustListEvents(request);
  EXPECT_THAT(Offsets(page), ElementsAre(1));
  EXPECT_TRUE(page.complete());
  *request.mutable_before() = At(1);
  page = MustListEvents(request);
  EXPECT_THAT(Offsets(page), IsEmpty());
  EXPECT_TRUE(page.complete());
}

TEST_F(ReadTest, EndsABackwardPageAtItsBytesAndKeepsTheNewest) {
  for (int i = 1; i <= 12; ++i) {
    v1::PublishRequest request = Delta("e" + std::to_string(i));
    request.mutable_event()->mutable_custom()->set_name("big");
    request.mutable_event()->mutable_custom()->set_value('"' + std::string(200 * 1024, 'x') + '"');
    epoch_ = MustPublish(request).epoch();
  }
  v1::ListEventsRequest request = Events(100);
  *request.mutable_before() = At(13);
  const auto page = MustListEvents(request);
  EXPECT_THAT(Offsets(page), ElementsAre(8, 9, 10, 11, 12));
  EXPECT_FALSE(page.complete());
}

TEST_F(ReadTest, SaysWhatAFollowerOfALostNumberingMustForget) {
  PublishMany(3);
  v1::ListEventsRequest request = Events();
  request.mutable_after()->set_epoch("of-another-life");
  request.mutable_after()->set_offset(2);
  const auto page = MustListEvents(request);
  ASSERT_EQ(page.missed_size(), 1);
  EXPECT_EQ(page.missed(0).reason(), v1::MISSED_REASON_LOG_ROLLED_BACK);
  EXPECT_EQ(page.missed(0).discard_after(), 0u);
  EXPECT_THAT(Offsets(page), ElementsAre(1, 2, 3));
  request.clear_after();
  request.mutable_before()->set_epoch("of-another-life");
  request.mutable_before()->set_offset(2);
  EXPECT_THAT(Call(&Stub::ListEvents, request), RefusedAs(Reason::kEpochChanged));
}

TEST_F(ReadTest, RefusesAThreadThatIsNotThereOrNotTheUsers) {
  EXPECT_THAT(Call(&Stub::ListEvents, Events()), RefusedAs(Reason::kNotFound));
  PublishMany(1);
  v1::ListEventsRequest request = Events();
  request.set_user_id("eve");
  EXPECT_THAT(Call(&Stub::ListEvents, request), RefusedAs(Reason::kThreadOwnership));
  request.set_user_id(kUser);
  EXPECT_THAT(Call(&Stub::ListEvents, request), IsOk());
}

TEST_F(ReadTest, ChecksTheFieldsOfListEvents) {
  v1::ListEventsRequest request = Events(1001);
  EXPECT_THAT(Call(&Stub::ListEvents, request), NamesField("page_size"));
  request = Events();
  request.mutable_after()->set_offset(1);
  EXPECT_THAT(Call(&Stub::ListEvents, request), NamesField("after.epoch"));
  request = Events();
  request.mutable_before()->set_epoch("e");
  EXPECT_THAT(Call(&Stub::ListEvents, request), NamesField("before.offset"));
  request.mutable_after();
  EXPECT_THAT(Call(&Stub::ListEvents, request), NamesField("before"));
  request = Events();
  AddUnknown(request.mutable_after());
  EXPECT_THAT(Call(&Stub::ListEvents, request), NamesField("after.#999"));
  request = Events();
  request.clear_thread_id();
  EXPECT_THAT(Call(&Stub::ListEvents, request), NamesField("thread_id"));
}

TEST_F(ReadTest, ListsThreadsMostRecentlyActiveFirst) {
  MustPublish(Delta("e1", "t-1"));
  MustPublish(Delta("e1", "t-2"));
  AwaitNextMillisecond();
  MustPublish(Started("run", "t-3"));
  MustPublish(Delta("e1", "t-4", "eve"));
  AwaitNextMillisecond();
  MustPublish(Delta("e2", "t-1"));
  v1::ListThreadsRequest request;
  request.set_user_id(kUser);
  v1::ListThreadsResponse response;
  ASSERT_THAT(Call(&Stub::ListThreads, request, &response), IsOk());
  ASSERT_EQ(response.threads_size(), 3);
  EXPECT_EQ(response.threads(0).thread_id(), "t-1");
  EXPECT_EQ(response.threads(0).last().offset(), 2u);
  EXPECT_EQ(response.threads(0).user_id(), kUser);
  EXPECT_TRUE(response.threads(0).has_last_event_at());
  EXPECT_EQ(response.threads(1).thread_id(), "t-3");
  ASSERT_EQ(response.threads(1).active_runs_size(), 1);
  EXPECT_EQ(response.threads(1).active_runs(0).run_id(), "run");
  EXPECT_EQ(response.threads(1).active_runs(0).agent_name(), "agent");
  EXPECT_EQ(response.threads(1).active_runs(0).offset(), 1u);
}

TEST_F(ReadTest, PagesThroughThreads) {
  for (int i = 0; i < 5; ++i) {
    MustPublish(Delta("e1", "t-" + std::to_string(i)));
    AwaitNextMillisecond();
  }
  v1::ListThreadsRequest request;
  request.set_user_id(kUser);
  request.set_page_size(2);
  std::vector<std::string> seen;
  do {
    v1::ListThreadsResponse response;
    ASSERT_THAT(Call(&Stub::ListThreads, request, &response), IsOk());
    for (const auto& thread : response.threads()) seen.push_back(thread.thread_id());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(seen, ElementsAre("t-4", "t-3", "t-2", "t-1", "t-0"));
}

TEST_F(ReadTest, ListsEverybodysThreadsToOperators) {
  MustPublish(Delta("e1", "t-1"));
  MustPublish(Delta("e1", "t-2", "eve"));
  v1::ListThreadsResponse response;
  ASSERT_THAT(Call(&Stub::ListThreads, v1::ListThreadsRequest(), &response), IsOk());
  EXPECT_EQ(response.threads_size(), 2);
  v1::ListThreadsRequest request;
  request.set_page_size(1001);
  EXPECT_THAT(Call(&Stub::ListThreads, request), NamesField("page_size"));
  request.clear_page_size();
  request.set_user_id("_clarion");
  EXPECT_THAT(Call(&Stub::ListThreads, request), NamesField("user_id"));
}

TEST_F(ReadTest, SaysWhatBecameOfAnEvent) {
  PublishMany(2);
  v1::GetEventRequest request;
  request.set_thread_id(kThread);
  request.set_event_id("e2");
  v1::GetEventResponse response;
  ASSERT_THAT(Call(&Stub::GetEvent, request, &response), IsOk());
  EXPECT_EQ(response.event().offset(), 2u);
  EXPECT_EQ(response.event().event_id(), "e2");
  EXPECT_EQ(response.epoch(), epoch_);
  EXPECT_GE(response.committed_at().seconds(), response.event().accepted_at().seconds());
  EXPECT_FALSE(response.acknowledged());
  EXPECT_EQ(response.expires_at().seconds(), response.event().accepted_at().seconds() + 24 * 3600);
  request.set_event_id("e3");
  const grpc::Status absent = Call(&Stub::GetEvent, request);
  EXPECT_THAT(absent, RefusedAs(Reason::kNotFound));
  EXPECT_EQ(clarion::ContextOf(FromGrpc(absent)).operation, "GetEvent");
  request.set_thread_id("nowhere");
  EXPECT_THAT(Call(&Stub::GetEvent, request), RefusedAs(Reason::kNotFound));
  EXPECT_THAT(Call(&Stub::GetEvent, v1::GetEventRequest()), NamesField("event_id"));
}

}  // namespace
}  // namespace clarion::front
