// DeleteThread, DeleteUser.
#pragma once

#include "clarion/v1/event_service.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/front/core.h"

namespace clarion::front {

grpc::ServerUnaryReactor* DeleteThread(Core& core, grpc::CallbackServerContext* context,
                                       const v1::DeleteThreadRequest* request,
                                       v1::DeleteThreadResponse* response);
grpc::ServerUnaryReactor* DeleteUser(Core& core, grpc::CallbackServerContext* context,
                                     const v1::DeleteUserRequest* request,
                                     v1::DeleteUserResponse* response);

}  // namespace clarion::front
