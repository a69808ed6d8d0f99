#include "gateway/http/origin.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "boost/asio/ip/address_v4.hpp"
#include "boost/asio/ip/address_v6.hpp"

namespace clarion::gateway {
namespace {

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}
bool IsLetterOrDigit(char c) {
  return (c >= 'a' && c <= 'z') || IsDigit(c);
}

// Below, texts are in lower case, and nothing means that browsers write no such thing.

bool IsScheme(std::string_view text) {
  if (text.empty() || IsDigit(text[0])) return false;
  // A page is never from a WebSocket, and a page from a file says `null`.
  if (text == "ws" || text == "wss" || text == "file") return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return IsLetterOrDigit(c) || c == '+' || c == '-' || c == '.'; });
}

std::optional<std::string> NormalIpv6(const std::string& text) {
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address_v6(text, error);
  if (error || address.scope_id() != 0) return std::nullopt;
  std::string normal = address.to_string();
  // Browsers write no dotted part; one who has such an address knows the other form.
  if (normal.find('.') != std::string::npos) return std::nullopt;
  return "[" + normal + "]";
}

// Browsers take such a name for an IPv4 address, and write it with four decimal numbers.
bool EndsInNumber(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  const std::string_view last = name.substr(name.rfind('.') + 1);
  if (last.starts_with("0x")) return last.find_first_not_of("0123456789abcdef", 2) == last.npos;
  return !last.empty() && std::all_of(last.begin(), last.end(), IsDigit);
}

std::optional<std::string> NormalHost(std::string_view text) {
  if (text.starts_with('[')) {
    if (!text.ends_with(']')) return std::nullopt;
    return NormalIpv6(std::string(text.substr(1, text.size() - 2)));
  }
  // Names in other scripts are sent as xn--….
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return IsLetterOrDigit(c) || c == '-' || c == '.' || c == '_';
  });
  if (!plain || text.empty() || text.starts_with('.')) return std::nullopt;
  if (EndsInNumber(text)) {
    boost::system::error_code error;
    boost::asio::ip::make_address_v4(std::string(text), error);
    if (error) return std::nullopt;
  }
  return std::string(text);
}

// With its colon; empty for the scheme's own port.
std::optional<std::string> NormalPort(std::string_view scheme, std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  if ((scheme == "https" && port == 443) || (scheme == "http" && port == 80)) return "";
  return absl::StrCat(":", port);
}

std::optional<std::string> NormalOrigin(std::string_view text) {
  const size_t end = text.find("://");
  if (end == std::string_view::npos || !IsScheme(text.substr(0, end))) return std::nullopt;
  const std::string_view scheme = text.substr(0, end);
  std::string_view host = text.substr(end + 3);
  std::optional<std::string> port = "";
  if (const size_t colon = host.rfind(':');
      colon != std::string_view::npos && !host.ends_with(']')) {
    port = NormalPort(scheme, host.substr(colon + 1));
    host = host.substr(0, colon);
  }
  const std::optional<std::string> name = NormalHost(host);
  if (!name || !port) return std::nullopt;
  return std::string(scheme) + "://" + *name + *port;
}

}  // namespace

absl::StatusOr<OriginPolicy> OriginPolicy::Create(const std::vector<std::string>& allowed) {
  OriginPolicy policy;
  for (const std::string& origin : allowed) {
    if (origin == "*") {
      policy.any_ = true;
      continue;
    }
    std::optional<std::string> normal = NormalOrigin(Lower(origin));
    if (!normal) {
      return absl::InvalidArgumentError("--allowed-origin: '" + origin +
                                        "' is not an origin as browsers send it: scheme://host or "
                                        "scheme://host:port with nothing "
                                        "after it, as in https://app.example, or * for any");
    }
    policy.allowed_.push_back(*std::move(normal));
  }
  return policy;
}

bool OriginPolicy::Allows(std::string_view origin, std::string_view host) const {
  if (origin.empty() || any_) return true;
  const std::string from = Lower(origin);
  if (!allowed_.empty()) {
    return std::find(allowed_.begin(), allowed_.end(), from) != allowed_.end();
  }
  // The scheme is not compared: TLS may end in front of the gateway. Port and name are.
  const size_t scheme = from.find("://");
  return scheme != std::string::npos && !host.empty() &&
         std::string_view(from).substr(scheme + 3) == Lower(host);
}

}  // namespace clarion::gateway
