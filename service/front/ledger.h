// GetLedger, ListUndelivered: what became of all that was accepted.
#pragma once

#include "clarion/v1/event_service.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/front/core.h"

namespace clarion::front {

grpc::ServerUnaryReactor* GetLedger(Core& core, grpc::CallbackServerContext* context,
                                    const v1::GetLedgerRequest* request,
                                    v1::GetLedgerResponse* response);
grpc::ServerUnaryReactor* ListUndelivered(Core& core, grpc::CallbackServerContext* context,
                                          const v1::ListUndeliveredRequest* request,
                                          v1::ListUndeliveredResponse* response);

}  // namespace clarion::front
