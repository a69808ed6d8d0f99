// ListThreads, ListEvents, GetEvent: what the log holds.
#pragma once

#include "clarion/v1/event_service.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/front/core.h"

namespace clarion::front {

grpc::ServerUnaryReactor* ListThreads(Core& core, grpc::CallbackServerContext* context,
                                      const v1::ListThreadsRequest* request,
                                      v1::ListThreadsResponse* response);
grpc::ServerUnaryReactor* ListEvents(Core& core, grpc::CallbackServerContext* context,
                                     const v1::ListEventsRequest* request,
                                     v1::ListEventsResponse* response);
grpc::ServerUnaryReactor* GetEvent(Core& core, grpc::CallbackServerContext* context,
                                   const v1::GetEventRequest* request,
                                   v1::GetEventResponse* response);

}  // namespace clarion::front
