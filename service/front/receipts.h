// WatchReceipts.
#pragma once

#include "clarion/v1/event_service.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/front/core.h"

namespace clarion::front {

grpc::ServerWriteReactor<v1::WatchReceiptsResponse>* WatchReceipts(
    Core& core, grpc::CallbackServerContext* context, const v1::WatchReceiptsRequest* request);

}  // namespace clarion::front
