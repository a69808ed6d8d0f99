// What browsers ask for over HTTP besides files: streams, polls, frames for a connection, pages of
// a thread, lists of threads. See http/api_request.h.
#pragma once

#include <functional>
#include <memory>

#include "gateway/connection/context.h"
#include "gateway/http/api.h"
#include "proto/link/link.h"

namespace clarion::gateway {

// Of one loop, on its thread only. What it was given outlives it, and it outlives its questions.
class BrowserApi final : public Api {
 public:
  BrowserApi(ConnectionContext& context, link::Link& link) : context_(context), link_(link) {}

  void Stream(ApiRequest request, Socket socket, std::function<void()> on_end) override;
  std::shared_ptr<Question> Ask(ApiRequest request,
                                std::function<void(HttpResponse)> done) override;
  // From now on nobody is let in any more: they come back elsewhere.
  void BeginDrain() { draining_ = true; }

 private:
  std::shared_ptr<Question> AnswerSoon(std::function<void(HttpResponse)> done,
                                       HttpResponse response);

  ConnectionContext& context_;
  link::Link& link_;
  bool draining_ = false;
};

}  // namespace clarion::gateway
