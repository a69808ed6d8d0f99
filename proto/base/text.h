// Between std::string_view and abseil's own: Debian builds abseil with a string_view of its own
// (ABSL_OPTION_USE_STD_STRING_VIEW is 0), which std's does not convert to.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace clarion {

inline std::string_view ToStd(absl::string_view text) {
  return {text.data(), text.size()};
}
inline absl::string_view ToAbsl(std::string_view text) {
  return {text.data(), text.size()};
}

namespace internal {
template <class Part>
decltype(auto) ConcatPart(const Part& part) {
  if constexpr (std::is_convertible_v<const Part&, std::string_view>) {
    return ToAbsl(part);
  } else {
    return (part);
  }
}
}  // namespace internal

// absl::StrCat for strings of either kind and numbers.
template <class... Parts>
std::string Concat(const Parts&... parts) {
  return absl::StrCat(internal::ConcatPart(parts)...);
}

}  // namespace clarion
