#include "service/delivery/grpc_link_server.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "proto/base/mutex.h"
#include "proto/contract/error.h"
#include "proto/contract/received.h"

namespace clarion::link {
namespace {

using Reactor = grpc::ServerBidiReactor<Received<v1::AttachRequest>, v1::AttachResponse>;

// What an event costs in a queue besides its bytes.
constexpr size_t kEventOverhead = 32;

size_t BytesOf(const EventPtr& event) {
  return event->bytes().size() + kEventOverhead;
}
size_t BytesOf(const Live& live) {
  size_t bytes = 0;
  for (const EventPtr& event : live.events) bytes += BytesOf(event);
  return bytes;
}

// Moves the first events of `live` to the front of a message of its own, until they reach `room`.
Live TakeFirst(Live& live, size_t room) {
  size_t count = 0;
  for (size_t bytes = 0; count < live.events.size() && bytes < room; ++count)
    bytes += BytesOf(live.events[count]);
  if (count == live.events.size()) return std::move(live);
  const auto end = live.events.begin() + static_cast<ptrdiff_t>(count);
  Live first{.thread = live.thread, .epoch = live.epoch, .first = live.first};
  first.events.assign(std::make_move_iterator(live.events.begin()), std::make_move_iterator(end));
  live.events.erase(live.events.begin(), end);
  live.first = Offset(live.first.value() + count);  // live events cover one offset each
  return first;
}

struct Encodings {
  bool json = true;
  bool proto = true;
};

void ToProto(const Live& live, Encodings wanted, v1::LiveEvents* out) {
  out->set_thread_id(live.thread.str());
  out->set_epoch(live.epoch.str());
  out->set_first_offset(live.first.value());
  out->mutable_events()->Reserve(static_cast<int>(live.events.size()));
  for (const EventPtr& event : live.events) {
    v1::EncodedEvent& encoded = *out->add_events();
    if (wanted.json) encoded.set_json(event->json().data(), event->json().size());
    if (wanted.proto) encoded.set_proto(event->proto().data(), event->proto().size());
    if (event->offsets() > 1) encoded.set_offsets(event->offsets());
  }
}

void ToProto(const Page& page, Encodings wanted, v1::ReadPageResponse* out) {
  for (const v1::Missed& missed : page.missed) *out->add_missed() = missed;
  for (const Live& run : page.runs) ToProto(run, wanted, out->add_runs());
  out->mutable_last()->set_epoch(page.last.epoch.str());
  out->mutable_last()->set_offset(page.last.offset.value());
}

class Server;

// One Attach stream. Held by its session, by the server and, until OnDone, by gRPC's reactor.
class Stream : public Attachment, public std::enable_shared_from_this<Stream> {
 public:
  // Owned by gRPC, deletes itself; everything happens in the stream.
  class Adapter : public Reactor {
   public:
    explicit Adapter(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {}
    void OnReadDone(bool ok) override { stream_->OnReadDone(ok); }
    void OnWriteDone(bool ok) override { stream_->OnWriteDone(ok); }
    void OnCancel() override { stream_->Close(absl::UnavailableError("the gateway went away")); }
    void OnDone() override {
      stream_->OnDone();
      delete this;
    }

   private:
    const std::shared_ptr<Stream> stream_;
  };

  Stream(Server* server, const GrpcLinkServerOptions& options, grpc::CallbackServerContext* context)
      : server_(server), options_(options), context_(context), peer_(context->peer()) {}

  // Called once, inside Attach. Null: the stream ends at once.
  Reactor* Begin(Service* service);

  // Attachment
  bool SendLive(Live live) override;
  void SendControl(v1::ServiceMessage message) override;
  void Close(absl::Status status) override;
  std::string peer() const override { return peer_; }

 private:
  using Queued = std::variant<v1::ServiceMessage, Live>;

  void OnReadDone(bool ok);
  void OnWriteDone(bool ok);
  void OnDone();
  // Something waits. True: the caller, having let go of the lock, is to Write; else that is under
  // way, or comes when the linger is over.
  bool Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool BeginWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<Queued> TakeBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write();
  void AfterLinger();
  void CloseLocked(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Finish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WatchSilence();

  Server* const server_;
  const GrpcLinkServerOptions& options_;
  grpc::CallbackServerContext* const context_;  // valid until OnDone
  const std::string peer_;

  // Reads come one at a time; these are theirs.
  Received<v1::AttachRequest> received_;
  std::shared_ptr<GatewaySession> session_;

  // Of the write under way: whoever set `writing_` has it until OnWriteDone. Messages are put
  // together, and serialised by gRPC, without the lock: commits wait for that.
  v1::AttachResponse response_;

  // gRPC's other calls that start an operation return at once and call nothing back on this thread,
  // so they are made under the lock.
  Mutex mutex_;
  Adapter* adapter_ ABSL_GUARDED_BY(mutex_) = nullptr;  // null after OnDone
  std::vector<Queued> queue_ ABSL_GUARDED_BY(mutex_);
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;  // of queue_: the first not written
  size_t live_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t control_ ABSL_GUARDED_BY(mutex_) = 0;
  Encodings wanted_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool lingering_ ABSL_GUARDED_BY(mutex_) = false;
  Scheduler::Steady last_write_ ABSL_GUARDED_BY(mutex_);
  bool heard_ ABSL_GUARDED_BY(mutex_) = true;
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

class Server : public GrpcLinkServer {
 public:
  Server(link::Service* service, GrpcLinkServerOptions options)
      : service_(service), options_(options) {
    using Context = grpc::CallbackServerContext;
    MarkMethodCallback(
        IndexOf("Attach"),
        new grpc::internal::CallbackBidiHandler<Received<v1::AttachRequest>, v1::AttachResponse>(
            [this](Context* context) { return Accept(context); }));
    MarkMethodCallback(IndexOf("ReadPage"),
                       new grpc::internal::CallbackUnaryHandler<Received<v1::ReadPageRequest>,
                                                                v1::ReadPageResponse>(
                           [this](Context* context, const Received<v1::ReadPageRequest>* request,
                                  v1::ReadPageResponse* response) {
                             return AnswerPage(context, *request, response);
                           }));
    MarkMethodCallback(
        IndexOf("Ask"),
        new grpc::internal::CallbackUnaryHandler<Received<v1::AskRequest>, v1::AskResponse>(
            [this](Context* context, const Received<v1::AskRequest>* request,
                   v1::AskResponse* response) { return Answer(context, *request, response); }));
  }

  void Stop() override {
    std::vector<std::shared_ptr<Stream>> streams;
    {
      MutexLock lock(mutex_);
      stopped_ = true;
      streams.assign(streams_.begin(), streams_.end());
    }
    const absl::Status status = MakeError(Reason::kNotInitialized, "the service is stopping");
    for (const auto& stream : streams) stream->Close(status);
  }

  void Forget(const std::shared_ptr<Stream>& stream) {
    MutexLock lock(mutex_);
    streams_.erase(stream);
  }

 private:
  static int IndexOf(const char* rpc) {
    return MethodIndex(v1::GatewayService::service_full_name(), rpc);
  }

  Reactor* Accept(grpc::CallbackServerContext* context) {
    auto stream = std::make_shared<Stream>(this, options_, context);
    bool refused = false;
    {
      MutexLock lock(mutex_);
      refused = stopped_;
      if (!refused) streams_.insert(stream);
    }
    return stream->Begin(refused ? nullptr : service_);
  }

  // Null: the request could not be read, and that was answered.
  template <class Request>
  static const Request* Read(const Received<Request>& received, const char* rpc,
                             grpc::ServerUnaryReactor* reactor) {
    if (received.status.ok()) return &received.message;
    reactor->Finish(ToGrpc(WithContext(received.status, {.operation = rpc})));
    return nullptr;
  }

  grpc::ServerUnaryReactor* AnswerPage(grpc::CallbackServerContext* context,
                                       const Received<v1::ReadPageRequest>& received,
                                       v1::ReadPageResponse* response) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const v1::ReadPageRequest* request = Read(received, "ReadPage", reactor);
    if (request == nullptr) return reactor;
    const Encodings wanted{.json = request->want_json(), .proto = request->want_proto()};
    service_->ReadPage(*request, [reactor, response, wanted](absl::StatusOr<Page> page) {
      if (page.ok()) ToProto(*page, wanted, response);
      reactor->Finish(page.ok() ? grpc::Status::OK : ToGrpc(page.status()));
    });
    return reactor;
  }

  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                   const Received<v1::AskRequest>& received,
                                   v1::AskResponse* response) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const v1::AskRequest* request = Read(received, "Ask", reactor);
    if (request == nullptr) return reactor;
    service_->Ask(*request, [reactor, response](absl::StatusOr<v1::AskResponse> answer) {
      if (answer.ok()) *response = *std::move(answer);
      reactor->Finish(answer.ok() ? grpc::Status::OK : ToGrpc(answer.status()));
    });
    return reactor;
  }

  link::Service* const service_;
  const GrpcLinkServerOptions options_;
  Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_set<std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
};

Reactor* Stream::Begin(Service* service) {
  auto* adapter = new Adapter(shared_from_this());
  {
    MutexLock lock(mutex_);
    adapter_ = adapter;
    // Tells the gateway that it has reached a service, which may take it.
    if (service != nullptr) adapter->StartSendInitialMetadata();
  }
  if (service != nullptr) session_ = service->OnAttached(shared_from_this());
  if (session_ == nullptr)
    Close(MakeError(Reason::kNotInitialized, "the service takes no gateways now"));
  adapter->StartRead(&received_);
  WatchSilence();
  return adapter;
}

bool Stream::SendLive(Live live) {
  const size_t bytes = BytesOf(live);
  bool write = false;
  {
    MutexLock lock(mutex_);
    if (closed_.has_value()) return true;  // it goes nowhere, but there is no queue to lag behind
    // An event larger than the bound passes while nothing waits, else it never would.
    if (live_bytes_ > 0 && live_bytes_ + bytes > options_.live_bytes) return false;
    live_bytes_ += bytes;
    queue_.emplace_back(std::move(live));
    write = Flush();
  }
  if (write) Write();
  return true;
}

void Stream::SendControl(v1::ServiceMessage message) {
  bool write = false;
  {
    MutexLock lock(mutex_);
    if (closed_.has_value()) return;
    if (control_ >= options_.control_messages) {
      return CloseLocked(MakeError(Reason::kBufferOverflow, "the gateway does not read the link"));
    }
    ++control_;
    queue_.emplace_back(std::move(message));
    write = Flush();
  }
  if (write) Write();
}

void Stream::Close(absl::Status status) {
  MutexLock lock(mutex_);
  if (!closed_.has_value()) CloseLocked(std::move(status));
}

void Stream::OnReadDone(bool ok) {
  if (!ok) return Close(absl::UnavailableError("the gateway ended the stream"));
  if (!received_.status.ok()) {
    return Close(WithContext(received_.status, {.operation = "Attach"}));
  }
  v1::AttachRequest& request = received_.message;
  std::vector<v1::GatewayMessage> messages;
  messages.reserve(request.messages_size());
  bool heartbeat = false;
  std::optional<Encodings> wanted;
  for (v1::GatewayMessage& message : *request.mutable_messages()) {
    if (message.has_heartbeat()) {
      heartbeat = true;
      continue;
    }
    if (message.has_hello())
      wanted = Encodings{message.hello().want_json(), message.hello().want_proto()};
    messages.push_back(std::move(message));
  }
  bool closed = false;
  {
    MutexLock lock(mutex_);
    heard_ = true;
    closed = closed_.has_value();
    if (wanted.has_value()) wanted_ = *wanted;
  }
  if (closed) return;  // no more reads; OnDone follows
  if (!messages.empty()) session_->OnMessages(std::move(messages));
  if (heartbeat) {
    v1::ServiceMessage answer;
    answer.mutable_heartbeat();
    SendControl(std::move(answer));
  }
  request.Clear();
  MutexLock lock(mutex_);
  if (!closed_.has_value()) adapter_->StartRead(&received_);
}

bool Stream::Flush() {
  if (writing_ || lingering_ || closed_.has_value()) return false;
  if (options_.scheduler != nullptr && options_.linger.count() > 0) {
    const auto since = options_.scheduler->now() - last_write_;
    if (since < options_.linger) {
      lingering_ = true;
      options_.scheduler->After(options_.linger - since,
                                [self = shared_from_this()] { self->AfterLinger(); });
      return false;
    }
  }
  return BeginWrite();
}

bool Stream::BeginWrite() {
  if (writing_ || closed_.has_value() || next_ == queue_.size()) return false;
  writing_ = true;
  if (options_.scheduler != nullptr) last_write_ = options_.scheduler->now();
  return true;
}

void Stream::AfterLinger() {
  bool write = false;
  {
    MutexLock lock(mutex_);
    lingering_ = false;
    write = BeginWrite();
  }
  if (write) Write();
}

// Everything that waits, up to the bound of one write. What is taken at once may be larger than
// that, and than what a gateway takes in one message: the rest of it stays at the front.
std::vector<Stream::Queued> Stream::TakeBatch() {
  std::vector<Queued> batch;
  for (size_t bytes = 0; next_ < queue_.size() && bytes < options_.write_bytes;) {
    if (auto* live = std::get_if<Live>(&queue_[next_])) {
      Live first = TakeFirst(*live, options_.write_bytes - bytes);
      const size_t first_bytes = BytesOf(first);
      bytes += first_bytes;
      live_bytes_ -= first_bytes;
      batch.emplace_back(std::move(first));
      if (live->events.empty()) ++next_;
    } else {
      batch.push_back(std::move(queue_[next_++]));
      bytes += std::get<v1::ServiceMessage>(batch.back()).ByteSizeLong();
      --control_;
    }
  }
  // A queue that is never quite empty does not grow by what has left it.
  if (next_ * 2 >= queue_.size()) {
    queue_.erase(queue_.begin(), queue_.begin() + static_cast<ptrdiff_t>(next_));
    next_ = 0;
  }
  return batch;
}

// Called by whoever began the write. The end waits for it: gRPC's stream stays valid.
void Stream::Write() {
  std::vector<Queued> batch;
  Encodings wanted;
  Adapter* adapter = nullptr;
  {
    MutexLock lock(mutex_);
    if (closed_.has_value()) {
      writing_ = false;
      return Finish();
    }
    batch = TakeBatch();
    wanted = wanted_;
    adapter = adapter_;
  }
  response_.Clear();
  for (Queued& queued : batch) {
    v1::ServiceMessage& message = *response_.add_messages();
    if (const auto* live = std::get_if<Live>(&queued)) {
      ToProto(*live, wanted, message.mutable_live());
    } else {
      message = std::move(std::get<v1::ServiceMessage>(queued));
    }
  }
  adapter->StartWrite(&response_);
}

void Stream::OnWriteDone(bool ok) {
  bool write = false;
  {
    MutexLock lock(mutex_);
    writing_ = false;
    if (!ok && !closed_.has_value())
      return CloseLocked(absl::UnavailableError("the gateway went away"));
    if (closed_.has_value()) return Finish();
    // What came while the write was under way waited long enough already.
    write = BeginWrite();
  }
  if (write) Write();
}

void Stream::CloseLocked(absl::Status status) {
  closed_ = std::move(status);
  queue_.clear();
  next_ = 0;
  if (!writing_) return Finish();
  // A peer that does not read would hold the write, and the end behind it, for ever. It sees
  // CANCELLED.
  context_->TryCancel();
}

void Stream::Finish() {
  if (finished_ || adapter_ == nullptr) return;
  finished_ = true;
  adapter_->Finish(ToGrpc(*closed_));
}

// gRPC's last call: no read or write is under way.
void Stream::OnDone() {
  absl::Status status;
  {
    MutexLock lock(mutex_);
    adapter_ = nullptr;
    if (!closed_.has_value()) closed_ = absl::UnavailableError("the stream ended");
    status = *closed_;
    queue_.clear();
    next_ = 0;
  }
  const std::shared_ptr<Stream> keep = shared_from_this();
  if (const auto session = std::exchange(session_, nullptr)) session->OnDetached(status);
  server_->Forget(keep);
}

void Stream::WatchSilence() {
  if (options_.scheduler == nullptr || options_.silence.count() == 0) return;
  options_.scheduler->After(options_.silence, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    bool silent = false;
    {
      MutexLock lock(self->mutex_);
      if (self->closed_.has_value()) return;
      silent = !std::exchange(self->heard_, false);
    }
    if (silent) return self->Close(absl::UnavailableError("the gateway is silent"));
    self->WatchSilence();
  });
}

}  // namespace

std::unique_ptr<GrpcLinkServer> MakeGrpcLinkServer(link::Service* service,
                                                   GrpcLinkServerOptions options) {
  return std::make_unique<Server>(service, options);
}

}  // namespace clarion::link
