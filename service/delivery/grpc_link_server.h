// The service's end of the link over gRPC: GatewayService on the callback API.
//
// Live events and control leave in batches: at once while traffic is thin, gathered for at most
// `linger` while it is dense. An event crosses as its stored bytes, in the encodings that the
// gateway's Hello asked for.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

#include "clarion/v1/gateway_service.grpc.pb.h"
#include "proto/base/scheduler.h"
#include "proto/link/link.h"

namespace clarion::link {

struct GrpcLinkServerOptions {
  // Live bytes (of events) that may wait for one gateway before SendLive answers false.
  size_t live_bytes = 4 * 1024 * 1024;
  // Control messages that may wait besides.
  size_t control_messages = 100'000;
  // What one write carries: it is closed when its bytes reach this, in the middle of a run of
  // events if need be.
  size_t write_bytes = 1024 * 1024;
  // While less than this has passed since the last write began, messages wait for more.
  std::chrono::microseconds linger{500};
  // A gateway that said nothing for so long is gone. Gateways say Heartbeat every 5 s.
  std::chrono::milliseconds silence{16'000};
  // Keeps the time of both; outlives the server. Null: never lingers, never takes silence for
  // death.
  Scheduler* scheduler = nullptr;
};

// Register it with grpc::ServerBuilder (it is a grpc::Service). Thread-safe.
class GrpcLinkServer : public v1::GatewayService::CallbackService {
 public:
  // Ends every attachment with UNAVAILABLE and refuses new ones; call it before
  // grpc::Server::Shutdown, which waits for the streams. Sessions get their OnDetached. More calls
  // do nothing.
  virtual void Stop() = 0;
};

// `service` outlives the grpc::Server that serves it.
std::unique_ptr<GrpcLinkServer> MakeGrpcLinkServer(Service* service,
                                                   GrpcLinkServerOptions options = {});

}  // namespace clarion::link
