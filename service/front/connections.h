// GetConnections and WatchConnections.
#pragma once

#include "clarion/v1/event_service.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/front/core.h"

namespace clarion::front {

grpc::ServerUnaryReactor* GetConnections(Core& core, grpc::CallbackServerContext* context,
                                         const v1::GetConnectionsRequest* request,
                                         v1::GetConnectionsResponse* response);
grpc::ServerWriteReactor<v1::WatchConnectionsResponse>* WatchConnections(
    Core& core, grpc::CallbackServerContext* context, const v1::WatchConnectionsRequest* request);

}  // namespace clarion::front
