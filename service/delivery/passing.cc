#include "service/delivery/passing.h"

#include <chrono>
#include <string>
#include <utility>

#include "proto/contract/error.h"

namespace clarion::delivery {
namespace {

constexpr std::chrono::seconds kRetryAfter{1};

absl::Status StatusOf(const v1::FramesDelivered& delivered, const UserId& user) {
  const Reason reason = ReasonFromName(delivered.reason()).value_or(Reason::kGatewayUnavailable);
  const absl::Status status = MakeError(reason, delivered.message(), {.user_id = user.str()});
  if (delivered.next_sequence() == 0) return status;
  v1::FramesPassed passed;
  passed.set_next_sequence(delivered.next_sequence());
  return WithDetail(status, passed);
}

}  // namespace

absl::Status Passing::Room(const Connection& connection, size_t bytes) const {
  const auto of_connection = by_connection_.find(&connection);
  const bool full_for_it = of_connection != by_connection_.end() &&
                           of_connection->second.size() >= limits_.calls_per_connection;
  const bool full = calls_.size() >= limits_.calls || bytes_ + bytes > limits_.bytes;
  if (!full && !full_for_it) return absl::OkStatus();
  return WithRetryAfter(
      MakeError(Reason::kRateLimited,
                full_for_it ? "too many frames are on their way to this connection"
                            : "too many frames are on their way to other gateways",
                {.user_id = connection.user.str()}),
      kRetryAfter);
}

uint64_t Passing::Add(const Connection& connection, size_t bytes, link::AskCallback done) {
  const uint64_t id = ++last_id_;
  bytes_ += bytes;
  by_connection_[&connection].push_back(id);
  calls_.emplace(id, Call{.connection = &connection,
                          .attached = connection.attached,
                          .bytes = bytes,
                          .done = std::move(done)});
  return id;
}

void Passing::SetTimer(uint64_t id, Scheduler::TimerId timer) {
  const auto found = calls_.find(id);
  if (found != calls_.end()) found->second.timer = timer;
}

void Passing::OnDelivered(const Attached& attached, const v1::FramesDelivered& delivered,
                          Deferred& after) {
  const auto found = calls_.find(delivered.deliver_id());
  if (found == calls_.end() || found->second.attached != &attached) return;
  if (!delivered.reason().empty()) {
    return Answer(found->first, StatusOf(delivered, found->second.connection->user), after);
  }
  v1::AskResponse response;
  response.mutable_pass_frames()->set_next_sequence(delivered.next_sequence());
  Answer(found->first, std::move(response), after);
}

void Passing::OnGone(const Connection& connection, Deferred& after) {
  const auto found = by_connection_.find(&connection);
  if (found == by_connection_.end()) return;
  const absl::Status status =
      MakeError(Reason::kGatewayUnavailable,
                "the connection went before its gateway said that it has the frames",
                {.user_id = connection.user.str()});
  const std::vector<uint64_t> ids = found->second;  // Answer() takes out of the list
  for (const uint64_t id : ids) Answer(id, status, after);
}

void Passing::Fail(uint64_t id, const absl::Status& status, Deferred& after) {
  Answer(id, status, after);
}

void Passing::EndAll(const absl::Status& status, Deferred& after) {
  while (!calls_.empty()) Answer(calls_.begin()->first, status, after);
}

void Passing::Answer(uint64_t id, absl::StatusOr<v1::AskResponse> answer, Deferred& after) {
  auto call = calls_.extract(id);
  if (call.empty()) return;
  const auto of_connection = by_connection_.find(call.mapped().connection);
  std::erase(of_connection->second, id);
  if (of_connection->second.empty()) by_connection_.erase(of_connection);
  bytes_ -= call.mapped().bytes;
  after.Add([timer = call.mapped().timer, done = std::move(call.mapped().done),
             answer = std::move(answer), scheduler = scheduler_]() mutable {
    if (timer != 0) scheduler->Cancel(timer);
    done(std::move(answer));
  });
}

}  // namespace clarion::delivery
