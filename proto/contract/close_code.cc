#include "proto/contract/close_code.h"

#include <cstddef>

namespace clarion {
namespace {

constexpr bool RowsAscend() {
  for (size_t i = 1; i < kCloseRows.size(); ++i) {
    if (kCloseRows[i - 1].code >= kCloseRows[i].code) return false;
  }
  return true;
}
static_assert(RowsAscend(), "one row for each code, in the order of the codes");

constexpr size_t IndexOf(CloseCode code) {
  size_t index = 0;
  while (index < kCloseRows.size() && kCloseRows[index].code != code) ++index;
  return index;
}
constexpr size_t kInternalIndex = IndexOf(CloseCode::kInternal);
static_assert(kInternalIndex < kCloseRows.size());

}  // namespace

const CloseRow& RowOf(CloseCode code) {
  const size_t index = IndexOf(code);
  // A number from a peer may have been cast to a code that we do not know.
  return kCloseRows[index < kCloseRows.size() ? index : kInternalIndex];
}

}  // namespace clarion
