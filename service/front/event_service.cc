#include "service/front/event_service.h"

#include "service/front/connections.h"
#include "service/front/publish.h"
#include "service/front/publish_stream.h"
#include "service/front/read.h"
#include "service/front/ready.h"
#include "service/front/run_calls.h"
#include "service/front/wiring.h"

namespace clarion::front {

EventService::PublishReactor* EventService::PublishStream(grpc::CallbackServerContext* context) {
  return front::PublishStream(core_, context);
}

EventService::Writer<v1::WatchConnectionsResponse>* EventService::WatchConnections(
    grpc::CallbackServerContext* context, const v1::WatchConnectionsRequest* request) {
  return front::WatchConnections(core_, context, request);
}

grpc::ServerUnaryReactor* EventService::Publish(grpc::CallbackServerContext* context,
                                                const v1::PublishRequest* request,
                                                v1::PublishResponse* response) {
  return front::Publish(core_, context, request, response);
}

grpc::ServerUnaryReactor* EventService::StartRun(grpc::CallbackServerContext* context,
                                                 const v1::StartRunRequest* request,
                                                 v1::StartRunResponse* response) {
  return front::StartRun(core_, context, request, response);
}

grpc::ServerUnaryReactor* EventService::AwaitReady(grpc::CallbackServerContext* context,
                                                   const v1::AwaitReadyRequest* request,
                                                   v1::AwaitReadyResponse* response) {
  return front::AwaitReady(core_, context, request, response);
}

grpc::ServerUnaryReactor* EventService::BindThread(grpc::CallbackServerContext* context,
                                                   const v1::BindThreadRequest* request,
                                                   v1::BindThreadResponse* response) {
  return front::BindThread(core_, context, request, response);
}

grpc::ServerUnaryReactor* EventService::GetConnections(grpc::CallbackServerContext* context,
                                                       const v1::GetConnectionsRequest* request,
                                                       v1::GetConnectionsResponse* response) {
  return front::GetConnections(core_, context, request, response);
}

grpc::ServerUnaryReactor* EventService::ListThreads(grpc::CallbackServerContext* context,
                                                    const v1::ListThreadsRequest* request,
                                                    v1::ListThreadsResponse* response) {
  return front::ListThreads(core_, context, request, response);
}

grpc::ServerUnaryReactor* EventService::ListEvents(grpc::CallbackServerContext* context,
                                                   const v1::ListEventsRequest* request,
                                                   v1::ListEventsResponse* response) {
  return front::ListEvents(core_, context, request, response);
}

grpc::ServerUnaryReactor* EventService::GetEvent(grpc::CallbackServerContext* context,
                                                 const v1::GetEventRequest* request,
                                                 v1::GetEventResponse* response) {
  return front::GetEvent(core_, context, request, response);
}

grpc::ServerUnaryReactor* EventService::CheckWiring(grpc::CallbackServerContext* context,
                                                    const v1::CheckWiringRequest* request,
                                                    v1::CheckWiringResponse* response) {
  return front::CheckWiring(core_, context, request, response);
}

}  // namespace clarion::front
