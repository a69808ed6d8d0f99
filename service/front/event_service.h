// The EventService of the contract on gRPC's callback API: who answers which call.
#pragma once

#include "clarion/v1/event_service.grpc.pb.h"
#include "service/front/core.h"

namespace clarion::front {

// Register it with grpc::ServerBuilder. `core` outlives the server. WatchRunInputs is reserved:
// UNIMPLEMENTED.
class EventService final : public v1::EventService::CallbackService {
 public:
  explicit EventService(Core* core);

 private:
  template <class Request, class Response>
  using Answer = grpc::ServerUnaryReactor* (*)(Core&, grpc::CallbackServerContext*, const Request*,
                                               Response*);
  template <class Request, class Response>
  using Follow = grpc::ServerWriteReactor<Response>* (*)(Core&, grpc::CallbackServerContext*,
                                                         const Request*);

  // What answers a call; bytes that are no request never come that far.
  template <class Request, class Response>
  void Serve(const char* rpc, Answer<Request, Response> answer);
  template <class Request, class Response>
  void Serve(const char* rpc, Follow<Request, Response> follow);
  void ServePublishStream();

  Core& core_;
};

}  // namespace clarion::front
