// One JSON text message into a v1::ClientFrame, as stream.proto maps them.
#pragma once

#include <string_view>

#include "gateway/connection/client_frame.h"

namespace clarion::gateway {

// Checks names and kinds of fields, not their limits. `null` counts as absent.
ClientMessage ParseClientJson(std::string_view text);

}  // namespace clarion::gateway
