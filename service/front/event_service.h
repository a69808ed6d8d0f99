// The EventService of the contract on gRPC's callback API: who answers which call.
#pragma once

#include "clarion/v1/event_service.grpc.pb.h"
#include "service/front/core.h"

namespace clarion::front {

// Register it with grpc::ServerBuilder. `core` outlives the server. WatchRunInputs is reserved:
// UNIMPLEMENTED.
class EventService final : public v1::EventService::CallbackService {
 public:
  explicit EventService(Core* core) : core_(*core) {}

  template <class Response>
  using Writer = grpc::ServerWriteReactor<Response>;
  using PublishReactor =
      grpc::ServerBidiReactor<v1::PublishStreamRequest, v1::PublishStreamResponse>;

  grpc::ServerUnaryReactor* Publish(grpc::CallbackServerContext* context,
                                    const v1::PublishRequest* request,
                                    v1::PublishResponse* response) override;
  PublishReactor* PublishStream(grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* StartRun(grpc::CallbackServerContext* context,
                                     const v1::StartRunRequest* request,
                                     v1::StartRunResponse* response) override;
  grpc::ServerUnaryReactor* AwaitReady(grpc::CallbackServerContext* context,
                                       const v1::AwaitReadyRequest* request,
                                       v1::AwaitReadyResponse* response) override;
  grpc::ServerUnaryReactor* BindThread(grpc::CallbackServerContext* context,
                                       const v1::BindThreadRequest* request,
                                       v1::BindThreadResponse* response) override;
  grpc::ServerUnaryReactor* GetConnections(grpc::CallbackServerContext* context,
                                           const v1::GetConnectionsRequest* request,
                                           v1::GetConnectionsResponse* response) override;
  Writer<v1::WatchConnectionsResponse>* WatchConnections(
      grpc::CallbackServerContext* context, const v1::WatchConnectionsRequest* request) override;
  grpc::ServerUnaryReactor* ListThreads(grpc::CallbackServerContext* context,
                                        const v1::ListThreadsRequest* request,
                                        v1::ListThreadsResponse* response) override;
  grpc::ServerUnaryReactor* ListEvents(grpc::CallbackServerContext* context,
                                       const v1::ListEventsRequest* request,
                                       v1::ListEventsResponse* response) override;
  grpc::ServerUnaryReactor* GetEvent(grpc::CallbackServerContext* context,
                                     const v1::GetEventRequest* request,
                                     v1::GetEventResponse* response) override;
  grpc::ServerUnaryReactor* CheckWiring(grpc::CallbackServerContext* context,
                                        const v1::CheckWiringRequest* request,
                                        v1::CheckWiringResponse* response) override;

 private:
  Core& core_;
};

}  // namespace clarion::front
