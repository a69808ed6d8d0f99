// CheckWiring: one canary of every event type through encoder, log, link, gateway and a WebSocket
// that the gateway opens to itself.
#pragma once

#include <functional>

#include "clarion/v1/event_service.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/front/core.h"

namespace clarion::front {

grpc::ServerUnaryReactor* CheckWiring(Core& core, grpc::CallbackServerContext* context,
                                      const v1::CheckWiringRequest* request,
                                      v1::CheckWiringResponse* response);

// Erases what checks of a process that died have left in the log. `done` is called once, on any
// thread.
void SweepCanaries(log::Log* log, std::function<void(absl::Status)> done);

}  // namespace clarion::front
