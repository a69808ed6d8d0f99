// base64url without padding, as tokens use it (RFC 4648, 5).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace clarion::gateway {

std::string EncodeBase64Url(std::string_view bytes);
// Strict: no padding, no other characters, no stray bits at the end.
std::optional<std::string> DecodeBase64Url(std::string_view text);

}  // namespace clarion::gateway
