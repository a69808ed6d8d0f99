// GetLedger, ListUndelivered, and what ListThreads says of the ledger.
#include <thread>

#include "service/front/front_testing.h"

namespace clarion::front {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class LedgerTest : public FrontTest {
 protected:
  LedgerTest() { options_.thread_max_events = 3; }

  void PublishMany(int count, const std::string& thread = kThread,
                   const std::string& user = kUser) {
    for (int i = 1; i <= count; ++i) {
      epoch_ = MustPublish(Delta("e" + std::to_string(i), thread, user)).epoch();
    }
  }
  v1::GetLedgerResponse MustGetLedger() {
    v1::GetLedgerResponse response;
    EXPECT_THAT(Call(&Stub::GetLedger, v1::GetLedgerRequest(), &response), IsOk());
    return response;
  }
  static v1::ListUndeliveredRequest Of(const std::string& user, const std::string& thread = "") {
    v1::ListUndeliveredRequest request;
    request.set_user_id(user);
    request.set_thread_id(thread);
    return request;
  }
  v1::ListUndeliveredResponse MustList(const v1::ListUndeliveredRequest& request) {
    v1::ListUndeliveredResponse response;
    EXPECT_THAT(Call(&Stub::ListUndelivered, request, &response), IsOk());
    return response;
  }
  // "thread state from-to count", over all pages.
  std::vector<std::string> Texts(v1::ListUndeliveredRequest request) {
    std::vector<std::string> texts;
    do {
      const v1::ListUndeliveredResponse page = MustList(request);
      for (const v1::UndeliveredRange& range : page.ranges()) {
        texts.push_back(
            range.thread_id() +
            (range.state() == v1::UNDELIVERED_STATE_PENDING ? " pending " : " expired ") +
            std::to_string(range.from_offset()) + "-" + std::to_string(range.to_offset()) + " " +
            std::to_string(range.count()));
      }
      request.set_page_token(page.next_page_token());
    } while (!request.page_token().empty());
    return texts;
  }
  std::string epoch_;
};

TEST_F(LedgerTest, TotalsAndThreadsSayWhatBecameOfEveryEvent) {
  PublishMany(5);
  PublishMany(2, "t-2", "eve");
  MustPublish(Delta("e5"));  // a repetition
  for (int round = 0; round < 2; ++round) {
    const v1::GetLedgerResponse ledger = MustGetLedger();
    EXPECT_EQ(ledger.total().accepted(), 7u);
    EXPECT_EQ(ledger.total().acknowledged(), 0u);
    EXPECT_EQ(ledger.total().expired(), 2u);
    EXPECT_EQ(ledger.total().pending(), 5u);
    EXPECT_EQ(ledger.deleted_threads().accepted(), 0u);
    v1::ListThreadsRequest request;
    request.set_user_id(kUser);
    v1::ListThreadsResponse threads;
    ASSERT_THAT(Call(&Stub::ListThreads, request, &threads), IsOk());
    EXPECT_EQ(threads.threads(0).acknowledged_events(), 0u);
    EXPECT_EQ(threads.threads(0).pending_events(), 3u);
    EXPECT_EQ(threads.threads(0).expired_events(), 2u);
    Restart();
  }
}

TEST_F(LedgerTest, AcknowledgedEventsAreNotUndelivered) {
  PublishMany(3);
  const auto gateway = Gateway("g");
  gateway->Connect(kUser, "c");
  gateway->Subscribe("c", kThread);
  gateway->Ack(kThread, epoch_, 2);
  while (MustGetLedger().total().acknowledged() < 2) std::this_thread::yield();
  EXPECT_THAT(Texts(Of(kUser)), ElementsAre("t-1 pending 3-3 1"));
}

TEST_F(LedgerTest, UndeliveredOfAThreadAreItsExpiredRangesThenItsPendingOne) {
  PublishMany(5);
  for (int round = 0; round < 2; ++round) {
    const v1::ListUndeliveredResponse page = MustList(Of("", kThread));
    ASSERT_EQ(page.ranges_size(), 2);
    const v1::UndeliveredRange& expired = page.ranges(0);
    EXPECT_EQ(expired.thread_id(), kThread);
    EXPECT_EQ(expired.user_id(), kUser);
    EXPECT_EQ(expired.epoch(), epoch_);
    EXPECT_EQ(expired.state(), v1::UNDELIVERED_STATE_EXPIRED);
    EXPECT_EQ(expired.reason(), v1::MISSED_REASON_EXPIRED);
    EXPECT_EQ(expired.from_offset(), 1u);
    EXPECT_EQ(expired.to_offset(), 2u);
    EXPECT_EQ(expired.count(), 2u);
    EXPECT_TRUE(expired.has_expired_at());
    EXPECT_FALSE(expired.has_oldest_accepted_at());
    const v1::UndeliveredRange& pending = page.ranges(1);
    EXPECT_EQ(pending.state(), v1::UNDELIVERED_STATE_PENDING);
    EXPECT_EQ(pending.from_offset(), 3u);
    EXPECT_EQ(pending.to_offset(), 5u);
    EXPECT_EQ(pending.epoch(), epoch_);
    EXPECT_FALSE(pending.has_expired_at());
    v1::ListEventsRequest request;
    request.set_thread_id(kThread);
    EXPECT_EQ(pending.oldest_accepted_at().nanos(),
              MustListEvents(request).events(0).accepted_at().nanos());
    Restart();
  }
}

TEST_F(LedgerTest, PagesOfAUserAndOfEverybodyHoldEachThreadOnce) {
  for (const char* thread : {"t-1", "t-2", "t-3"}) PublishMany(1, thread);
  PublishMany(4, "t-4", "eve");
  v1::ListUndeliveredRequest request = Of(kUser);
  request.set_page_size(2);
  EXPECT_THAT(Texts(request),
              ElementsAre("t-1 pending 1-1 1", "t-2 pending 1-1 1", "t-3 pending 1-1 1"));
  request = Of("");
  request.set_page_size(1);
  EXPECT_THAT(Texts(request), testing::UnorderedElementsAre(
                                  "t-1 pending 1-1 1", "t-2 pending 1-1 1", "t-3 pending 1-1 1",
                                  "t-4 expired 1-1 1", "t-4 pending 2-4 3"));
  request.set_state(v1::UNDELIVERED_STATE_EXPIRED);
  EXPECT_THAT(Texts(request), ElementsAre("t-4 expired 1-1 1"));
  request = Of("eve");
  request.set_state(v1::UNDELIVERED_STATE_PENDING);
  EXPECT_THAT(Texts(request), ElementsAre("t-4 pending 2-4 3"));
  EXPECT_THAT(Texts(Of("nobody")), IsEmpty());
}

TEST_F(LedgerTest, UndeliveredOfAThreadThatIsNotThereOrNotTheUsersAreRefused) {
  EXPECT_THAT(Call(&Stub::ListUndelivered, Of("", "t-9")), RefusedAs(Reason::kNotFound));
  PublishMany(1);
  EXPECT_THAT(Call(&Stub::ListUndelivered, Of("eve", kThread)),
              RefusedAs(Reason::kThreadOwnership));
  EXPECT_THAT(Call(&Stub::ListUndelivered, Of(kUser, kThread)), IsOk());
}

TEST_F(LedgerTest, ChecksTheFields) {
  v1::ListUndeliveredRequest request = Of("a b", "c d");
  EXPECT_THAT(Call(&Stub::ListUndelivered, request), NamesField("user_id"));
  EXPECT_THAT(Call(&Stub::ListUndelivered, request), NamesField("thread_id"));
  request = Of("_clarion");
  EXPECT_THAT(Call(&Stub::ListUndelivered, request), NamesField("user_id"));
  request = Of(kUser);
  request.set_page_size(1001);
  EXPECT_THAT(Call(&Stub::ListUndelivered, request), NamesField("page_size"));
  request = Of("");
  request.set_page_token("made-up");
  EXPECT_THAT(Call(&Stub::ListUndelivered, request), NamesField("page_token"));
  request = Of(kUser);
  request.set_page_token("made up");
  EXPECT_THAT(Call(&Stub::ListUndelivered, request), NamesField("page_token"));
  request = Of(kUser, kThread);
  request.set_page_token("t-1");
  EXPECT_THAT(Call(&Stub::ListUndelivered, request), NamesField("page_token"));
  request = Of(kUser);
  request.set_state(static_cast<v1::UndeliveredState>(9));
  EXPECT_THAT(Call(&Stub::ListUndelivered, request), NamesField("state"));
  v1::GetLedgerRequest ledger;
  AddUnknown(&ledger);
  EXPECT_THAT(Call(&Stub::GetLedger, ledger), NamesField("#999"));
}

}  // namespace
}  // namespace clarion::front
