#include "service/ctl/requests.h"

#include <algorithm>
#include <cmath>

#include "service/ctl/position_text.h"

namespace clarion::ctl {
namespace {

absl::Status SetPosition(const std::string& flag, const std::string& text, v1::Position* to) {
  const auto position = ParsePosition(text);
  if (!position) return absl::InvalidArgumentError(flag + " must be EPOCH:OFFSET");
  to->set_epoch(position->epoch.str());
  to->set_offset(position->offset.value());
  return absl::OkStatus();
}

}  // namespace

uint32_t PageSize(uint64_t limit, uint64_t left) {
  return limit == 0 ? kMaxPage : static_cast<uint32_t>(std::min<uint64_t>(left, kMaxPage));
}

v1::ListThreadsRequest ThreadsRequest(const ThreadsOptions& options) {
  v1::ListThreadsRequest request;
  request.set_user_id(options.user);
  return request;
}

v1::GetConnectionsRequest ConnectionsRequest(const ConnectionsOptions& options) {
  v1::GetConnectionsRequest request;
  request.set_user_id(options.user);
  request.set_thread_id(options.thread);
  request.set_include_gone(options.gone);
  return request;
}

v1::WatchConnectionsRequest WatchRequest(const ConnectionsOptions& options) {
  v1::WatchConnectionsRequest request;
  request.set_user_id(options.user);
  request.set_thread_id(options.thread);
  return request;
}

absl::StatusOr<v1::ListEventsRequest> EventsRequest(const EventsOptions& options) {
  v1::ListEventsRequest request;
  request.set_thread_id(options.thread);
  request.set_user_id(options.user);
  if (!options.after.empty()) {
    auto status = SetPosition("--after", options.after, request.mutable_after());
    if (!status.ok()) return status;
  }
  if (!options.before.empty()) {
    auto status = SetPosition("--before", options.before, request.mutable_before());
    if (!status.ok()) return status;
  }
  return request;
}

absl::StatusOr<v1::ListUndeliveredRequest> UndeliveredRequest(const UndeliveredOptions& options) {
  v1::ListUndeliveredRequest request;
  request.set_user_id(options.user);
  request.set_thread_id(options.thread);
  if (options.state == "pending") {
    request.set_state(v1::UNDELIVERED_STATE_PENDING);
  } else if (options.state == "expired") {
    request.set_state(v1::UNDELIVERED_STATE_EXPIRED);
  } else if (!options.state.empty()) {
    return absl::InvalidArgumentError("--state must be pending or expired");
  }
  return request;
}

v1::CheckWiringRequest CheckRequest(const CheckOptions& options) {
  v1::CheckWiringRequest request;
  for (const std::string& gateway : options.gateways) request.add_gateway_ids(gateway);
  const double whole = std::floor(options.canary_seconds);
  request.mutable_timeout()->set_seconds(static_cast<int64_t>(whole));
  request.mutable_timeout()->set_nanos(
      static_cast<int32_t>((options.canary_seconds - whole) * 1e9));
  return request;
}

}  // namespace clarion::ctl
