#include "tests/e2e/support/producer.h"

#include <chrono>
#include <deque>

#include "gtest/gtest.h"

namespace clarion::testing {

v1::Event Thinking(const std::string& user, const std::string& thread, const std::string& event_id,
                   const std::string& text) {
  v1::Event event;
  event.set_event_id(event_id);
  event.set_user_id(user);
  event.set_thread_id(thread);
  event.set_run_id("run");
  event.set_agent_name("e2e");
  event.mutable_agent_thinking()->set_message_id("m");
  event.mutable_agent_thinking()->set_delta(text);
  return event;
}

v1::Event Completed(const std::string& user, const std::string& thread,
                    const std::string& event_id) {
  v1::Event event = Thinking(user, thread, event_id);
  event.mutable_agent_completed()->set_outcome(v1::RUN_OUTCOME_SUCCESS);
  return event;
}

void AnswerRecord::Accepted(const std::string& thread, const std::string& event_id,
                            uint64_t offset) {
  std::lock_guard lock(mutex_);
  const auto [id, fresh_id] = by_id_.emplace(thread + "/" + event_id, offset);
  const auto [slot, fresh_slot] = by_offset_[thread].emplace(offset, event_id);
  if (fresh_id) ++count_;
  grew_.notify_all();
  if (!fault_.empty()) return;
  if (id->second != offset) {
    fault_ = event_id + " was accepted at " + std::to_string(id->second) + " and at " +
             std::to_string(offset);
  } else if (slot->second != event_id) {
    fault_ = "offset " + std::to_string(offset) + " of " + thread + " means " + slot->second +
             " and " + event_id;
  }
}

std::map<uint64_t, std::string> AnswerRecord::Of(const std::string& thread) const {
  std::lock_guard lock(mutex_);
  const auto found = by_offset_.find(thread);
  return found == by_offset_.end() ? std::map<uint64_t, std::string>() : found->second;
}

size_t AnswerRecord::count() const {
  std::lock_guard lock(mutex_);
  return count_;
}

bool AnswerRecord::WaitForCount(size_t count, std::chrono::seconds limit) const {
  std::unique_lock lock(mutex_);
  return grew_.wait_for(lock, limit, [&] { return count_ >= count; });
}

std::string AnswerRecord::fault() const {
  std::lock_guard lock(mutex_);
  return fault_;
}

BulkPublisher::BulkPublisher(const Deployment& deployment)
    : stub_(deployment.Stub()), stream_(stub_->PublishStream(&context_)) {}

BulkPublisher::~BulkPublisher() {
  stream_->WritesDone();
  stream_->Finish();
}

void BulkPublisher::Publish(const std::vector<v1::Event>& events) {
  constexpr size_t kBatch = 500;
  constexpr size_t kInFlight = 4 * kBatch;
  size_t sent = 0;
  for (size_t answered = 0; answered < events.size();) {
    while (sent < events.size() && sent - answered < kInFlight) {
      v1::PublishStreamRequest request;
      for (size_t i = 0; i < kBatch && sent < events.size(); ++i) {
        *request.add_events()->mutable_event() = events[sent++];
      }
      ASSERT_TRUE(stream_->Write(request));
    }
    v1::PublishStreamResponse response;
    ASSERT_TRUE(stream_->Read(&response));
    for (const v1::PublishResult& result : response.results()) {
      ASSERT_TRUE(result.has_accepted()) << result.refused().message();
      ++answered;
    }
  }
}

Producer::Producer(const Deployment& deployment, AnswerRecord* record, Style style,
                   std::string name, std::string user, std::vector<std::string> threads,
                   int per_second)
    : record_(record),
      stub_(deployment.Stub()),
      name_(std::move(name)),
      user_(std::move(user)),
      threads_(std::move(threads)),
      per_second_(per_second) {
  thread_ =
      std::thread([this, style] { style == Style::kOneByOne ? RunOneByOne() : RunPipelined(); });
}

Producer::~Producer() {
  Stop();
}

void Producer::Stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

// What was held up is made up for.
void Producer::KeepPace() {
  if (per_second_ == 0) return;
  std::this_thread::sleep_until(
      began_ + std::chrono::duration_cast<std::chrono::nanoseconds>(
                   std::chrono::duration<double>(static_cast<double>(made_) / per_second_)));
}

v1::Event Producer::Next() {
  KeepPace();
  const std::string& thread = threads_[made_ % threads_.size()];
  v1::Event event = Thinking(user_, thread, name_ + "-" + std::to_string(made_));
  // Every hundredth is critical: those wait for the disk.
  if (made_ % 100 == 99) {
    event.mutable_resource_cleanup()->mutable_failure()->set_user_message("cleaned up");
    event.mutable_resource_cleanup()->set_status("complete");
    event.mutable_resource_cleanup()->add_resources("memory");
  }
  ++made_;
  return event;
}

void Producer::RunOneByOne() {
  while (!stop_) {
    v1::PublishRequest request;
    *request.mutable_event() = Next();
    for (;;) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
      // A try begins when the service is there, and not before: no pause between tries is needed.
      context.set_wait_for_ready(true);
      v1::PublishResponse response;
      const grpc::Status status = stub_->Publish(&context, request, &response);
      if (status.ok()) {
        record_->Accepted(request.event().thread_id(), request.event().event_id(),
                          response.offset());
        break;
      }
      // CANCELLED: the server stopped before it looked at the call.
      if (status.error_code() != grpc::StatusCode::UNAVAILABLE &&
          status.error_code() != grpc::StatusCode::CANCELLED &&
          status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED) {
        ADD_FAILURE() << "publish was refused: " << status.error_code() << " "
                      << status.error_message();
        return;
      }
    }
  }
}

void Producer::RunPipelined() {
  constexpr size_t kInFlight = 256;
  constexpr size_t kBatch = 16;
  std::deque<v1::Event> unanswered;
  while (!stop_ || !unanswered.empty()) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    auto stream = stub_->PublishStream(&context);
    // Everything that was not answered goes first, in its old order.
    size_t sent = 0;
    bool broken = false;
    while (!broken && (!stop_ || !unanswered.empty())) {
      for (size_t i = 0; i < kBatch && !stop_ && unanswered.size() < kInFlight; ++i) {
        unanswered.push_back(Next());
      }
      while (!broken && sent < unanswered.size()) {
        v1::PublishStreamRequest request;
        for (size_t i = 0; i < kBatch && sent < unanswered.size(); ++i) {
          *request.add_events()->mutable_event() = unanswered[sent++];
        }
        broken = !stream->Write(request);
      }
      v1::PublishStreamResponse response;
      if (broken || !stream->Read(&response)) break;
      for (const v1::PublishResult& result : response.results()) {
        if (!result.has_accepted()) {
          // Refusals of a service that is going down may be retried, on a stream of their own.
          EXPECT_TRUE(result.refused().retryable()) << result.refused().message();
          broken = true;
          break;
        }
        EXPECT_EQ(result.event_id(), unanswered.front().event_id());
        record_->Accepted(result.thread_id(), result.event_id(), result.accepted().offset());
        unanswered.pop_front();
        --sent;
      }
    }
    context.TryCancel();
    stream->Finish();
  }
}

}  // namespace clarion::testing
