#include "service/front/event_service.h"

#include "proto/contract/received.h"
#include "service/front/connections.h"
#include "service/front/erase.h"
#include "service/front/ledger.h"
#include "service/front/publish.h"
#include "service/front/publish_stream.h"
#include "service/front/read.h"
#include "service/front/ready.h"
#include "service/front/receipts.h"
#include "service/front/run_calls.h"
#include "service/front/wiring.h"

namespace clarion::front {
namespace {

using grpc::internal::CallbackBidiHandler;
using grpc::internal::CallbackServerStreamingHandler;
using grpc::internal::CallbackUnaryHandler;

// Ends a call that would have gone on.
template <class Response>
class Ended final : public grpc::ServerWriteReactor<Response> {
 public:
  explicit Ended(const grpc::Status& status) { this->Finish(status); }
  void OnDone() override { delete this; }
};

int IndexOf(const char* rpc) {
  return MethodIndex(v1::EventService::service_full_name(), rpc);
}

}  // namespace

EventService::EventService(Core* core) : core_(*core) {
  Serve("Publish", front::Publish);
  ServePublishStream();
  Serve("StartRun", front::StartRun);
  Serve("GetRun", front::GetRun);
  Serve("RenewRun", front::RenewRun);
  Serve("AwaitReady", front::AwaitReady);
  Serve("BindThread", front::BindThread);
  Serve("GetConnections", front::GetConnections);
  Serve("WatchConnections", front::WatchConnections);
  Serve("ListThreads", front::ListThreads);
  Serve("ListEvents", front::ListEvents);
  Serve("GetEvent", front::GetEvent);
  Serve("WatchReceipts", front::WatchReceipts);
  Serve("ListUndelivered", front::ListUndelivered);
  Serve("GetLedger", front::GetLedger);
  Serve("DeleteThread", front::DeleteThread);
  Serve("DeleteUser", front::DeleteUser);
  Serve("CheckWiring", front::CheckWiring);
}

template <class Request, class Response>
void EventService::Serve(const char* rpc, Answer<Request, Response> answer) {
  MarkMethodCallback(
      IndexOf(rpc),
      new CallbackUnaryHandler<Received<Request>, Response>(
          [this, rpc, answer](grpc::CallbackServerContext* context,
                              const Received<Request>* request, Response* response) {
            if (request->status.ok()) return answer(core_, context, &request->message, response);
            grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
            reactor->Finish(core_.Fail(request->status, CallFacts(*context, rpc).Context()));
            return reactor;
          }));
}

template <class Request, class Response>
void EventService::Serve(const char* rpc, Follow<Request, Response> follow) {
  using Reactor = grpc::ServerWriteReactor<Response>;
  MarkMethodCallback(IndexOf(rpc),
                     new CallbackServerStreamingHandler<Received<Request>, Response>(
                         [this, rpc, follow](grpc::CallbackServerContext* context,
                                             const Received<Request>* request) -> Reactor* {
                           if (request->status.ok())
                             return follow(core_, context, &request->message);
                           return new Ended<Response>(
                               core_.Fail(request->status, CallFacts(*context, rpc).Context()));
                         }));
}

void EventService::ServePublishStream() {
  MarkMethodCallback(
      IndexOf("PublishStream"),
      new CallbackBidiHandler<Received<v1::PublishStreamRequest>, v1::PublishStreamResponse>(
          [this](grpc::CallbackServerContext* context) {
            return front::PublishStream(core_, context);
          }));
}

}  // namespace clarion::front
