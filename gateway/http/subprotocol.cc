#include "gateway/http/subprotocol.h"

#include <algorithm>

namespace clarion::gateway {
namespace {

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

}  // namespace

std::optional<Encoding> NegotiateSubprotocol(std::string_view offered) {
  if (Trim(offered).empty()) return Encoding::kJson;
  while (!offered.empty()) {
    const size_t comma = std::min(offered.find(','), offered.size());
    const std::string_view name = Trim(offered.substr(0, comma));
    if (name == SubprotocolOf(Encoding::kJson)) return Encoding::kJson;
    if (name == SubprotocolOf(Encoding::kProto)) return Encoding::kProto;
    offered.remove_prefix(std::min(comma + 1, offered.size()));
  }
  return std::nullopt;
}

}  // namespace clarion::gateway
