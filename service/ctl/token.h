// Development tokens: what a page would get from the product's own sign-in.
#pragma once

#include <chrono>
#include <string>

#include "absl/status/statusor.h"

namespace clarion::ctl {

struct TokenRequest {
  std::string secret;  // at least 32 bytes (RFC 7518, 3.2), as the gateway's --token-secret
  std::string user;
  std::chrono::seconds ttl{std::chrono::hours(1)};
  std::string issuer;    // empty: no `iss`
  std::string audience;  // empty: no `aud`
};

// A JSON Web Token signed with HS256. CONTEXT_INVALID names what is wrong with the request.
absl::StatusOr<std::string> MakeToken(const TokenRequest& request,
                                      std::chrono::system_clock::time_point now);

}  // namespace clarion::ctl
