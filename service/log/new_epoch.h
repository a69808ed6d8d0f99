// How epochs are named.
#pragma once

#include <cstdint>

#include "proto/contract/ids.h"

namespace clarion::log {

// A name that no thread ever had in this incarnation or an earlier one.
Epoch NewEpoch(uint64_t incarnation);

}  // namespace clarion::log
