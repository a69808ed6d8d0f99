// Signatures of tokens: one key, one algorithm.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace clarion::gateway {

// Immutable; any thread.
class SignatureKey {
 public:
  virtual ~SignatureKey() = default;
  // As a token's header names it: HS256, RS256 or ES256.
  virtual std::string_view algorithm() const = 0;
  // `signature` as the token carries it, decoded. For ES256 that is r and s, 32 bytes each.
  virtual bool Verifies(std::string_view signed_bytes, std::string_view signature) const = 0;
};

// HMAC-SHA256 of `bytes`.
std::string HmacSha256(std::string_view secret, std::string_view bytes);

std::unique_ptr<const SignatureKey> MakeHmacKey(std::string secret);
// From PEM text with one public key (SubjectPublicKeyInfo). The
// error says what is wrong with the key, for a sentence that names the file.
absl::StatusOr<std::unique_ptr<const SignatureKey>> MakePublicKey(std::string_view pem);

}  // namespace clarion::gateway
