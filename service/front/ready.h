// AwaitReady and BindThread.
#pragma once

#include "clarion/v1/event_service.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/front/core.h"

namespace clarion::front {

grpc::ServerUnaryReactor* AwaitReady(Core& core, grpc::CallbackServerContext* context,
                                     const v1::AwaitReadyRequest* request,
                                     v1::AwaitReadyResponse* response);
grpc::ServerUnaryReactor* BindThread(Core& core, grpc::CallbackServerContext* context,
                                     const v1::BindThreadRequest* request,
                                     v1::BindThreadResponse* response);

}  // namespace clarion::front
