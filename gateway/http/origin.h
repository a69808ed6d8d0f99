// Which web pages may open a stream: the Origin header of browsers against an allow list.
//
// A defence against other sites' pages using a user's browser, not against programs: those send any
// Origin, or none, and need a token all the same.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace clarion::gateway {

// Immutable; any thread.
class OriginPolicy {
 public:
  // The gateway's own origin only.
  OriginPolicy() = default;
  // Each is `*`, for any, or an origin: scheme://host or scheme://host:port. They are compared as
  // browsers write them: in lower case, without the scheme's default port, IPv6 shortened. What no
  // browser can ever send is refused, in one sentence that names --allowed-origin. None: the
  // gateway's own only.
  static absl::StatusOr<OriginPolicy> Create(const std::vector<std::string>& allowed);

  // `origin`: empty if the request has none. `host`: its Host header.
  bool Allows(std::string_view origin, std::string_view host) const;

 private:
  std::vector<std::string> allowed_;  // as browsers write them
  bool any_ = false;
};

}  // namespace clarion::gateway
