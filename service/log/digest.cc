#include <xxhash.h>

#include "service/log/log.h"

namespace clarion::log {

Digest Digest::Of(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.high64, hash.low64};
}

}  // namespace clarion::log
