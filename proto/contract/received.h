// A gRPC request as it arrived: the one place where bytes become a request.
//
// gRPC answers bytes that do not parse by itself: UNIMPLEMENTED without details, and on a stream as
// if the caller had half-closed. It answers messages over its own limit without details too. A
// method whose handler is marked with Received<Request> learns of both instead:
//
//   MarkMethodCallback(MethodIndex(service_full_name(), "Publish"),
//                      new grpc::internal::CallbackUnaryHandler<Received<PublishRequest>,
//                                                               PublishResponse>(…));
#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "google/protobuf/message.h"
#include "grpcpp/impl/codegen/serialization_traits.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/status.h"

namespace clarion {

// Larger requests are not even parsed.
inline constexpr size_t kMaxRequestBytes = 4 * 1024 * 1024;
// What a server must set as its limit, so that what lies between is answered with a reason. Beyond
// it gRPC answers RESOURCE_EXHAUSTED by itself.
inline constexpr size_t kMaxReceiveBytes = 4 * kMaxRequestBytes;

template <class Request>
struct Received {
  Request message;
  // Not OK: there is no message. CONTEXT_INVALID for bytes that are none, BUFFER_OVERFLOW for more
  // than kMaxRequestBytes.
  absl::Status status;
};

// Takes `bytes`. The status of Received.
absl::Status ParseRequest(grpc::ByteBuffer* bytes, google::protobuf::Message* message);

// The place of a method in its service, as grpc::Service counts.
int MethodIndex(const char* service, const char* method);

}  // namespace clarion

template <class Request>
class grpc::SerializationTraits<clarion::Received<Request>> {
 public:
  static grpc::Status Deserialize(grpc::ByteBuffer* bytes, clarion::Received<Request>* received) {
    received->status = clarion::ParseRequest(bytes, &received->message);
    return grpc::Status::OK;
  }
};
