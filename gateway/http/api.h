// Requests that ask for more than files, as an HTTP session hands them on.
#pragma once

#include <functional>
#include <memory>

#include "gateway/http/api_request.h"
#include "gateway/http/responder.h"
#include "gateway/loop_types.h"

namespace clarion::gateway {

// Who serves them. On the loop's thread only.
class Api {
 public:
  virtual ~Api() = default;
  // kStream, kFollow: takes the socket. `on_end` is called once, when all is over.
  virtual void Stream(ApiRequest request, Socket socket, std::function<void()> on_end) = 0;
  // The others: one answer.
  class Question {
   public:
    virtual ~Question() = default;
    // The answer is in the socket; or it never will be: whoever asked is gone.
    virtual void Written(bool whole) = 0;
  };
  // `done` is called once, not inside the call; perhaps never, or in vain, after Written. Whoever
  // asks keeps the question until then.
  virtual std::shared_ptr<Question> Ask(ApiRequest request,
                                        std::function<void(HttpResponse)> done) = 0;
};

}  // namespace clarion::gateway
