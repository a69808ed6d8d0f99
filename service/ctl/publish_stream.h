// Publishes events over PublishStream so that each is accepted once and in order: what was not
// answered is sent again on a new stream, what was refused for the moment is sent again after a
// while, and idempotency sorts out the rest.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "clarion/v1/event_service.grpc.pb.h"
#include "proto/base/scheduler.h"
#include "service/ctl/client.h"

namespace clarion::ctl {

// BUFFER_OVERFLOW: no gRPC message holds the event.
absl::Status CheckFits(const v1::Event& event);

class PublishSession {
 public:
  using Report = std::function<void(size_t index, const v1::PublishResult&)>;

  // `give_up`: an error after no event was accepted, or refused for good, for so long.
  PublishSession(Client::Stub& stub, std::chrono::milliseconds give_up);
  ~PublishSession();

  // One result for each event, in batches of the size that the service takes. Each of them passed
  // CheckFits. An error: the events without a report may or may not have been accepted.
  absl::Status Publish(const std::vector<v1::Event>& events, const Report& report);

 private:
  using Time = std::chrono::steady_clock::time_point;
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

  // One batch.
  absl::Status Publish(std::vector<Waiting> waiting, const Report& report);
  absl::Status PublishOneByOne(const std::vector<Waiting>& waiting, const absl::Status& why,
                               const Report& report);
  Round Send(const std::vector<Waiting>& waiting, const Report& report);
  bool Exchange(const v1::PublishStreamRequest& request, const std::vector<Waiting>& waiting,
                size_t* answered, Round* round, const Report& report);
  void Settle(const Waiting& waiting, const v1::PublishResult& result, Round* round,
              const Report& report);
  // Cancels the stream at give_up_at_, unless disarmed before (then true).
  void Arm();
  bool Disarm() { return scheduler_->Cancel(timer_); }

  Client::Stub& stub_;
  const std::chrono::milliseconds give_up_;
  Time give_up_at_;
  std::unique_ptr<Scheduler> scheduler_;
  Scheduler::TimerId timer_ = 0;
  std::unique_ptr<Stream> stream_;
};

}  // namespace clarion::ctl
