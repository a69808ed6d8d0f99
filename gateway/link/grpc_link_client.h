// The gateway's end of the link over gRPC: one Attach stream per loop, pages on unary calls.
//
// It connects by itself, and again after every end, with exponential backoff and full jitter. A
// service that is silent for three heartbeats counts as gone.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "boost/asio/io_context.hpp"
#include "grpcpp/security/credentials.h"
#include "proto/link/link.h"

namespace clarion::link {

struct GrpcLinkOptions {
  std::string target;  // "127.0.0.1:7700"
  // Null: plaintext.
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  std::chrono::milliseconds heartbeat{5'000};
  std::chrono::milliseconds backoff_first{50};
  std::chrono::milliseconds backoff_most{5'000};
  // After GATEWAY_DISPLACED.
  std::chrono::milliseconds displaced_first{1'000};
  std::chrono::milliseconds displaced_most{30'000};
  std::chrono::milliseconds page_timeout{10'000};
  // Of questions: longer than the service waits for other gateways.
  std::chrono::milliseconds ask_timeout{15'000};
  // What was received and waits for the loop: beyond this nothing more is read, and the service's
  // own bound fills (then it says Lagging).
  size_t inbox_bytes = 4 * 1024 * 1024;
  // Messages that wait for the service at most; beyond this the stream counts as broken.
  size_t outbox_messages = 1'000'000;
};

// For the loop that runs `loop`, which outlives the link.
std::unique_ptr<Link> MakeGrpcLink(boost::asio::io_context& loop, GrpcLinkOptions options);

}  // namespace clarion::link
