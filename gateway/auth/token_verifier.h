// Who a browser is: JSON Web Tokens (RFC 7519) signed with HS256, RS256 or ES256.
//
// The key fixes the algorithm, never the token: a token whose `alg` is not that of a configured key
// is refused before anything is computed, so neither `none` nor a public key used as an HMAC secret
// gets anywhere. Signatures are OpenSSL's; MACs are compared in constant time; claims are not
// looked at before the signature holds. (cpp-jwt of Debian 12 compares MACs with `==`, which stops
// at the first difference, and parses the claims before it checks.)
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/contract/ids.h"

namespace clarion::gateway {

struct TokenOptions {
  std::string secret;  // HS256; at least 32 bytes (RFC 7518, 3.2)
  std::vector<std::string>
      public_key_files;  // PEM: RSA of 2,048 bits or more -> RS256, P-256 -> ES256
  std::string issuer;    // `iss`; empty: any
  std::string audience;  // one of `aud`; empty: any
  // Clocks differ: `exp` and `nbf` are stretched by this much.
  std::chrono::seconds leeway{30};
  // A token that lives longer than this from now on is refused; 0: any. At most 100 years.
  std::chrono::seconds max_lifetime{0};
};

struct VerifiedToken {
  UserId user;
  // `exp`, without leeway: what the page is told. What the clock cannot hold (after the year 2262)
  // is the last it can.
  std::chrono::system_clock::time_point expires_at;
  // With leeway: when what the token allows ends.
  std::chrono::system_clock::time_point accepted_until;
};

// Immutable; any thread.
class TokenVerifier {
 public:
  using Time = std::chrono::system_clock::time_point;

  // The error is one sentence that names the flag to mend.
  static absl::StatusOr<std::unique_ptr<const TokenVerifier>> Create(const TokenOptions& options);
  virtual ~TokenVerifier() = default;

  // UNAUTHENTICATED with what is wrong, for developers; nothing of the token is repeated.
  virtual absl::StatusOr<VerifiedToken> Verify(std::string_view token, Time now) const = 0;
};

// A token for development: HS256 with this secret.
std::string SignDevToken(std::string_view secret, const TokenOptions& options, const UserId& user,
                         TokenVerifier::Time expires_at);

}  // namespace clarion::gateway
