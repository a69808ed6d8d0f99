#include "service/ctl/position_text.h"

#include <charconv>

namespace clarion::ctl {

std::optional<Position> ParsePosition(std::string_view text) {
  // An epoch is opaque and may hold a colon; an offset does not.
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  const std::string_view digits = text.substr(colon + 1);
  uint64_t offset = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), offset);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return Position{Epoch(text.substr(0, colon)), Offset(offset)};
}

}  // namespace clarion::ctl
