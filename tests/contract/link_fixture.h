// What the suites of the link are written in. A carrier gives a Harness: a service (the fake below)
// on one end, a Link on the other, and a loop that the test turns by hand.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
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

}  // namespace clarion::link
