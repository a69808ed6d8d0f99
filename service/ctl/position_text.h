// Positions on a command line: `epoch:offset`.
#pragma once

#include <optional>
#include <string_view>

#include "proto/contract/ids.h"

namespace clarion::ctl {

std::optional<Position> ParsePosition(std::string_view text);

}  // namespace clarion::ctl
