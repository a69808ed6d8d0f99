#include "gateway/http/origin.h"

#include <algorithm>
#include <utility>

namespace clarion::gateway {
namespace {

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

}  // namespace

OriginPolicy::OriginPolicy(std::vector<std::string> allowed) {
  for (const std::string& origin : allowed) {
    std::string normal = Lower(origin);
    while (normal.ends_with('/')) normal.pop_back();
    any_ |= normal == "*";
    allowed_.push_back(std::move(normal));
  }
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
