// For tests: a hub that remembers what connections told it, and a loop with connections on a real
// port.
#pragma once

#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "boost/asio/executor_work_guard.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/steady_timer.hpp"
#include "gateway/connection/browser_api.h"
#include "gateway/connection/context.h"
#include "gateway/connection/websocket.h"
#include "gateway/http/http_session.h"
#include "gateway/hub/hub.h"
#include "proto/base/mutex.h"

namespace clarion::gateway {

// Calls come on the loop; what tests read is guarded.
class FakeHub : public Hub {
 public:
  struct Call {
    std::string what;  // open, close, subscribe, unsubscribe, ack, room, report
    std::string thread_id;
    std::string request_id;
    std::string detail;
    bool operator==(const Call&) const = default;
  };

  void OnUp() override {}
  void OnMessages(std::vector<link::ToGateway>) override {}
  void OnDown(const absl::Status&) override {}

  void Open(Subscriber* subscriber, ConnectionInfo info) override {
    last_ = subscriber;
    Note({"open", "", "", info.user.str()});
    unseen = info.unseen;
  }
  void Close(Subscriber* subscriber, v1::ConnectionState state, std::string_view reason) override {
    if (last_ == subscriber) last_ = nullptr;
    Note({"close", "", "", v1::ConnectionState_Name(state) + " " + std::string(reason)});
  }
  void Subscribe(Subscriber* subscriber, const v1::Subscribe& subscribe,
                 const std::string& id) override {
    Note({"subscribe", subscribe.thread_id(), id, ""});
    if (on_subscribe) on_subscribe(subscriber, subscribe);
  }
  void BeginRest(Subscriber*) override { Note({"begin_rest", "", "", ""}); }
  void Rest(Subscriber* subscriber, std::chrono::milliseconds lease) override {
    if (last_ == subscriber) last_ = nullptr;
    rested = subscriber->mark();
    Note({"rest", "", "", std::to_string(lease.count())});
  }
  void Resume(Subscriber* subscriber, const Resumption& resumption) override {
    const v1::ThreadPosition& at = resumption.at;
    Note({"resume", at.thread_id(), "", at.epoch() + ":" + std::to_string(at.offset())});
    if (on_resume) on_resume(subscriber, resumption);
  }
  void ResumeAll(Subscriber*, bool) override { Note({"resume_all", "", "", ""}); }
  bool Settled(const Subscriber*) const override { return settled; }
  bool Answered(const Subscriber*) const override { return answered; }
  void Unsubscribe(Subscriber*, const v1::Unsubscribe& unsubscribe,
                   const std::string& id) override {
    Note({"unsubscribe", unsubscribe.thread_id(), id, ""});
  }
  void Ack(Subscriber*, const v1::Ack& ack, const std::string& id) override {
    Note({"ack", ack.thread_id(), id, ack.epoch() + ":" + std::to_string(ack.offset())});
  }
  void ProbeReply(Subscriber*, const v1::ProbeReply& reply) override {
    Note({"probe_reply", "", "", reply.nonce()});
  }
  void BeginDrain() override { Note({"drain", "", "", ""}); }
  bool FollowsOpenRun(const Subscriber*) const override { return false; }
  void OnRoom(Subscriber*) override { Note({"room", "", "", ""}); }
  void OnOverflow(Subscriber* subscriber) override {
    Note({"overflow", "", "", ""});
    if (on_overflow) on_overflow(subscriber);
  }
  void Report(v1::CanaryReport report) override {
    Note({"report", "", "",
          v1::WiringStep_Name(report.step()) + " " + report.type() + report.message()});
  }
  uint64_t replay_pages() const override { return 0; }
  absl::Status attached() const override {
    return linked ? absl::OkStatus() : absl::UnavailableError("no service");
  }
  bool ServesUserPages() const override { return user_pages; }

  // The next call that was noted; waits for it.
  Call Next() {
    MutexLock lock(mutex_);
    while (calls_.empty()) changed_.Wait(mutex_);
    Call call = std::move(calls_.front());
    calls_.pop_front();
    return call;
  }
  Call NextOf(const std::string& what) {
    for (;;) {
      if (Call call = Next(); call.what == what) return call;
    }
  }
  bool Quiet() {
    MutexLock lock(mutex_);
    return calls_.empty();
  }

  // On the loop: the connection that was opened last.
  Subscriber* last() const { return last_; }
  std::function<void(Subscriber*, const v1::Subscribe&)> on_subscribe;
  std::function<void(Subscriber*)> on_overflow;
  std::function<void(Subscriber*, const Resumption&)> on_resume;
  bool settled = true;
  bool answered = true;
  // On the loop: the mark of the connection that went to rest last.
  Subscriber::Mark rested;
  bool user_pages = true;
  bool linked = true;
  // Of the connection that was opened last.
  std::atomic<bool> unseen = false;

 private:
  void Note(Call call) {
    MutexLock lock(mutex_);
    calls_.push_back(std::move(call));
    changed_.NotifyAll();
  }

  Subscriber* last_ = nullptr;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Call> calls_ ABSL_GUARDED_BY(mutex_);
};

// Answers what is asked for on the loop with what the test says, as the real ones do: never inside
// the call.
class FakeLink : public link::Link {
 public:
  void Start(link::LinkSink*) override {}
  void Send(v1::GatewayMessage) override {}
  void ReadPage(v1::ReadPageRequest request, link::PageCallback done) override {
    boost::asio::post(*io, [this, request, done] { done(on_read(request)); });
  }
  void Ask(v1::AskRequest request, link::AskCallback done) override {
    boost::asio::post(*io, [this, request, done] { done(on_ask(request)); });
  }
  void Stop() override {}

  std::function<absl::StatusOr<link::Page>(const v1::ReadPageRequest&)> on_read;
  std::function<absl::StatusOr<v1::AskResponse>(const v1::AskRequest&)> on_ask;
  boost::asio::io_context* io = nullptr;
};

// A loop that serves connections on a port of loopback, with a FakeHub behind them.
class TestLoop {
 public:
  static constexpr const char* kSecret = "thirty-two bytes of secret, or more than that";

  explicit TestLoop(ConnectionOptions options = {}, size_t per_user = 100,
                    std::chrono::seconds leeway = std::chrono::seconds(1),
                    size_t handshake_bytes = 128 * 1024 * 1024,
                    size_t queued_bytes_total = 256 * 1024 * 1024,
                    std::chrono::milliseconds stall_timeout = QueueWatch::kDefaultStallTimeout)
      : verifier_(*TokenVerifier::Create({.secret = kSecret, .leeway = leeway})),
        user_limit_(per_user),
        handshake_bytes_(handshake_bytes),
        wheel_(std::chrono::steady_clock::now()),
        budget_(queued_bytes_total),
        turn_(*io_, budget_, stall_timeout),
        context_{.loop = *io_,
                 .options = options,
                 .verifier = *verifier_,
                 .user_limit = user_limit_,
                 .question_limit = question_limit,
                 .handshake_bytes = handshake_bytes_,
                 .tickets = tickets,
                 .wheel = wheel_,
                 .turn = turn_,
                 .hub = &hub,
                 .id_prefix = "g-1"},
        http_{.loop = *io_,
              .responder = responder_,
              .wheel = wheel_,
              .queues = turn_.queues(),
              .timeout = std::chrono::milliseconds(options.handshake_timeout_ms),
              .upgrade =
                  [this](Socket socket, HttpRequest request, Encoding encoding,
                         std::function<void()> on_end) {
                    WebSocket::Start(context_, std::move(socket), std::move(request), encoding,
                                     std::move(on_end));
                  },
              .api = api_,
              .handshake_bytes = handshake_bytes_,
              .max_body_bytes = options.max_message_bytes} {
    link.io = io_.get();
    v1::ServerFrame ping;
    ping.mutable_ping();
    for (Encoding encoding : {Encoding::kJson, Encoding::kProto, Encoding::kEventStream}) {
      context_.pings[static_cast<size_t>(encoding)] = Frames::OfMessage(encoding, ping);
    }
    Accept();
    Tick();
    thread_ = std::thread([this] { io_->run(); });
  }
  ~TestLoop() {
    io_->stop();
    thread_.join();
    acceptor_.reset();
    tick_.reset();
    io_.reset();
  }

  uint16_t port() const { return acceptor_->local_endpoint().port(); }
  boost::asio::io_context& io() { return *io_; }
  TimerWheel& wheel() { return wheel_; }
  QueueBudget& budget() { return budget_; }

  // Runs a task on the loop and waits for it.
  template <class Task>
  auto Do(Task task) {
    std::packaged_task<decltype(task())()> packaged(std::move(task));
    auto result = packaged.get_future();
    boost::asio::post(*io_, [&packaged] { packaged(); });
    return result.get();
  }
  // When this returns, everything queued before has had its turn of writing.
  void TurnOver() {
    Do([] {});
    Do([] {});
  }
  uint64_t writes() {
    return Do([this] { return turn_.writes(); });
  }
  // As it will be so much later.
  void CheckStalls(std::chrono::milliseconds later) {
    Do([&] { turn_.queues().CheckStalls(std::chrono::steady_clock::now() + later); });
  }
  void GoAway() {
    Do([this] {
      for (ConnectionListHook& connection : context_.connections) connection.GoAway(500);
    });
  }
  void BeginDrain() {
    Do([this] { api_.BeginDrain(); });
  }
  // Waits until `count` sockets have come and gone, all told.
  void WaitForEnds(int count) {
    MutexLock lock(mutex_);
    while (ends_ < count) changed_.Wait(mutex_);
  }

  FakeHub hub;
  FakeLink link;
  Tickets tickets;
  UserLimit question_limit{2};

 private:
  void Accept() {
    acceptor_->async_accept([this](const boost::system::error_code& error, Socket socket) {
      if (error) return;
      StartHttpSession(http_, std::move(socket), Admission::kServe, [this] {
        MutexLock lock(mutex_);
        ++ends_;
        changed_.NotifyAll();
      });
      Accept();
    });
  }
  void Tick() {
    tick_->expires_after(std::chrono::milliseconds(5));
    tick_->async_wait([this](const boost::system::error_code& error) {
      if (error) return;
      wheel_.Advance(std::chrono::steady_clock::now());
      turn_.queues().CheckStalls(std::chrono::steady_clock::now());
      turn_.queues().CheckBudget();
      Tick();
    });
  }

  using Acceptor = boost::asio::basic_socket_acceptor<boost::asio::ip::tcp,
                                                      boost::asio::io_context::executor_type>;
  Mutex mutex_;
  CondVar changed_;
  int ends_ ABSL_GUARDED_BY(mutex_) = 0;

  std::unique_ptr<boost::asio::io_context> io_ = std::make_unique<boost::asio::io_context>(1);
  std::unique_ptr<const TokenVerifier> verifier_;
  UserLimit user_limit_;
  HandshakeBytes handshake_bytes_;
  TimerWheel wheel_;
  QueueBudget budget_;
  WriteTurn turn_;
  const Responder responder_{{}};
  ConnectionContext context_;
  BrowserApi api_{context_, link};
  HttpContext http_;
  std::unique_ptr<Acceptor> acceptor_ = std::make_unique<Acceptor>(
      io_->get_executor(),
      boost::asio::ip::tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0));
  std::unique_ptr<boost::asio::steady_timer> tick_ =
      std::make_unique<boost::asio::steady_timer>(*io_);
  std::thread thread_;
};

}  // namespace clarion::gateway
