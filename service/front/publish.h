// Publish, and what a stream's events share with it.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "clarion/v1/event_service.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/front/core.h"

namespace clarion::front {

grpc::ServerUnaryReactor* Publish(Core& core, grpc::CallbackServerContext* context,
                                  const v1::PublishRequest* request, v1::PublishResponse* response);

// Whether `wait_for` is served.
enum class Waiting : uint8_t { kServed, kRefused };

// Checks a request and makes its event what the log takes; completes the event in place. Paths of
// faults begin at the request. No error here goes away by sending the same again.
absl::StatusOr<log::AppendItem> Prepare(const Core& core, v1::PublishRequest* request,
                                        Waiting waiting, const CallFacts& facts);

// User, thread and run of the request's event.
ErrorContext ContextOf(const v1::PublishRequest& request, const CallFacts& facts);

}  // namespace clarion::front
