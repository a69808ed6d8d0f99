#include "gateway/link/grpc_link_client.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "boost/asio/post.hpp"
#include "boost/asio/steady_timer.hpp"
#include "clarion/v1/gateway_service.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "proto/base/gate.h"
#include "proto/base/mutex.h"
#include "proto/contract/error.h"
#include "proto/link/backoff.h"
#include "proto/link/loop_inbox.h"
#include "telemetry/log.h"

namespace clarion::link {
namespace {

// A page holds 4 MiB at most, and a batch of live events a little more than its bound.
constexpr int kMaxMessageBytes = 16 * 1024 * 1024;

// What one write carries: far below the 4 MiB that a gRPC server takes, however much is restored.
constexpr size_t kWriteBytes = 512 * 1024;

Live FromProto(v1::LiveEvents& live) {
  Live events{.thread = ThreadId(std::move(*live.mutable_thread_id())),
              .epoch = Epoch(std::move(*live.mutable_epoch())),
              .first = Offset(live.first_offset())};
  events.events.reserve(live.events_size());
  for (const v1::EncodedEvent& event : live.events()) {
    const uint32_t offsets = std::max(event.offsets(), 1u);
    events.merged += offsets - 1;
    events.events.push_back(std::make_shared<EncodedEvent>(event.json(), event.proto(), offsets));
  }
  return events;
}

Page FromProto(v1::ReadPageResponse& response) {
  Page page;
  for (v1::Missed& missed : *response.mutable_missed()) page.missed.push_back(std::move(missed));
  for (v1::LiveEvents& run : *response.mutable_runs()) page.runs.push_back(FromProto(run));
  page.last = {Epoch(response.last().epoch()), Offset(response.last().offset())};
  return page;
}

// As the loop takes it; heartbeats end here.
std::vector<ToGateway> FromProto(v1::AttachResponse& response) {
  std::vector<ToGateway> messages;
  messages.reserve(response.messages_size());
  for (v1::ServiceMessage& message : *response.mutable_messages()) {
    if (message.has_heartbeat()) continue;
    if (message.has_live()) {
      messages.emplace_back(FromProto(*message.mutable_live()));
    } else {
      messages.emplace_back(std::move(message));
    }
  }
  return messages;
}

// What the stream tells the loop.
struct FromStream {
  enum class What : uint8_t {
    kUp,
    kMessages,
    kWritten,  // there is room for the next write: says nothing of the service
    kEnded,
  };
  What what = What::kMessages;
  std::vector<ToGateway> messages;
  size_t bytes = 0;
  absl::Status status;
};

// One Attach stream: gRPC's threads on one side, the loop's inbox on the other. Owns itself until
// OnDone.
class Stream : public grpc::ClientBidiReactor<v1::AttachRequest, v1::AttachResponse>,
               public std::enable_shared_from_this<Stream> {
 public:
  using Inbox = LoopInbox<FromStream>;

  Stream(Gate& calls, std::shared_ptr<Inbox> inbox, size_t inbox_bytes)
      : call_(calls), inbox_(std::move(inbox)), inbox_bytes_(inbox_bytes) {}

  void Start(v1::GatewayService::Stub* stub) {
    self_ = shared_from_this();
    stub->async()->Attach(&context_, this);
    StartRead(&response_);
    // Reads and writes are started later from the loop, at any time before Cancel.
    AddHold();
    StartCall();
  }

  // ---- On the loop. ----

  // Takes the first of `messages`, up to the bound of one write, unless a write is under way. The
  // loop hears when it is done, and comes with the rest.
  void Write(std::deque<v1::GatewayMessage>& messages) {
    MutexLock lock(mutex_);
    if (writing_ || released_ || messages.empty()) return;
    request_.Clear();
    for (size_t bytes = 0; !messages.empty() && bytes < kWriteBytes; messages.pop_front()) {
      bytes += messages.front().ByteSizeLong();
      *request_.add_messages() = std::move(messages.front());
    }
    writing_ = true;
    StartWrite(&request_);
  }
  // The loop has taken so much; reading may go on.
  void Taken(size_t bytes) {
    MutexLock lock(mutex_);
    waiting_bytes_ -= bytes;
    if (!paused_ || released_ || waiting_bytes_ >= inbox_bytes_) return;
    paused_ = false;
    StartRead(&response_);
  }
  void Cancel() {
    context_.TryCancel();
    Release();
  }

 private:
  void OnReadInitialMetadataDone(bool ok) override {
    if (ok) SayUp();
  }
  void OnReadDone(bool ok) override {
    // The hold goes when reading has ended: nothing more can be done with the stream.
    if (!ok) return Release();
    SayUp();
    const size_t bytes = response_.ByteSizeLong();
    // Here, not on the loop, which has sockets to write to.
    FromStream message{.messages = FromProto(response_), .bytes = bytes};
    response_ = v1::AttachResponse();
    {
      MutexLock lock(mutex_);
      waiting_bytes_ += bytes;
    }
    inbox_->Put(std::move(message));
    MutexLock lock(mutex_);
    if (released_) return;
    if (waiting_bytes_ >= inbox_bytes_) {
      paused_ = true;
    } else {
      StartRead(&response_);
    }
  }
  void OnWriteDone(bool ok) override {
    MutexLock lock(mutex_);
    writing_ = false;
    if (!ok) return;  // the end follows
    // The loop writes what gathered meanwhile.
    inbox_->Put({.what = FromStream::What::kWritten});
  }
  void OnDone(const grpc::Status& status) override {
    absl::Status why = FromGrpc(status);
    if (why.ok()) why = absl::UnavailableError("the service ended the stream");
    inbox_->Put({.what = FromStream::What::kEnded, .status = std::move(why)});
    const std::shared_ptr<Stream> last = std::move(self_);
  }

  // gRPC says on two threads at once that the stream is up and what came first.
  void SayUp() {
    MutexLock lock(mutex_);
    if (!std::exchange(up_, true)) inbox_->Put({.what = FromStream::What::kUp});
  }
  void Release() {
    {
      MutexLock lock(mutex_);
      if (std::exchange(released_, true)) return;
    }
    RemoveHold();
  }

  const Gate::Pass call_;  // outlives context_
  const std::shared_ptr<Inbox> inbox_;
  const size_t inbox_bytes_;
  grpc::ClientContext context_;
  std::shared_ptr<Stream> self_;
  v1::AttachResponse response_;

  // gRPC's calls that start an operation call nothing back on this thread, so they are made under
  // the lock.
  Mutex mutex_;
  v1::AttachRequest request_ ABSL_GUARDED_BY(mutex_);
  bool up_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  size_t waiting_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What the service has answered, for the loop.
using Answers = LoopInbox<std::function<void()>>;

// A unary call; lives until it is answered.
struct Call {
  explicit Call(Gate& calls) : pass(calls) {}
  virtual ~Call() = default;
  const Gate::Pass pass;  // outlives the context
  grpc::ClientContext context;
};
template <class Request, class Response>
struct CallOf final : Call {
  using Call::Call;
  Request request;
  Response response;
};

v1::AskResponse FromProto(v1::AskResponse& response) {
  return std::move(response);
}

struct Rpc {
  std::string_view name;
  std::chrono::milliseconds timeout;
};

// `rpc`: which this gateway knows and a service of the version before may not.
absl::Status FailureOf(const grpc::Status& status, std::string_view rpc) {
  absl::Status failure = FromGrpc(status);
  if (failure.code() != absl::StatusCode::kUnimplemented) return failure;
  return MakeError(Reason::kNotInitialized,
                   "the service is older than this gateway and does not answer this; update it",
                   {.operation = std::string(rpc), .cause = std::string(failure.message())});
}

class GrpcLink : public Link {
 public:
  GrpcLink(boost::asio::io_context& loop, GrpcLinkOptions options)
      : loop_(loop),
        options_(std::move(options)),
        alive_(std::make_shared<bool>(true)),
        stub_(MakeStub(options_)),
        retry_(loop),
        heartbeat_(loop),
        backoff_({options_.backoff_first, options_.backoff_most},
                 {options_.displaced_first, options_.displaced_most}),
        answers_(std::make_shared<Answers>(
            loop, [alive = alive_](std::vector<std::function<void()>> answers) {
              for (const auto& answer : answers) {
                if (*alive) answer();
              }
            })) {}

  ~GrpcLink() override { Stop(); }

  void Start(LinkSink* sink) override {
    sink_ = sink;
    Later([this] { Connect(); });
  }

  void Send(v1::GatewayMessage message) override {
    if (!up_) return;
    if (outbox_.size() >= options_.outbox_messages) {
      stream_->Cancel();  // the service does not read: what it has not got is restored on the next
                          // stream
      outbox_.clear();
      return;
    }
    outbox_.push_back(std::move(message));
    if (flush_scheduled_) return;
    flush_scheduled_ = true;
    Later([this] { Flush(); });
  }

  void ReadPage(v1::ReadPageRequest request, PageCallback done) override {
    Begin<v1::ReadPageResponse>(
        {"ReadPage", options_.page_timeout}, std::move(request), std::move(done),
        [this](auto... call) { stub_->async()->ReadPage(std::move(call)...); });
  }

  void Ask(v1::AskRequest request, AskCallback done) override {
    Begin<v1::AskResponse>({"Ask", options_.ask_timeout}, std::move(request), std::move(done),
                           [this](auto... call) { stub_->async()->Ask(std::move(call)...); });
  }

  void Stop() override {
    if (stopped_) return;
    stopped_ = true;
    up_ = false;
    *alive_ = false;
    retry_.cancel();
    heartbeat_.cancel();
    answers_->Close();
    if (inbox_ != nullptr) inbox_->Close();
    if (stream_ != nullptr) std::exchange(stream_, nullptr)->Cancel();
    for (const auto& [id, call] : unary_) call->context.TryCancel();
    unary_.clear();
    calls_.WaitUntilEmpty();
  }

 private:
  static std::unique_ptr<v1::GatewayService::Stub> MakeStub(const GrpcLinkOptions& options) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
    // The link waits by itself, with jitter; the channel must not wait longer.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
                     static_cast<int>(options.backoff_first.count()));
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1'000);  // bounds one attempt to connect
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS,
                     static_cast<int>(options.backoff_most.count()));
    // A channel, and so a TCP connection, of its own for each link.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto credentials =
        options.credentials != nullptr ? options.credentials : grpc::InsecureChannelCredentials();
    return v1::GatewayService::NewStub(
        grpc::CreateCustomChannel(options.target, credentials, arguments));
  }

  // Runs `task` in a later turn of the loop, unless the link has stopped by then.
  template <class Task>
  void Later(Task task) {
    boost::asio::post(loop_, [alive = alive_, task = std::move(task)] {
      if (*alive) task();
    });
  }

  // Makes a unary call; `done` gets what `start` brings, on the loop.
  template <class Response, class Request, class T, class Start>
  void Begin(Rpc rpc, Request request, std::function<void(absl::StatusOr<T>)> done, Start start) {
    if (!up_) {
      return answers_->Put([done = std::move(done)] {
        done(MakeError(Reason::kGatewayUnavailable, "the link is down"));
      });
    }
    auto call = std::make_shared<CallOf<Request, Response>>(calls_);
    call->request = std::move(request);
    call->context.set_deadline(std::chrono::system_clock::now() + rpc.timeout);
    const uint64_t id = ++last_unary_;
    unary_.emplace(id, call);
    grpc::ClientContext* const context = &call->context;
    const Request* const sent = &call->request;
    Response* const response = &call->response;
    std::function<void(grpc::Status)> on_done =
        [this, rpc, id, call = std::move(call), answers = answers_,
         done = std::move(done)](const grpc::Status& status) mutable {
          auto what = status.ok() ? absl::StatusOr<T>(FromProto(call->response))
                                  : absl::StatusOr<T>(FailureOf(status, rpc.name));
          answers->Put([this, id, done = std::move(done), what = std::move(what)]() mutable {
            unary_.erase(id);
            done(std::move(what));
          });
        };
    start(context, sent, response, std::move(on_done));
  }

  void Connect() {
    inbox_ = std::make_shared<Stream::Inbox>(loop_,
                                             [this, alive = alive_](std::vector<FromStream> batch) {
                                               OnStream(alive, std::move(batch));
                                             });
    stream_ = std::make_shared<Stream>(calls_, inbox_, options_.inbox_bytes);
    stream_->Start(stub_.get());
    heard_ = true;
    silent_beats_ = 0;
    Beat();
  }

  // Everything that arrived since the last turn is one batch for the sink.
  void OnStream(const std::shared_ptr<bool>& alive, std::vector<FromStream> batch) {
    std::vector<ToGateway> messages;
    size_t bytes = 0;
    for (FromStream& item : batch) {
      if (item.what != FromStream::What::kWritten) heard_ = true;
      bytes += item.bytes;
      if (item.what == FromStream::What::kUp) {
        up_ = true;
        sink_->OnUp();
        if (!*alive) return;
      } else if (item.what == FromStream::What::kEnded) {
        return OnEnded(alive, std::move(messages), item.status);
      }
      messages.insert(messages.end(), std::make_move_iterator(item.messages.begin()),
                      std::make_move_iterator(item.messages.end()));
    }
    stream_->Taken(bytes);
    stream_->Write(outbox_);
    if (messages.empty()) return;
    backoff_.Reset();
    sink_->OnMessages(std::move(messages));
  }

  void OnEnded(const std::shared_ptr<bool>& alive, std::vector<ToGateway> messages,
               const absl::Status& status) {
    heartbeat_.cancel();
    inbox_->Close();
    stream_ = nullptr;
    outbox_.clear();
    if (std::exchange(up_, false)) {
      if (!messages.empty()) sink_->OnMessages(std::move(messages));
      if (*alive) sink_->OnDown(status);
    } else {
      // The sink hears only of links that were up.
      const std::string cause(status.message());
      LogFailure(MakeError(Reason::kGatewayUnavailable, "cannot attach to " + options_.target,
                           {.operation = "Attach", .cause = cause}));
    }
    if (*alive) RetryLater(status);
  }

  void RetryLater(const absl::Status& end) {
    retry_.expires_after(backoff_.After(end));
    retry_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
      if (!error && *alive) Connect();
    });
  }

  void Flush() {
    flush_scheduled_ = false;
    if (stream_ != nullptr && up_) stream_->Write(outbox_);
  }

  void Beat() {
    heartbeat_.expires_after(options_.heartbeat);
    heartbeat_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
      if (error || !*alive || stream_ == nullptr) return;
      silent_beats_ = std::exchange(heard_, false) ? 0 : silent_beats_ + 1;
      if (silent_beats_ >= kSilentBeats) {
        stream_->Cancel();  // OnEnded follows
        return;
      }
      v1::GatewayMessage message;
      message.mutable_heartbeat();
      Send(std::move(message));
      Beat();
    });
  }

  static constexpr int kSilentBeats = 3;

  boost::asio::io_context& loop_;
  const GrpcLinkOptions options_;
  // False once stopped; what was posted before looks here. Loop only.
  const std::shared_ptr<bool> alive_;
  const std::unique_ptr<v1::GatewayService::Stub> stub_;
  boost::asio::steady_timer retry_;
  boost::asio::steady_timer heartbeat_;
  AttachBackoff backoff_;
  const std::shared_ptr<Answers> answers_;
  // Calls that gRPC has not done with. Their contexts refer to the channel, and whoever drops that
  // last on one of gRPC's own threads makes gRPC wait for that thread on itself: so the link waits
  // for them, and drops the channel by itself.
  Gate calls_;
  // Until the loop has their answers.
  absl::flat_hash_map<uint64_t, std::shared_ptr<Call>> unary_;
  uint64_t last_unary_ = 0;
  LinkSink* sink_ = nullptr;
  // Of the stream; both of one stream only.
  std::shared_ptr<Stream::Inbox> inbox_;
  std::shared_ptr<Stream> stream_;
  std::deque<v1::GatewayMessage> outbox_;
  int silent_beats_ = 0;
  // The service said something since the last beat.
  bool heard_ = false;
  bool up_ = false;
  bool flush_scheduled_ = false;
  bool stopped_ = false;
};

}  // namespace

std::unique_ptr<Link> MakeGrpcLink(boost::asio::io_context& loop, GrpcLinkOptions options) {
  return std::make_unique<GrpcLink>(loop, std::move(options));
}

}  // namespace clarion::link
