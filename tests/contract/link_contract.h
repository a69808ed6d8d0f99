// What every carrier of the link promises, as one suite: link_memory_test.cc and link_grpc_test.cc
// run it.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "proto/base/mutex.h"
#include "tests/contract/link_fixture.h"

namespace clarion::link {

TEST_P(LinkContractTest, CarriesLiveEventsAndControlInTheOrderInWhichTheyWereSent) {
  Begin();
  for (uint64_t i = 1; i <= 300; ++i) {
    if (i % 3 == 0) {
      service_.attachment()->SendControl(Control(i));
    } else {
      EXPECT_TRUE(service_.attachment()->SendLive(LiveOf(i, 1)));
    }
  }
  Until([this] { return sink_.received.size() == 300; });
  for (uint64_t i = 1; i <= 300; ++i) EXPECT_EQ(NumberOf(sink_.received[i - 1]), i);
}

TEST_P(LinkContractTest, CarriesAnEventAsItIsStored) {
  Begin();
  v1::GatewayMessage hello;
  hello.mutable_hello()->set_want_json(true);
  hello.mutable_hello()->set_want_proto(true);
  link_->Send(hello);
  Until([this] { return service_.messages().size() == 1; });

  Live live{.thread = ThreadId("thread"), .epoch = Epoch("epoch"), .first = Offset(7)};
  live.events.push_back(
      std::make_shared<EncodedEvent>(std::string("\"type\":\"x\"}"), std::string("\0\1\2", 3)));
  service_.attachment()->SendLive(live);

  Until([this] { return !sink_.received.empty(); });
  const auto& got = std::get<Live>(sink_.received.front());
  EXPECT_EQ(got.thread, live.thread);
  EXPECT_EQ(got.epoch, live.epoch);
  EXPECT_EQ(got.first, live.first);
  ASSERT_EQ(got.events.size(), 1u);
  EXPECT_EQ(got.events[0]->json(), live.events[0]->json());
  EXPECT_EQ(got.events[0]->proto(), live.events[0]->proto());
}

TEST_P(LinkContractTest, CarriesWhatTheGatewaySaysInOrder) {
  Begin();
  for (uint64_t i = 1; i <= 500; ++i) link_->Send(FromGateway(i));
  Until([this] { return service_.messages().size() == 500; });
  const auto messages = service_.messages();
  for (uint64_t i = 1; i <= 500; ++i) EXPECT_EQ(messages[i - 1].confirmed().subscription_id(), i);
  EXPECT_LT(service_.batches().size(), 10u) << "what one turn of the loop says goes as one batch";
}

TEST_P(LinkContractTest, WakesTheLoopOnceForManyMessages) {
  Begin();
  for (uint64_t i = 1; i <= 1'000; ++i) service_.attachment()->SendControl(Control(i));
  Until([this] { return sink_.received.size() == 1'000; });
  EXPECT_LT(sink_.batches, 200);
}

TEST_P(LinkContractTest, RefusesLiveEventsOverItsBoundAndStillTakesControl) {
  Begin({.live_bytes = 64 * 1024});
  // The loop stands still: what is taken waits.
  int taken = 0;
  while (taken < 100'000 && service_.attachment()->SendLive(LiveOf(taken + 1, 1, 4'000))) ++taken;
  ASSERT_LT(taken, 100'000);
  service_.attachment()->SendControl(Control(99));

  Until([&] { return static_cast<int>(sink_.received.size()) == taken + 1; });
  for (int i = 0; i < taken; ++i)
    EXPECT_EQ(NumberOf(sink_.received[i]), static_cast<uint64_t>(i + 1));
  EXPECT_EQ(NumberOf(sink_.received.back()), 99u);
  EXPECT_TRUE(service_.attachment()->SendLive(LiveOf(taken + 1, 1, 4'000)))
      << "there is room again";
}

TEST_P(LinkContractTest, TakesAnEventLargerThanTheBoundWhileNothingWaits) {
  Begin({.live_bytes = 1'000});
  EXPECT_TRUE(service_.attachment()->SendLive(LiveOf(1, 1, 100'000)));
  Until([this] { return sink_.received.size() == 1; });
}

TEST_P(LinkContractTest, AttachesAgainAfterTheServiceClosed) {
  Begin();
  service_.attachment()->Close(absl::UnavailableError("enough"));
  Until([this] { return sink_.ups == 2 && service_.attachments() == 2; });
  EXPECT_EQ(sink_.downs.size(), 1u);
  Until([this] { return service_.detached().size() == 1; });

  service_.attachment()->SendControl(Control(5));
  link_->Send(FromGateway(6));
  Until([this] { return sink_.received.size() == 1 && service_.messages().size() == 1; });
}

TEST_P(LinkContractTest, ADisplacedGatewayStaysAwayWhileOneWhoseStreamBrokeComesBackAtOnce) {
  Begin({.displaced_first = std::chrono::hours(1)});
  service_.attachment()->Close(MakeError(Reason::kGatewayDisplaced, "by another"));
  Until([this] { return sink_.downs.size() == 1; });
  EXPECT_EQ(ReasonOf(sink_.downs[0]), Reason::kGatewayDisplaced);
  FakeSink other_sink;
  const std::unique_ptr<Link> other = harness_->MakeLink(loop_);
  other->Start(&other_sink);
  for (int attached = 1; attached <= 5; ++attached) {
    Until([&] { return other_sink.ups == attached && service_.attachment() != nullptr; });
    service_.attachment()->Close(absl::UnavailableError("broken"));
    service_.Forget();
  }
  EXPECT_EQ(sink_.ups, 1);
  other->Stop();
}

TEST_P(LinkContractTest, ForgetsWhatIsSaidWhileItIsDown) {
  Begin();
  sink_.on_down = [this] { link_->Send(FromGateway(1)); };
  service_.attachment()->Close(absl::UnavailableError("enough"));
  sink_.on_up = [this] { link_->Send(FromGateway(2)); };
  Until([this] { return !service_.messages().empty(); });
  EXPECT_EQ(service_.messages()[0].confirmed().subscription_id(), 2u);
}

TEST_P(LinkContractTest, ASendThroughAClosedAttachmentDoesNothing) {
  Begin();
  const std::shared_ptr<Attachment> old = service_.attachment();
  old->Close(absl::UnavailableError("enough"));
  Until([this] { return sink_.ups == 2; });
  old->SendControl(Control(1));
  old->SendLive(LiveOf(2, 1));
  old->Close(absl::UnavailableError("again"));
  service_.attachment()->SendControl(Control(3));
  Until([this] { return !sink_.received.empty(); });
  EXPECT_EQ(NumberOf(sink_.received.front()), 3u);
  EXPECT_EQ(service_.detached().size(), 1u);
}

TEST_P(LinkContractTest, AnswersAPage) {
  Begin();
  service_.AnswerPages([](const v1::ReadPageRequest& request, PageCallback done) {
    Page page;
    page.missed.emplace_back().set_to_offset(request.after().offset());
    page.runs.push_back(LiveOf(5, 2));
    page.last = {Epoch("e"), Offset(6)};
    done(std::move(page));
  });
  v1::ReadPageRequest request;
  request.set_thread_id("t");
  request.mutable_after()->set_offset(4);
  request.set_want_json(true);
  absl::StatusOr<Page> got = absl::UnknownError("");
  bool inside = true;
  link_->ReadPage(request, [&](absl::StatusOr<Page> page) {
    EXPECT_FALSE(inside) << "answered inside the call";
    got = std::move(page);
  });
  inside = false;
  Until([&] { return got.ok(); });
  ASSERT_EQ(got->missed.size(), 1u);
  EXPECT_EQ(got->missed[0].to_offset(), 4u);
  ASSERT_EQ(got->runs.size(), 1u);
  EXPECT_EQ(got->runs[0].first, Offset(5));
  EXPECT_EQ(got->runs[0].events.size(), 2u);
  EXPECT_EQ(got->runs[0].events[0]->json(), std::string(10, 'j'));
  EXPECT_EQ(got->last, (Position{Epoch("e"), Offset(6)}));
}

TEST_P(LinkContractTest, APageSaysHowManyOffsetsEachOfItsEventsCovers) {
  Begin();
  bool compact = false;
  service_.AnswerPages([&](const v1::ReadPageRequest& request, PageCallback done) {
    compact = request.compact();
    Page page;
    page.runs.push_back(LiveOf(5, 2));
    Live& run = page.runs.back();
    run.events[1] = std::make_shared<EncodedEvent>("merged", "", 7);
    run.merged = 6;
    page.last = {Epoch("e"), run.last()};
    done(std::move(page));
  });
  v1::ReadPageRequest request;
  request.set_thread_id("t");
  request.set_want_json(true);
  request.set_compact(true);
  absl::StatusOr<Page> got = absl::UnknownError("");
  link_->ReadPage(request, [&](absl::StatusOr<Page> page) { got = std::move(page); });
  Until([&] { return got.ok(); });
  EXPECT_TRUE(compact);
  ASSERT_EQ(got->runs.size(), 1u);
  EXPECT_EQ(got->runs[0].events[0]->offsets(), 1u);
  EXPECT_EQ(got->runs[0].events[1]->offsets(), 7u);
  EXPECT_EQ(got->runs[0].events[1]->json(), "merged");
  EXPECT_EQ(got->runs[0].last(), Offset(12));
}

TEST_P(LinkContractTest, AnswersAPageThatFailsWithItsReason) {
  Begin();
  service_.AnswerPages([](const v1::ReadPageRequest&, PageCallback done) {
    done(MakeError(Reason::kLogUnavailable, "the disk is full"));
  });
  absl::Status got;
  link_->ReadPage({}, [&](absl::StatusOr<Page> page) { got = page.status(); });
  Until([&] { return !got.ok(); });
  EXPECT_EQ(ReasonOf(got), Reason::kLogUnavailable);
}

TEST_P(LinkContractTest, AnswersAPageWithUnavailableWhileItIsDown) {
  Begin();
  absl::Status got;
  sink_.on_down = [&] {
    link_->ReadPage({}, [&](absl::StatusOr<Page> page) { got = page.status(); });
  };
  service_.attachment()->Close(absl::UnavailableError("enough"));
  Until([&] { return !got.ok(); });
  EXPECT_EQ(got.code(), absl::StatusCode::kUnavailable);
}

TEST_P(LinkContractTest, AnswersAQuestion) {
  Begin();
  service_.AnswerQuestions([](const v1::AskRequest& request, AskCallback done) {
    v1::AskResponse response;
    response.mutable_list_threads()->set_next_page_token(request.list_threads().user_id());
    done(std::move(response));
  });
  v1::AskRequest request;
  request.mutable_list_threads()->set_user_id("u");
  absl::StatusOr<v1::AskResponse> got = absl::UnknownError("");
  bool inside = true;
  link_->Ask(request, [&](absl::StatusOr<v1::AskResponse> response) {
    EXPECT_FALSE(inside) << "answered inside the call";
    got = std::move(response);
  });
  inside = false;
  Until([&] { return got.ok(); });
  EXPECT_EQ(got->list_threads().next_page_token(), "u");
}

TEST_P(LinkContractTest, AnswersEachOfManyQuestionsAndPagesWithItsOwn) {
  Begin();
  std::vector<AskCallback> waiting;
  service_.AnswerPages([](const v1::ReadPageRequest& request, PageCallback done) {
    done(Page{.last = {Epoch("e"), Offset(request.max_events())}});
  });
  Mutex mutex;
  service_.AnswerQuestions([&](const v1::AskRequest& request, AskCallback done) {
    MutexLock lock(mutex);
    waiting.push_back([sequence = request.pass_frames().sequence(), done = std::move(done)](auto) {
      v1::AskResponse response;
      response.mutable_pass_frames()->set_next_sequence(sequence);
      done(std::move(response));
    });
  });
  constexpr uint64_t kQuestions = 50;
  uint64_t answered = 0;
  for (uint64_t i = 1; i <= kQuestions; ++i) {
    v1::AskRequest question;
    question.mutable_pass_frames()->set_sequence(i);
    link_->Ask(question, [&answered, i](absl::StatusOr<v1::AskResponse> response) {
      EXPECT_EQ(response->pass_frames().next_sequence(), i);
      ++answered;
    });
    v1::ReadPageRequest page;
    page.set_max_events(static_cast<uint32_t>(i));
    link_->ReadPage(page, [&answered, i](absl::StatusOr<Page> got) {
      EXPECT_EQ(got->last.offset, Offset(i));
      ++answered;
    });
  }
  Until([&] {
    MutexLock lock(mutex);
    return waiting.size() == kQuestions && answered == kQuestions;
  });
  for (auto answer = waiting.rbegin(); answer != waiting.rend(); ++answer) {
    (*answer)(absl::UnknownError(""));
  }
  Until([&] { return answered == 2 * kQuestions; });
}

TEST_P(LinkContractTest, AnswersAQuestionThatFailsWithItsReasonAndDetails) {
  Begin();
  service_.AnswerQuestions([](const v1::AskRequest&, AskCallback done) {
    done(WithRetryAfter(MakeError(Reason::kRateLimited, "too many", {.user_id = "u"}),
                        std::chrono::seconds(3)));
  });
  absl::Status got;
  link_->Ask({}, [&](absl::StatusOr<v1::AskResponse> response) { got = response.status(); });
  Until([&] { return !got.ok(); });
  EXPECT_EQ(ReasonOf(got), Reason::kRateLimited);
  EXPECT_EQ(ContextOf(got).user_id, "u");
  EXPECT_EQ(RetryAfterOf(got), std::chrono::seconds(3));
}

TEST_P(LinkContractTest, AnswersAQuestionWithUnavailableWhileItIsDown) {
  Begin();
  absl::Status got;
  sink_.on_down = [&] {
    link_->Ask({}, [&](absl::StatusOr<v1::AskResponse> response) { got = response.status(); });
    EXPECT_TRUE(got.ok()) << "answered inside the call";
  };
  service_.attachment()->Close(absl::UnavailableError("enough"));
  Until([&] { return !got.ok(); });
  EXPECT_EQ(ReasonOf(got), Reason::kGatewayUnavailable);
}

TEST_P(LinkContractTest, CallsNobodyAfterStop) {
  Begin();
  PageCallback page;
  AskCallback answer;
  Mutex mutex;
  service_.AnswerPages([&](const v1::ReadPageRequest&, PageCallback done) {
    MutexLock lock(mutex);
    page = std::move(done);
  });
  service_.AnswerQuestions([&](const v1::AskRequest&, AskCallback done) {
    MutexLock lock(mutex);
    answer = std::move(done);
  });
  bool answered = false;
  link_->ReadPage({}, [&](absl::StatusOr<Page>) { answered = true; });
  link_->Ask({}, [&](absl::StatusOr<v1::AskResponse>) { answered = true; });
  Until([&] {
    MutexLock lock(mutex);
    return page != nullptr && answer != nullptr;
  });
  service_.attachment()->SendControl(Control(1));

  link_->Stop();
  page(Page{});
  answer(v1::AskResponse());
  service_.attachment()->SendControl(Control(2));
  Until([this] { return service_.detached().size() == 1; });

  EXPECT_TRUE(sink_.received.empty());
  EXPECT_TRUE(sink_.downs.empty());
  EXPECT_FALSE(answered);
}

TEST_P(LinkContractTest, CallsNobodyAfterStopInsideAnAnswer) {
  Begin();
  Mutex mutex;
  std::vector<AskCallback> waiting;
  service_.AnswerQuestions([&](const v1::AskRequest&, AskCallback done) {
    MutexLock lock(mutex);
    waiting.push_back(std::move(done));
  });
  int answered = 0;
  for (int i = 0; i < 2; ++i) {
    link_->Ask({}, [&](const absl::StatusOr<v1::AskResponse>&) {
      ++answered;
      link_->Stop();
    });
  }
  Until([&] {
    MutexLock lock(mutex);
    return waiting.size() == 2;
  });
  for (const AskCallback& answer : waiting) answer(v1::AskResponse());
  Until([&] { return service_.detached().size() == 1; });
  EXPECT_EQ(answered, 1);
}

TEST_P(LinkContractTest, StopsInsideAnyCallOfItsSink) {
  for (auto call : {&FakeSink::on_up, &FakeSink::on_messages, &FakeSink::on_down}) {
    sink_ = {};
    bool stopped = false;
    sink_.*call = [&] {
      link_->Stop();
      stopped = true;
    };
    link_ = nullptr;
    harness_ = GetParam()(&service_, {});
    link_ = harness_->MakeLink(loop_);
    link_->Start(&sink_);
    Until([&] { return stopped || (sink_.up && service_.attachment() != nullptr); });
    if (!stopped) service_.attachment()->SendControl(Control(1));
    Until([&] { return stopped || !sink_.received.empty(); });
    if (!stopped) service_.attachment()->Close(absl::UnavailableError("enough"));
    Until([&] { return stopped; });
    service_.Forget();
  }
}

// Everything at once, from several threads, over attachments that come and go.
TEST_P(LinkContractTest, KeepsOrderUnderThreadsThatSendAndClose) {
  Begin({.live_bytes = 32 * 1024});
  constexpr uint64_t kMessages = 2'000;
  const std::shared_ptr<Attachment> attachment = service_.attachment();
  std::thread control([&] {
    for (uint64_t i = 1; i <= kMessages; ++i) attachment->SendControl(Control(i));
  });
  std::thread live([&] {
    for (uint64_t i = 1; i <= kMessages; ++i) {
      while (!attachment->SendLive(LiveOf(i, 1))) std::this_thread::yield();
    }
  });
  Until([&] {
    link_->Send(FromGateway(1));
    return sink_.received.size() == 2 * kMessages;
  });
  control.join();
  live.join();
  uint64_t next_control = 1;
  uint64_t next_live = 1;
  for (const ToGateway& message : sink_.received) {
    uint64_t& next = std::holds_alternative<Live>(message) ? next_live : next_control;
    EXPECT_EQ(NumberOf(message), next++);
  }
}

}  // namespace clarion::link
