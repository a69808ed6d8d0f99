// Publishes batches over PublishStream so that each event is accepted once and in order: what was
// not answered is sent again on a new stream, what was refused for the moment is sent again after
// a while, and idempotency sorts out the rest.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "clarion/v1/event_service.grpc.pb.h"
#include "proto/base/scheduler.h"
#include "service/ctl/client.h"

namespace clarion::ctl {

class PublishSession {
 public:
  // `give_up`: an error after no event was accepted, or refused for good, for so long.
  PublishSession(Client::Stub& stub, std::chrono::milliseconds give_up);
  ~PublishSession();

  // One result for each event, in their order: `report(index, result)`. At most 1,024 events, 1
  // MiB. An error: the events without a report may or may not have been accepted.
  absl::Status Publish(const std::vector<v1::Event>& events,
                       const std::function<void(size_t, const v1::PublishResult&)>& report);

 private:
  struct Stream;
  // An event that has no final result yet.
  struct Waiting {
    size_t index;
    const v1::Event* event;
    // Refused for the moment, and not only for what was refused before it.
    bool stopped_its_thread = false;
  };
  struct Round {
    std::vector<Waiting> again;
    std::chrono::milliseconds pause{0};
    size_t settled = 0;
    absl::Status status;
    v1::PublishResult last_refusal;
  };

  Round Send(const std::vector<Waiting>& waiting,
             const std::function<void(size_t, const v1::PublishResult&)>& report);
  void Settle(const Waiting& waiting, const v1::PublishResult& result, Round* round,
              const std::function<void(size_t, const v1::PublishResult&)>& report);

  Client::Stub& stub_;
  const std::chrono::milliseconds give_up_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace clarion::ctl
