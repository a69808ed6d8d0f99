#include "gateway/auth/token_verifier.h"

#include <cmath>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "boost/json/parse.hpp"
#include "boost/json/serialize.hpp"
#include "boost/json/value.hpp"
#include "gateway/auth/base64url.h"
#include "gateway/auth/signature.h"
#include "proto/contract/error.h"

namespace clarion::gateway {
namespace {

namespace json = boost::json;

constexpr size_t kLeastSecretBytes = 32;
constexpr size_t kMaxTokenBytes = 8 * 1024;
constexpr size_t kMaxKeyFileBytes = 64 * 1024;
constexpr size_t kMaxDepth = 16;
// Seconds since 1970. Beyond the year 9999 a number is no date; milliseconds, for instance.
constexpr double kMaxSeconds = 253402300799.0;
// The clock counts nanoseconds, and ends in the year 2262.
constexpr auto kClockSeconds = static_cast<double>(
    std::chrono::duration_cast<std::chrono::seconds>(TokenVerifier::Time::duration::max()).count());

absl::Status Refuse(std::string_view why) {
  return MakeError(Reason::kUnauthenticated, why);
}

struct TokenParts {
  std::string_view signed_bytes;  // header.claims, as they came
  std::string header;
  std::string claims;
  std::string signature;
};

std::optional<TokenParts> Split(std::string_view token) {
  const size_t first = token.find('.');
  if (first == std::string_view::npos) return std::nullopt;
  const size_t second = token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos) {
    return std::nullopt;
  }
  auto header = DecodeBase64Url(token.substr(0, first));
  auto claims = DecodeBase64Url(token.substr(first + 1, second - first - 1));
  auto signature = DecodeBase64Url(token.substr(second + 1));
  if (!header || !claims || !signature) return std::nullopt;
  return TokenParts{token.substr(0, second), *std::move(header), *std::move(claims),
                    *std::move(signature)};
}

std::optional<json::object> ParseObject(const std::string& text) {
  json::parse_options options;
  options.max_depth = kMaxDepth;
  boost::system::error_code error;
  json::value value = json::parse(text, error, {}, options);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.get_object());
}

std::optional<std::string> TextOf(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains({key.data(), key.size()});
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return std::string(value->get_string().data(), value->get_string().size());
}

// A NumericDate: seconds since 1970, possibly with a fraction (RFC 7519, 2). Nothing: not one. The
// last time there is stands for all that are later.
std::optional<TokenVerifier::Time> TimeOf(const json::value& value) {
  if (!value.is_number()) return std::nullopt;
  boost::system::error_code error;
  const auto seconds = value.to_number<double>(error);
  if (error || !std::isfinite(seconds) || seconds < 0 || seconds > kMaxSeconds) return std::nullopt;
  if (seconds >= kClockSeconds) return TokenVerifier::Time::max();
  return TokenVerifier::Time(std::chrono::duration_cast<TokenVerifier::Time::duration>(
      std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000))));
}

TokenVerifier::Time Later(TokenVerifier::Time time, std::chrono::seconds by) {
  return time > TokenVerifier::Time::max() - by ? TokenVerifier::Time::max() : time + by;
}

bool HasAudience(const json::object& claims, const std::string& audience) {
  const json::value* value = claims.if_contains("aud");
  if (value == nullptr) return false;
  const auto matches = [&](const json::value& one) {
    return one.is_string() && one.get_string() == json::string_view(audience);
  };
  if (!value->is_array()) return matches(*value);
  for (const json::value& one : value->get_array()) {
    if (matches(one)) return true;
  }
  return false;
}

class Verifier final : public TokenVerifier {
 public:
  Verifier(TokenOptions options, std::vector<std::unique_ptr<const SignatureKey>> keys)
      : options_(std::move(options)), keys_(std::move(keys)) {}

  absl::StatusOr<VerifiedToken> Verify(std::string_view token, Time now) const override {
    if (token.empty()) return Refuse("a token is required");
    if (token.size() > kMaxTokenBytes) return Refuse("the token is longer than 8 KiB");
    const std::optional<TokenParts> parts = Split(token);
    if (!parts) return Refuse("not a signed JSON Web Token");
    if (absl::Status status = CheckSignature(*parts); !status.ok()) return status;
    const std::optional<json::object> claims = ParseObject(parts->claims);
    if (!claims) return Refuse("the token's claims are not a JSON object");
    return CheckClaims(*claims, now);
  }

 private:
  absl::Status CheckSignature(const TokenParts& parts) const {
    const std::optional<json::object> header = ParseObject(parts.header);
    if (!header) return Refuse("the token's header is not a JSON object");
    // Extensions that must be understood; none is (RFC 7515, 4.1.11).
    if (header->contains("crit")) return Refuse("the token has critical extensions");
    const std::optional<std::string> algorithm = TextOf(*header, "alg");
    if (!algorithm) return Refuse("the token names no algorithm");
    bool has_key = false;
    for (const auto& key : keys_) {
      if (key->algorithm() != *algorithm) continue;
      has_key = true;
      if (key->Verifies(parts.signed_bytes, parts.signature)) return absl::OkStatus();
    }
    return Refuse(has_key ? "the token's signature does not hold"
                          : "the token's algorithm is not one of this gateway's keys");
  }

  absl::StatusOr<VerifiedToken> CheckClaims(const json::object& claims, Time now) const {
    const json::value* exp = claims.if_contains("exp");
    const std::optional<Time> expires_at = exp == nullptr ? std::nullopt : TimeOf(*exp);
    if (!expires_at) return Refuse("the token has no expiry (exp)");
    const Time accepted_until = Later(*expires_at, options_.leeway);
    if (accepted_until <= now) return Refuse("the token has expired");
    if (options_.max_lifetime.count() > 0 && *expires_at > Later(now, options_.max_lifetime)) {
      return Refuse("the token lives longer than this gateway allows");
    }
    if (const json::value* nbf = claims.if_contains("nbf")) {
      const std::optional<Time> not_before = TimeOf(*nbf);
      if (!not_before || *not_before - options_.leeway > now) {
        return Refuse("the token is not valid yet (nbf)");
      }
    }
    if (!options_.issuer.empty() && TextOf(claims, "iss") != options_.issuer) {
      return Refuse("the token is from another issuer (iss)");
    }
    if (!options_.audience.empty() && !HasAudience(claims, options_.audience)) {
      return Refuse("the token is for another audience (aud)");
    }
    auto user = CheckUser(claims);
    if (!user.ok()) return user.status();
    return VerifiedToken{*std::move(user), *expires_at, accepted_until};
  }

  static absl::StatusOr<UserId> CheckUser(const json::object& claims) {
    const std::optional<std::string> user = TextOf(claims, "sub");
    if (!user || !ValidId(*user)) {
      return Refuse("the token's user (sub) must be 1 to 128 bytes of printable ASCII");
    }
    if (IsReservedUser(*user)) return Refuse("the token's user (sub) is reserved");
    return UserId(*user);
  }

  const TokenOptions options_;
  const std::vector<std::unique_ptr<const SignatureKey>> keys_;
};

absl::StatusOr<std::unique_ptr<const SignatureKey>> LoadKey(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::InvalidArgumentError("--token-public-key: cannot read " + path);
  }
  std::string pem(kMaxKeyFileBytes, '\0');
  file.read(pem.data(), static_cast<std::streamsize>(pem.size()));
  pem.resize(static_cast<size_t>(file.gcount()));
  auto key = MakePublicKey(pem);
  if (!key.ok()) {
    return absl::InvalidArgumentError("--token-public-key: " + path + " " +
                                      std::string(key.status().message()));
  }
  return key;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const TokenVerifier>> TokenVerifier::Create(
    const TokenOptions& options) {
  if (options.secret.empty() && options.public_key_files.empty()) {
    return absl::InvalidArgumentError(
        "no key to check browsers' tokens with: give --token-secret (HS256) or --token-public-key "
        "(a PEM file, RS256 or ES256)");
  }
  std::vector<std::unique_ptr<const SignatureKey>> keys;
  if (!options.secret.empty()) {
    if (options.secret.size() < kLeastSecretBytes) {
      return absl::InvalidArgumentError("--token-secret must have at least 32 bytes for HS256");
    }
    keys.push_back(MakeHmacKey(options.secret));
  }
  for (const std::string& path : options.public_key_files) {
    auto key = LoadKey(path);
    if (!key.ok()) return key.status();
    keys.push_back(*std::move(key));
  }
  return std::make_unique<Verifier>(options, std::move(keys));
}

std::string SignDevToken(std::string_view secret, const TokenOptions& options, const UserId& user,
                         TokenVerifier::Time expires_at) {
  json::object claims;
  claims["sub"] = user.str();
  claims["exp"] =
      std::chrono::duration_cast<std::chrono::seconds>(expires_at.time_since_epoch()).count();
  if (!options.issuer.empty()) claims["iss"] = options.issuer;
  if (!options.audience.empty()) claims["aud"] = options.audience;
  std::string token = EncodeBase64Url(R"({"alg":"HS256","typ":"JWT"})");
  token.append(".").append(EncodeBase64Url(json::serialize(claims)));
  const std::string signature = EncodeBase64Url(HmacSha256(secret, token));
  return token.append(".").append(signature);
}

}  // namespace clarion::gateway
