#include "proto/contract/reason.h"

#include <cstddef>

namespace clarion {
namespace {

constexpr bool ReasonsInOrder() {
  for (size_t i = 0; i < kReasons.size(); ++i) {
    if (kReasons[i].reason != static_cast<Reason>(i)) return false;
  }
  return true;
}
static_assert(ReasonsInOrder(), "the row at index i is the row of Reason(i)");
static_assert(kReasons.size() == static_cast<size_t>(Reason::kGatewayDisplaced) + 1,
              "every reason has a row");

}  // namespace

std::optional<Reason> ReasonFromName(std::string_view name) {
  for (const ReasonRow& row : kReasons) {
    if (row.name == name) return row.reason;
  }
  return std::nullopt;
}

}  // namespace clarion
