#include "proto/contract/ids.h"

#include <algorithm>

namespace clarion {

bool ValidId(std::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes &&
         std::all_of(id.begin(), id.end(), [](char c) { return c >= 0x21 && c <= 0x7E; });
}

}  // namespace clarion
