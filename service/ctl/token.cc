#include "service/ctl/token.h"

#include <cstdint>
#include <exception>
#include <system_error>
#include <vector>

#include "jwt/jwt.hpp"
#include "proto/contract/error.h"
#include "proto/contract/ids.h"

namespace clarion::ctl {
namespace {

constexpr size_t kLeastSecretBytes = 32;

absl::Status Check(const TokenRequest& request) {
  std::vector<FieldViolation> violations;
  if (request.secret.size() < kLeastSecretBytes) {
    violations.push_back({"--secret", "must be at least 32 bytes, the gateway's --token-secret"});
  }
  if (!ValidId(request.user)) {
    violations.push_back({"--user", "must be 1 to 128 bytes of printable ASCII without space"});
  } else if (IsReservedUser(request.user)) {
    violations.push_back({"--user", "is reserved"});
  }
  if (request.ttl.count() <= 0) violations.push_back({"--ttl", "must be positive"});
  return violations.empty() ? absl::OkStatus() : MakeBadRequest(violations);
}

}  // namespace

absl::StatusOr<std::string> MakeToken(const TokenRequest& request,
                                      std::chrono::system_clock::time_point now) {
  if (auto status = Check(request); !status.ok()) return status;
  const int64_t issued_at =
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  try {
    jwt::jwt_object token{jwt::params::algorithm("HS256"), jwt::params::secret(request.secret)};
    token.add_claim("sub", request.user);
    token.add_claim("iat", issued_at);
    token.add_claim("exp", issued_at + request.ttl.count());
    if (!request.issuer.empty()) token.add_claim("iss", request.issuer);
    if (!request.audience.empty()) token.add_claim("aud", request.audience);
    std::error_code error;
    std::string text = token.signature(error);
    if (!error) return text;
    return absl::InternalError("cannot sign: " + error.message());
  } catch (const std::exception& error) {
    return absl::InternalError(std::string("cannot sign: ") + error.what());
  }
}

}  // namespace clarion::ctl
