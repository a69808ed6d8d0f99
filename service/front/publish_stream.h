// PublishStream: many events on one call.
//
// Each event of a thread is appended after the one before it on the stream was answered, in batches
// of whatever gathered meanwhile; threads do not wait for each other. So an event that the log
// refuses for now is known before any later event of its thread is tried, and those are refused
// ABORTED until the client says `resumes`: order survives retries.
#pragma once

#include "clarion/v1/event_service.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "proto/contract/received.h"
#include "service/front/core.h"

namespace clarion::front {

using PublishStreamReactor =
    grpc::ServerBidiReactor<Received<v1::PublishStreamRequest>, v1::PublishStreamResponse>;

PublishStreamReactor* PublishStream(Core& core, grpc::CallbackServerContext* context);

}  // namespace clarion::front
