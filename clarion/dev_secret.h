// The token secret of a development machine, so that `clarion --dev` needs no configuration.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"

namespace clarion {

// Reads `dev-token-secret` in `folder`, or makes it there, readable by its owner alone. Tokens
// outlive a restart that way. The error is one sentence.
absl::StatusOr<std::string> DevTokenSecret(const std::filesystem::path& folder);

}  // namespace clarion
