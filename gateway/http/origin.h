// Which web pages may open a stream: the Origin header of browsers against an allow list.
//
// A defence against other sites' pages using a user's browser, not against programs: those send any
// Origin, or none, and need a token all the same.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace clarion::gateway {

// Immutable; any thread.
class OriginPolicy {
 public:
  // Origins as browsers write them ("https://app.example"); empty: the gateway's own only; "*":
  // any.
  explicit OriginPolicy(std::vector<std::string> allowed);

  // `origin`: empty if the request has none. `host`: its Host header.
  bool Allows(std::string_view origin, std::string_view host) const;

 private:
  std::vector<std::string> allowed_;  // lower case, no slash at the end
  bool any_ = false;
};

}  // namespace clarion::gateway
