#include "service/front/connections.h"

#include <chrono>
#include <memory>
#include <utility>

#include "proto/base/text.h"
#include "service/front/request.h"
#include "service/front/write_call.h"

namespace clarion::front {
namespace {

template <class Request>
absl::Status Check(const Request& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request)
      .OptionalUser("user_id", request.user_id())
      .OptionalId("thread_id", request.thread_id());
  if (request.user_id().empty() && request.thread_id().empty()) {
    fields.Fault("user_id", "user_id or thread_id is required");
  }
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

// How long a caller that lags too far behind has to take what is under way, and learn why.
constexpr std::chrono::seconds kGrace{2};

// One call of WatchConnections. Its queue is bounded; an overflow ends it: with BUFFER_OVERFLOW, or
// CANCELLED for a caller that does not read at all.
class ConnectionsCall final : public WriteCall<v1::WatchConnectionsResponse> {
 public:
  using WriteCall::WriteCall;

  void Begin(const v1::WatchConnectionsRequest& request) {
    if (!Open()) return;
    if (absl::Status status = Check(request, context()); !status.ok()) return End(status);
    // The caller learns that the watch stands when it does, also when there is nothing to tell yet.
    HoldMetadata();
    Hold(core().delivery->WatchConnections(
        UserId(request.user_id()), ThreadId(request.thread_id()),
        std::make_shared<Listener>(weak_self<ConnectionsCall>())));
    SendMetadata();
  }

 private:
  // What delivery holds: it must not keep the call alive, nor the other way round.
  class Listener : public delivery::ConnectionWatcher {
   public:
    explicit Listener(std::weak_ptr<ConnectionsCall> watch) : watch_(std::move(watch)) {}
    void OnChange(const v1::Connection& connection, bool snapshot) override {
      if (const auto watch = watch_.lock()) watch->OnChange(connection, snapshot);
    }
    void OnEnded(const absl::Status& status) override {
      if (const auto watch = watch_.lock()) watch->End(status);
    }

   private:
    const std::weak_ptr<ConnectionsCall> watch_;
  };

  // One at a time.
  void OnChange(const v1::Connection& connection, bool snapshot) {
    v1::WatchConnectionsResponse change;
    change.set_sequence(++sequence_);
    *change.mutable_connection() = connection;
    change.set_snapshot(snapshot);
    const size_t queued = Push(std::move(change));
    // The first picture has its own bound (GetConnections); what follows must be read.
    if (snapshot) {
      ++snapshots_;
    } else if (queued > core().options.watch_queue + snapshots_) {
      OnOverflow();
    }
  }

  void OnOverflow() {
    End(MakeError(Reason::kBufferOverflow,
                  Concat("the caller lags more than ", core().options.watch_queue,
                         " changes behind; watch again")));
    core().scheduler->After(kGrace, [weak = weak_self<ConnectionsCall>()] {
      if (const auto self = weak.lock()) self->CancelUnlessDone();
    });
  }

  uint64_t sequence_ = 0;
  size_t snapshots_ = 0;
};

}  // namespace

grpc::ServerUnaryReactor* GetConnections(Core& core, grpc::CallbackServerContext* context,
                                         const v1::GetConnectionsRequest* request,
                                         v1::GetConnectionsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const ErrorContext about =
      CallFacts(*context, "GetConnections").Context(request->user_id(), request->thread_id());
  absl::Status status = core.Serving();
  if (status.ok()) status = Check(*request, about);
  if (!status.ok()) {
    reactor->Finish(core.Fail(status, about));
    return reactor;
  }
  for (v1::Connection& connection : core.delivery->GetConnections(
           UserId(request->user_id()), ThreadId(request->thread_id()), request->include_gone())) {
    *response->add_connections() = std::move(connection);
  }
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<v1::WatchConnectionsResponse>* WatchConnections(
    Core& core, grpc::CallbackServerContext* context, const v1::WatchConnectionsRequest* request) {
  auto watch = std::make_shared<ConnectionsCall>(
      core, context,
      CallFacts(*context, "WatchConnections").Context(request->user_id(), request->thread_id()));
  watch->Begin(*request);
  return watch.get();
}

}  // namespace clarion::front
