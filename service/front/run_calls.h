// Runs as calls; service/runs/ does the work.
#pragma once

#include "clarion/v1/event_service.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/front/core.h"

namespace clarion::front {

grpc::ServerUnaryReactor* StartRun(Core& core, grpc::CallbackServerContext* context,
                                   const v1::StartRunRequest* request,
                                   v1::StartRunResponse* response);

grpc::ServerUnaryReactor* GetRun(Core& core, grpc::CallbackServerContext* context,
                                 const v1::GetRunRequest* request, v1::GetRunResponse* response);
grpc::ServerUnaryReactor* RenewRun(Core& core, grpc::CallbackServerContext* context,
                                   const v1::RenewRunRequest* request,
                                   v1::RenewRunResponse* response);

}  // namespace clarion::front
