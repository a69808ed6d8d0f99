#include "proto/link/memory_link.h"

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "boost/asio/post.hpp"
#include "boost/asio/steady_timer.hpp"
#include "proto/base/mutex.h"
#include "proto/contract/error.h"
#include "proto/link/backoff.h"
#include "proto/link/loop_inbox.h"

namespace clarion::link {
namespace {

using std::chrono::milliseconds;

// What an event costs in a queue besides its bytes.
constexpr size_t kEventOverhead = 32;

size_t BytesOf(const Live& live) {
  size_t bytes = 0;
  for (const EventPtr& event : live.events) bytes += event->bytes().size() + kEventOverhead;
  return bytes;
}

class MemoryLink;

// One attachment. The service may hold it longer than the link lives: after Detach it is inert.
class MemoryAttachment : public Attachment, public std::enable_shared_from_this<MemoryAttachment> {
 public:
  MemoryAttachment(boost::asio::io_context& loop, MemoryLink* link,
                   const MemoryLinkOptions& options)
      : loop_(loop), link_(link), options_(options) {}

  bool SendLive(Live live) override {
    const size_t bytes = BytesOf(live);
    MutexLock lock(mutex_);
    if (closed_) return true;  // it goes nowhere, but there is no queue to lag behind
    // An event larger than the bound passes while nothing waits, else it never would.
    if (live_bytes_ > 0 && live_bytes_ + bytes > options_.live_bytes) return false;
    live_bytes_ += bytes;
    queue_.emplace_back(std::move(live));
    Wake();
    return true;
  }

  void SendControl(v1::ServiceMessage message) override {
    MutexLock lock(mutex_);
    if (closed_) return;
    if (control_ >= options_.control_messages) {
      CloseLocked(MakeError(Reason::kBufferOverflow, "the gateway does not read the link"));
      return;
    }
    ++control_;
    queue_.emplace_back(std::move(message));
    Wake();
  }

  void Close(absl::Status status) override {
    MutexLock lock(mutex_);
    if (!closed_) CloseLocked(std::move(status));
  }

  std::string peer() const override { return "this process"; }

  // On the loop. The link forgets it: nothing is called, nothing is posted after this.
  void Detach() {
    std::vector<ToGateway> dropped;
    MutexLock lock(mutex_);
    closed_ = true;
    link_ = nullptr;
    dropped.swap(queue_);
  }

 private:
  void CloseLocked(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    closed_ = true;
    close_status_ = std::move(status);
    queue_.clear();
    Wake();
  }

  void Wake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (scheduled_) return;
    scheduled_ = true;
    // Under the lock, which Detach takes before the loop may end; a post is a leaf call.
    boost::asio::post(loop_, [self = shared_from_this()] { self->Drain(); });
  }

  void Drain();

  boost::asio::io_context& loop_;
  MemoryLink* link_;  // the loop's; null after Detach
  const MemoryLinkOptions options_;

  Mutex mutex_;
  std::vector<ToGateway> queue_ ABSL_GUARDED_BY(mutex_);
  size_t live_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t control_ ABSL_GUARDED_BY(mutex_) = 0;
  bool scheduled_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> close_status_ ABSL_GUARDED_BY(mutex_);
};

// What the service has answered, for the loop.
using Answers = LoopInbox<std::function<void()>>;

class MemoryLink : public Link {
 public:
  MemoryLink(boost::asio::io_context& loop, Service* service, MemoryLinkOptions options)
      : loop_(loop),
        service_(service),
        options_(options),
        alive_(std::make_shared<bool>(true)),
        retry_(loop),
        backoff_({milliseconds(10), milliseconds(1'000)},
                 {options.displaced_first, options.displaced_most}),
        answers_(std::make_shared<Answers>(
            loop, [alive = alive_](std::vector<std::function<void()>> answers) {
              for (const auto& answer : answers) {
                if (*alive) answer();
              }
            })) {}

  ~MemoryLink() override { Stop(); }

  void Start(LinkSink* sink) override {
    sink_ = sink;
    // `sink` is not called inside Start.
    Later([this] { Attach(); });
  }

  void Send(v1::GatewayMessage message) override {
    if (session_ == nullptr) return;
    outbox_.push_back(std::move(message));
    if (flush_scheduled_) return;
    flush_scheduled_ = true;
    Later([this] { Flush(); });
  }

  void ReadPage(v1::ReadPageRequest request, PageCallback done) override {
    Call(std::move(done),
         [&](PageCallback answer) { service_->ReadPage(std::move(request), std::move(answer)); });
  }

  void Ask(v1::AskRequest request, AskCallback done) override {
    Call(std::move(done),
         [&](AskCallback answer) { service_->Ask(std::move(request), std::move(answer)); });
  }

  void Stop() override {
    if (stopped_) return;
    stopped_ = true;
    *alive_ = false;
    retry_.cancel();
    answers_->Close();
    EndAttachment(absl::CancelledError("the gateway stops"));
  }

  // From the attachment, on the loop.
  void OnMessages(std::vector<ToGateway> batch) {
    backoff_.Reset();
    sink_->OnMessages(std::move(batch));
  }
  void OnClosed(const absl::Status& status) {
    EndAttachment(status);
    const std::shared_ptr<bool> alive = alive_;
    sink_->OnDown(status);
    if (*alive) RetryLater(status);
  }

 private:
  // Runs `task` in a later turn of the loop, unless the link has stopped by then.
  template <class Task>
  void Later(Task task) {
    boost::asio::post(loop_, [alive = alive_, task = std::move(task)] {
      if (*alive) task();
    });
  }

  // `ask` asks the service, whose answer `done` gets on the loop.
  template <class T, class Asking>
  void Call(std::function<void(absl::StatusOr<T>)> done, Asking ask) {
    auto answer = [answers = answers_, done = std::move(done)](absl::StatusOr<T> what) mutable {
      answers->Put(
          [done = std::move(done), what = std::move(what)]() mutable { done(std::move(what)); });
    };
    if (session_ == nullptr) {
      return answer(MakeError(Reason::kGatewayUnavailable, "the link is down"));
    }
    ask(std::move(answer));
  }

  void Attach() {
    attachment_ = std::make_shared<MemoryAttachment>(loop_, this, options_);
    session_ = service_->OnAttached(attachment_);
    if (session_ == nullptr) {
      attachment_->Detach();
      attachment_.reset();
      RetryLater(MakeError(Reason::kGatewayUnavailable, "the service takes no gateways now"));
      return;
    }
    sink_->OnUp();
  }

  void Flush() {
    flush_scheduled_ = false;
    if (session_ == nullptr || outbox_.empty()) return;
    session_->OnMessages(std::exchange(outbox_, {}));
  }

  void EndAttachment(const absl::Status& status) {
    if (attachment_ == nullptr) return;
    attachment_->Detach();
    attachment_.reset();
    outbox_.clear();
    std::exchange(session_, nullptr)->OnDetached(status);
  }

  void RetryLater(const absl::Status& end) {
    retry_.expires_after(backoff_.After(end));
    retry_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
      if (!error && *alive) Attach();
    });
  }

  boost::asio::io_context& loop_;
  Service* const service_;
  const MemoryLinkOptions options_;
  // False once stopped; what was posted before looks here. Loop only.
  const std::shared_ptr<bool> alive_;
  boost::asio::steady_timer retry_;
  AttachBackoff backoff_;
  const std::shared_ptr<Answers> answers_;
  LinkSink* sink_ = nullptr;
  // Both null while down.
  std::shared_ptr<MemoryAttachment> attachment_;
  std::shared_ptr<GatewaySession> session_;
  std::vector<v1::GatewayMessage> outbox_;
  bool flush_scheduled_ = false;
  bool stopped_ = false;
};

void MemoryAttachment::Drain() {
  std::vector<ToGateway> batch;
  std::optional<absl::Status> closed;
  {
    MutexLock lock(mutex_);
    scheduled_ = false;
    batch.swap(queue_);
    live_bytes_ = 0;
    control_ = 0;
    closed.swap(close_status_);
  }
  if (link_ == nullptr) return;
  if (closed.has_value()) {
    link_->OnClosed(*closed);
  } else if (!batch.empty()) {
    link_->OnMessages(std::move(batch));
  }
}

}  // namespace

std::unique_ptr<Link> MakeMemoryLink(boost::asio::io_context& loop, Service* service,
                                     MemoryLinkOptions options) {
  return std::make_unique<MemoryLink>(loop, service, options);
}

}  // namespace clarion::link
