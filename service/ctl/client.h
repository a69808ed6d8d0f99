// Calls of EventService, with deadline and typed errors.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "clarion/v1/event_service.grpc.pb.h"
#include "grpcpp/client_context.h"
#include "proto/contract/error.h"
#include "service/ctl/program.h"

namespace clarion::ctl {

class Client {
 public:
  using Stub = v1::EventService::Stub;
  template <class Request, class Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  // CONTEXT_INVALID when a TLS file cannot be read.
  static absl::StatusOr<Client> Make(const Globals& globals);

  // Ends with DEADLINE_EXCEEDED after --timeout and `longer`.
  template <class Request, class Response>
  absl::StatusOr<Response> Call(Method<Request, Response> method, const Request& request,
                                std::chrono::milliseconds longer = {}) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + timeout_ + longer);
    Response response;
    if (const auto status = (stub_.get()->*method)(&context, request, &response); !status.ok()) {
      return FromGrpc(status);
    }
    return response;
  }

  Stub& stub() { return *stub_; }

 private:
  Client(std::unique_ptr<Stub> stub, std::chrono::milliseconds timeout)
      : stub_(std::move(stub)), timeout_(timeout) {}

  std::unique_ptr<Stub> stub_;
  std::chrono::milliseconds timeout_;
};

}  // namespace clarion::ctl
