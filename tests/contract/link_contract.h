// What every carrier of the link promises, as one suite: link_memory_test.cc and link_grpc_test.cc
// run it.
//
// A carrier gives a Harness: a service (the fake below) on one end, a Link on the other, and a loop
// that the test turns by hand.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "boost/asio/io_context.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/mutex.h"
#include "proto/contract/error.h"
#include "proto/link/link.h"

namespace clarion::link {

// A service that remembers what it was told. Any thread.
class FakeService : public Service {
 public:
  class Session : public GatewaySession {
   public:
    explicit Session(FakeService* service) : service_(service) {}
    void OnMessages(std::vector<v1::GatewayMessage> messages) override {
      MutexLock lock(service_->mutex_);
      EXPECT_FALSE(detached_) << "a message after OnDetached";
      service_->batches_.push_back(messages.size());
      for (v1::GatewayMessage& message : messages)
        service_->messages_.push_back(std::move(message));
    }
    void OnDetached(const absl::Status& status) override {
      MutexLock lock(service_->mutex_);
      EXPECT_FALSE(detached_) << "OnDetached twice";
      detached_ = true;
      service_->detached_.push_back(status);
    }

   private:
    FakeService* const service_;
    bool detached_ = false;
  };

  std::shared_ptr<GatewaySession> OnAttached(std::shared_ptr<Attachment> attachment) override {
    MutexLock lock(mutex_);
    attachments_.push_back(std::move(attachment));
    return std::make_shared<Session>(this);
  }
  void ReadPage(v1::ReadPageRequest request, PageCallback done) override {
    std::function<void(const v1::ReadPageRequest&, PageCallback)> answer;
    {
      MutexLock lock(mutex_);
      answer = answer_;
    }
    answer(request, std::move(done));
  }
  void Ask(v1::AskRequest request, AskCallback done) override {
    std::function<void(const v1::AskRequest&, AskCallback)> answer;
    {
      MutexLock lock(mutex_);
      answer = answer_question_;
    }
    answer(request, std::move(done));
  }

  std::shared_ptr<Attachment> attachment() {
    MutexLock lock(mutex_);
    return attachments_.empty() ? nullptr : attachments_.back();
  }
  size_t attachments() {
    MutexLock lock(mutex_);
    return attachments_.size();
  }
  std::vector<v1::GatewayMessage> messages() {
    MutexLock lock(mutex_);
    return messages_;
  }
  std::vector<size_t> batches() {
    MutexLock lock(mutex_);
    return batches_;
  }
  std::vector<absl::Status> detached() {
    MutexLock lock(mutex_);
    return detached_;
  }
  void AnswerPages(std::function<void(const v1::ReadPageRequest&, PageCallback)> answer) {
    MutexLock lock(mutex_);
    answer_ = std::move(answer);
  }
  void AnswerQuestions(std::function<void(const v1::AskRequest&, AskCallback)> answer) {
    MutexLock lock(mutex_);
    answer_question_ = std::move(answer);
  }
  // The sessions let go of what they hold.
  void Forget() {
    MutexLock lock(mutex_);
    attachments_.clear();
  }

 private:
  Mutex mutex_;
  std::vector<std::shared_ptr<Attachment>> attachments_;
  std::vector<v1::GatewayMessage> messages_;
  std::vector<size_t> batches_;
  std::vector<absl::Status> detached_;
  std::function<void(const v1::ReadPageRequest&, PageCallback)> answer_;
  std::function<void(const v1::AskRequest&, AskCallback)> answer_question_;
};

class FakeSink : public LinkSink {
 public:
  void OnUp() override {
    EXPECT_FALSE(up) << "OnUp twice";
    up = true;
    ++ups;
    if (on_up) on_up();
  }
  void OnMessages(std::vector<ToGateway> batch) override {
    EXPECT_TRUE(up) << "a message while down";
    EXPECT_FALSE(inside) << "re-entered";
    inside = true;
    ++batches;
    for (ToGateway& message : batch) received.push_back(std::move(message));
    if (on_messages) on_messages();
    inside = false;
  }
  void OnDown(const absl::Status& status) override {
    EXPECT_TRUE(up) << "OnDown without OnUp";
    up = false;
    downs.push_back(status);
    if (on_down) on_down();
  }

  bool up = false;
  bool inside = false;
  int ups = 0;
  int batches = 0;
  std::vector<ToGateway> received;
  std::vector<absl::Status> downs;
  std::function<void()> on_up;
  std::function<void()> on_messages;
  std::function<void()> on_down;
};

struct LinkBounds {
  size_t live_bytes = 4 * 1024 * 1024;
  size_t control_messages = 100'000;
  // How long a displaced gateway stays away, at most, the first time.
  std::chrono::milliseconds displaced_first{1'000};
};

// What a carrier brings.
class LinkHarness {
 public:
  virtual ~LinkHarness() = default;
  virtual std::unique_ptr<Link> MakeLink(boost::asio::io_context& loop) = 0;
};
using MakeHarness = std::unique_ptr<LinkHarness> (*)(FakeService* service,
                                                     const LinkBounds& bounds);

class LinkContractTest : public testing::TestWithParam<MakeHarness> {
 protected:
  void Begin(const LinkBounds& bounds = {}) {
    harness_ = GetParam()(&service_, bounds);
    link_ = harness_->MakeLink(loop_);
    link_->Start(&sink_);
    Until([this] { return sink_.up && service_.attachment() != nullptr; });
  }
  void TearDown() override {
    if (link_ != nullptr) link_->Stop();
    service_.Forget();
    harness_.reset();
  }

  // Turns the loop until it is so. A failure after 20 s: nothing here takes long.
  void Until(const std::function<bool()>& so) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!so() && std::chrono::steady_clock::now() < deadline) {
      loop_.restart();
      loop_.run_for(std::chrono::milliseconds(1));
    }
    ASSERT_TRUE(so());
  }

  static Live LiveOf(uint64_t first, int count, size_t bytes = 10) {
    Live live{.thread = ThreadId("t"), .epoch = Epoch("e"), .first = Offset(first)};
    for (int i = 0; i < count; ++i) {
      live.events.push_back(
          std::make_shared<EncodedEvent>(std::string(bytes, 'j'), std::string(bytes, 'p')));
    }
    return live;
  }
  static v1::ServiceMessage Control(uint64_t number) {
    v1::ServiceMessage message;
    message.mutable_ack_result()->set_ack_id(number);
    return message;
  }
  static v1::GatewayMessage FromGateway(uint64_t number) {
    v1::GatewayMessage message;
    message.mutable_confirmed()->set_subscription_id(number);
    return message;
  }
  static uint64_t NumberOf(const ToGateway& message) {
    if (const auto* live = std::get_if<Live>(&message)) return live->first.value();
    return std::get<v1::ServiceMessage>(message).ack_result().ack_id();
  }

  FakeService service_;
  boost::asio::io_context loop_;
  FakeSink sink_;
  std::unique_ptr<LinkHarness> harness_;
  std::unique_ptr<Link> link_;
};

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
