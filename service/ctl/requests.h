// From a command's options to the request it sends.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "clarion/v1/event_service.pb.h"

namespace clarion::ctl {

// The service's bound on a page.
inline constexpr uint32_t kMaxPage = 1000;

// `limit` 0: no bound. Otherwise `left` of it are still wanted.
uint32_t PageSize(uint64_t limit, uint64_t left);

struct ThreadsOptions {
  std::string user;
  uint64_t limit = 100;
};
v1::ListThreadsRequest ThreadsRequest(const ThreadsOptions& options);

struct ConnectionsOptions {
  std::string user;
  std::string thread;
  bool gone = false;
  bool watch = false;
};
v1::GetConnectionsRequest ConnectionsRequest(const ConnectionsOptions& options);
v1::WatchConnectionsRequest WatchRequest(const ConnectionsOptions& options);

struct EventsOptions {
  std::string thread;
  std::string user;
  std::string after;
  std::string before;
  uint64_t limit = 100;
};
// The error is one sentence that names the flag. `before` with limit 0: one page of the largest
// size.
absl::StatusOr<v1::ListEventsRequest> EventsRequest(const EventsOptions& options);

struct UndeliveredOptions {
  std::string user;
  std::string thread;
  std::string state;
  uint64_t limit = 1000;
};
// The error is one sentence that names the flag.
absl::StatusOr<v1::ListUndeliveredRequest> UndeliveredRequest(const UndeliveredOptions& options);

struct CheckOptions {
  std::vector<std::string> gateways;
  double canary_seconds = 5;
};
v1::CheckWiringRequest CheckRequest(const CheckOptions& options);

}  // namespace clarion::ctl
