// Pages for a user: their own threads only, after, before, and of the last runs.
#include "service/delivery/delivery_fixture.h"

namespace clarion::delivery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class UserPagesTest : public DeliveryTest {
 protected:
  static v1::ReadPageRequest Of(const std::string& user, const std::string& thread = "t") {
    v1::ReadPageRequest request;
    request.set_thread_id(thread);
    request.set_user_id(user);
    return request;
  }
  static v1::ReadPageRequest Before(uint64_t offset) {
    v1::ReadPageRequest request = Of("ann");
    request.set_before_offset(offset);
    return request;
  }
  static v1::ReadPageRequest LastRuns(uint32_t runs) {
    v1::ReadPageRequest request = Of("ann");
    request.set_last_runs(runs);
    return request;
  }
  absl::StatusOr<link::Page> Read(const v1::ReadPageRequest& request) {
    absl::StatusOr<link::Page> page = absl::UnknownError("no answer");
    delivery().ReadPage(request, [&](absl::StatusOr<link::Page> got) { page = std::move(got); });
    log_.RunAll();
    return page;
  }
  // `missed 1..2`, `live t e1:3 three`.
  std::vector<std::string> Texts(const v1::ReadPageRequest& request) {
    const absl::StatusOr<link::Page> page = Read(request);
    EXPECT_TRUE(page.ok()) << page.status();
    std::vector<std::string> texts;
    if (!page.ok()) return texts;
    for (const v1::Missed& missed : page->missed) texts.push_back("missed " + Describe(missed));
    for (const link::Live& run : page->runs) texts.push_back(Describe(link::ToGateway(run)));
    return texts;
  }
  void RaiseFloor(uint64_t floor) {
    log_.RaiseFloor(ThreadId("t"), Offset(floor), log::FloorReason::kExpired, [](const auto&) {});
    log_.RunAll();
  }
  void StartRun(const std::string& id) {
    log_.AppendText(ThreadId("t"), UserId("ann"), "start-" + id, log::RunStep::kStart, RunId(id));
    log_.RunAll();
  }
};

// ---- Whose ----

TEST_F(UserPagesTest, TheOwnerGetsWhatIsNewerThanAPositionInTheNumberingOfNow) {
  Append("t", "ann", {"one", "two", "three"});
  v1::ReadPageRequest request = Of("ann");
  EXPECT_THAT(Texts(request), ElementsAre("live t e1:1 one two three"));
  *request.mutable_after() = PositionOf("e1", 1);
  EXPECT_THAT(Texts(request), ElementsAre("live t e1:2 two three"));
  *request.mutable_after() = PositionOf("", 2);
  EXPECT_THAT(Texts(request), ElementsAre("live t e1:3 three"));
}

TEST_F(UserPagesTest, APositionOfAnOlderEpochIsJudgedByIt) {
  Append("t", "ann", {"one", "two", "three"});
  log_.LoseTail(ThreadId("t"), Offset(1));
  Append("t", "ann", {"2nd", "3rd"});
  v1::ReadPageRequest request = Of("ann");
  *request.mutable_after() = PositionOf("e1", 3);
  EXPECT_THAT(Texts(request), ElementsAre("missed 2..3 keep 1", "live t e2:2 2nd 3rd"));
  *request.mutable_after() = PositionOf("", 2);
  EXPECT_THAT(Texts(request), ElementsAre("live t e2:3 3rd"));
}

TEST_F(UserPagesTest, NobodysSomebodyElsesDeletedAndUnknownThreadsAreNotFoundAlike) {
  Append("bobs", "bob", {"secret"});
  Append("anns", "ann", {"x"});
  log_.Delete(ThreadId("anns"), UserId("ann"), [](const auto&) {});
  Append("followed", "bob", {"secret"});
  auto gateway = AttachSubscribed("bob", "followed");
  gateway->Subscribe("c", 2, "claimed");
  log_.RunAll();
  for (const std::string thread : {"unknown", "bobs", "anns", "followed", "claimed"}) {
    for (int kind = 0; kind < 3; ++kind) {
      v1::ReadPageRequest request = Of("ann", thread);
      if (kind == 1) request.set_before_offset(5);
      if (kind == 2) request.set_last_runs(1);
      const absl::Status status = Read(request).status();
      EXPECT_EQ(ReasonOf(status), Reason::kNotFound) << thread;
      EXPECT_EQ(status.message(), "there is no such thread");
      const ErrorContext context = ContextOf(status);
      EXPECT_EQ(context.user_id, "ann");
      EXPECT_EQ(context.thread_id, thread);
      EXPECT_EQ(context.operation, "ReadPage");
      EXPECT_EQ(context.cause, "");
    }
  }
}

// Whatever is known of the thread here, the log is asked, once.
TEST_F(UserPagesTest, ThatSomebodyElseFollowsTheThreadCannotBeToldByTheTimeItTakes) {
  Append("followed", "bob", {"secret"});
  auto gateway = AttachSubscribed("bob", "followed");
  for (const std::string thread : {"followed", "unknown"}) {
    int answers = 0;
    delivery().ReadPage(Of("ann", thread), [&](const absl::StatusOr<link::Page>&) { ++answers; });
    EXPECT_EQ(answers, 0);
    log_.RunReaders(ThreadId(thread));
    EXPECT_EQ(answers, 1);
  }
}

TEST_F(UserPagesTest, AThreadDeletedWhileItsPageIsReadIsNotFound) {
  Append("t", "ann", {"one"});
  absl::Status status;
  for (const bool before : {false, true}) {
    delivery().ReadPage(before ? Before(9) : Of("ann"),
                        [&](absl::StatusOr<link::Page> got) { status = got.status(); });
    log_.Delete(ThreadId("t"), UserId("ann"), [](const auto&) {});
    log_.RunAll();
    EXPECT_EQ(ReasonOf(status), Reason::kNotFound);
  }
}

TEST_F(UserPagesTest, RefusesWhatMakesNoSense) {
  const auto fields = [&](const v1::ReadPageRequest& request) {
    const absl::Status status = Read(request).status();
    EXPECT_EQ(ReasonOf(status), Reason::kContextInvalid);
    std::vector<std::string> names;
    for (const FieldViolation& violation : ViolationsOf(status)) names.push_back(violation.field);
    return names;
  };
  EXPECT_THAT(fields(Of("_clarion")), ElementsAre("user_id"));
  EXPECT_THAT(fields(Of("a b")), ElementsAre("user_id"));
  EXPECT_THAT(fields(Of("ann", "")), ElementsAre("thread_id"));
  v1::ReadPageRequest request = Before(3);
  request.set_last_runs(2);
  EXPECT_THAT(fields(request), ElementsAre("last_runs"));
  request.clear_user_id();
  EXPECT_THAT(fields(request), ElementsAre("before_offset", "last_runs", "last_runs"));
  EXPECT_THAT(fields(LastRuns(101)), ElementsAre("last_runs"));
}

// ---- Before ----

TEST_F(UserPagesTest, BeforeAnOffsetAreTheNewestThatAreOlderAscending) {
  Append("t", "ann", {"one", "two", "three", "four", "five"});
  v1::ReadPageRequest request = Before(5);
  EXPECT_THAT(Texts(request), ElementsAre("live t e1:1 one two three four"));
  request.set_max_events(2);
  EXPECT_THAT(Texts(request), ElementsAre("live t e1:3 three four"));
  request.set_compact(true);
  EXPECT_THAT(Texts(request), ElementsAre("live t e1:3 three four"));
  request.set_max_bytes(9);
  EXPECT_THAT(Texts(request), ElementsAre("live t e1:3 three four"));
  request.set_max_bytes(8);
  EXPECT_THAT(Texts(request), ElementsAre("live t e1:4 four"));
  request.set_max_bytes(1);
  EXPECT_THAT(Texts(request), ElementsAre("live t e1:4 four")) << "one travels at least";
}

TEST_F(UserPagesTest, BeforeTheFirstThereIsNothingAndBeyondTheEndIsTheNewestPage) {
  Append("t", "ann", {"one", "two"});
  EXPECT_THAT(Texts(Before(1)), IsEmpty());
  EXPECT_THAT(Texts(Before(UINT64_MAX)), ElementsAre("live t e1:1 one two"));
  GiveTo("empty", "ann");
  v1::ReadPageRequest request = Of("ann", "empty");
  request.set_before_offset(7);
  EXPECT_THAT(Texts(request), IsEmpty());
}

TEST_F(UserPagesTest, BeforeAnOffsetThatIsBehindTheFloorOnlyWhatIsMissedIsSaid) {
  Append("t", "ann", {"one", "two", "three", "four"});
  RaiseFloor(3);
  EXPECT_THAT(Texts(Before(9)), ElementsAre("missed 1..2", "live t e1:3 three four"));
  EXPECT_THAT(Texts(Before(4)), ElementsAre("missed 1..2", "live t e1:3 three"));
  EXPECT_THAT(Texts(Before(3)), ElementsAre("missed 1..2"));
  EXPECT_THAT(Texts(Before(2)), ElementsAre("missed 1..1"));
  v1::ReadPageRequest one = Before(9);
  one.set_max_events(1);
  EXPECT_THAT(Texts(one), ElementsAre("live t e1:4 four")) << "there is more before the floor";
}

TEST_F(UserPagesTest, BeforeAnOffsetThatTheFloorPassesMeanwhileOnlyWhatIsMissedIsSaid) {
  Append("t", "ann", {"one", "two", "three", "four"});
  absl::StatusOr<link::Page> page;
  delivery().ReadPage(Before(3), [&](absl::StatusOr<link::Page> got) { page = std::move(got); });
  RaiseFloor(4);
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(page->runs, IsEmpty());
  ASSERT_THAT(page->missed, SizeIs(1));
  EXPECT_EQ(Describe(page->missed[0]), "1..2");
}

TEST_F(UserPagesTest, BeforeAnOffsetOverSeveralEpochsAndManyReads) {
  for (int i = 1; i <= 300; ++i) {
    if (i % 90 == 0) log_.NewEpoch(ThreadId("t"));
    Append("t", "ann", {absl::StrCat("event", 1000 + i)});
  }
  v1::ReadPageRequest request = Before(281);
  request.set_max_events(200);
  request.set_max_bytes(1'000'000);
  absl::StatusOr<link::Page> page = Read(request);
  ASSERT_TRUE(page.ok());
  ASSERT_THAT(page->runs, SizeIs(4));
  EXPECT_EQ(page->runs.front().first, Offset(81));
  EXPECT_EQ(page->runs.back().last(), Offset(280));
  EXPECT_EQ(page->runs.back().epoch, Epoch("e4"));
  EXPECT_EQ(page->last, (Position{Epoch("e4"), Offset(300)}));
  uint64_t offset = 81;
  for (const link::Live& run : page->runs) {
    EXPECT_EQ(run.first, Offset(offset));
    for (const EventPtr& event : run.events) {
      EXPECT_EQ(event->json(), absl::StrCat("event", 1000 + offset++));
    }
  }
  request.set_max_bytes(95);  // ten of them
  page = Read(request);
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->runs.front().first, Offset(271));
}

// Wherever in between the floor passes it: into what is being read, and beyond it. What is older is
// larger, so that it takes more reads than were reckoned with.
TEST_F(UserPagesTest, BeforeAnOffsetEachEventHasItsOwnOffsetThoughTheFloorRisesBetweenReads) {
  const auto text = [](uint64_t i) {
    return absl::StrCat("event", 1000 + i, std::string(i <= 216 ? 200 : 0, '.'));
  };
  for (const uint64_t floor : {200, 216, 250}) {
    size_t after_the_floor = 0;
    for (int steps = 0; steps < 40; ++steps) {
      const std::string thread = absl::StrCat("t", floor, "-", steps);
      for (uint64_t i = 1; i <= 300; ++i) Append(thread, "ann", {text(i)});
      v1::ReadPageRequest request = Before(281);
      request.set_thread_id(thread);
      request.set_max_events(250);
      request.set_max_bytes(500);
      absl::StatusOr<link::Page> page;
      delivery().ReadPage(request, [&](absl::StatusOr<link::Page> got) { page = std::move(got); });
      for (int i = 0; i < steps; ++i) log_.Step();
      log_.RaiseFloor(ThreadId(thread), Offset(floor), log::FloorReason::kExpired,
                      [](const auto&) {});
      log_.RunAll();
      ASSERT_TRUE(page.ok());
      ASSERT_FALSE(page->runs.empty());
      for (const link::Live& run : page->runs) {
        uint64_t offset = run.first.value();
        for (const EventPtr& event : run.events) ASSERT_EQ(event->json(), text(offset++)) << steps;
      }
      EXPECT_EQ(page->runs.back().last(), Offset(280));
      after_the_floor += page->runs.front().first >= Offset(200);
    }
    EXPECT_GT(after_the_floor, 0u);
  }
}

TEST_F(UserPagesTest, BeforeAnOffsetInAnEpochThatEndsMeanwhileIsReadAgain) {
  Append("t", "ann", {"one", "two", "three"});
  absl::StatusOr<link::Page> page;
  delivery().ReadPage(Before(9), [&](absl::StatusOr<link::Page> got) { page = std::move(got); });
  log_.LoseTail(ThreadId("t"), Offset(1));
  log_.AppendText(ThreadId("t"), UserId("ann"), "2nd");
  log_.RunAll();
  ASSERT_TRUE(page.ok());
  ASSERT_THAT(page->runs, SizeIs(2));
  EXPECT_EQ(Describe(link::ToGateway(page->runs[1])), "live t e2:2 2nd");
}

TEST_F(UserPagesTest, APageBeforeAnOffsetThatCannotBeReadFails) {
  Append("t", "ann", {"one"});
  log_.FailRead(MakeError(Reason::kLogUnavailable, "a block is damaged"));
  EXPECT_EQ(ReasonOf(Read(Before(9)).status()), Reason::kLogUnavailable);
}

// ---- Of the last runs ----

TEST_F(UserPagesTest, FromTheStartOfTheLastRuns) {
  Append("t", "ann", {"one"});
  StartRun("r1");
  Append("t", "ann", {"three"});
  StartRun("r2");
  Append("t", "ann", {"five"});
  EXPECT_THAT(Texts(LastRuns(1)), ElementsAre("live t e1:4 start-r2 five"));
  EXPECT_THAT(Texts(LastRuns(2)), ElementsAre("live t e1:2 start-r1 three start-r2 five"));
  EXPECT_THAT(Texts(LastRuns(3)), ElementsAre("live t e1:1 one start-r1 three start-r2 five"));
}

TEST_F(UserPagesTest, OfTheLastRunsFromTheFloorWithWhatItTook) {
  Append("t", "ann", {"one"});
  StartRun("r1");
  Append("t", "ann", {"three", "four"});
  RaiseFloor(4);
  EXPECT_THAT(Texts(LastRuns(1)), ElementsAre("missed 2..3", "live t e1:4 four"));
  EXPECT_THAT(Texts(LastRuns(2)), ElementsAre("missed 1..3", "live t e1:4 four"));
}

TEST_F(UserPagesTest, OfTheLastRunsOfAThreadWithoutAnyIsAllThereIs) {
  Append("t", "ann", {"one", "two"});
  EXPECT_THAT(Texts(LastRuns(5)), ElementsAre("live t e1:1 one two"));
}

TEST_F(UserPagesTest, OfTheLastRunsHoldsNoMoreThanAPageDoes) {
  StartRun("r1");
  Append("t", "ann", {"two", "three"});
  v1::ReadPageRequest request = LastRuns(1);
  request.set_max_events(2);
  EXPECT_THAT(Texts(request), ElementsAre("live t e1:1 start-r1 two"));
}

}  // namespace
}  // namespace clarion::delivery
