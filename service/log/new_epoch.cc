#include "service/log/new_epoch.h"

#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"

namespace clarion::log {

Epoch NewEpoch(uint64_t incarnation) {
  // The random part makes a thread that was lost altogether and begins anew differ from itself.
  // Ten characters of 62 are 59 bits; with the incarnation the name mostly fits a string's own
  // room.
  constexpr std::string_view kAlphabet =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::random_device random;
  std::uniform_int_distribution<size_t> any(0, kAlphabet.size() - 1);
  std::string name = absl::StrFormat("%x-", incarnation);
  for (int n = 0; n < 10; ++n) name.push_back(kAlphabet[any(random)]);
  return Epoch(std::move(name));
}

}  // namespace clarion::log
