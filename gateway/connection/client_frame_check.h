// The limits of stream.proto on what a page sends.
#pragma once

#include <string>

#include "clarion/v1/stream.pb.h"

namespace clarion::gateway {

// Empty: the frame keeps every limit. Otherwise what is wrong, naming the field. An `id` over its
// limit is cleared, so that it is never echoed.
std::string ProblemOf(v1::ClientFrame& frame);
// Likewise; `path` says which list it is of.
std::string ProblemOf(const std::string& path, const v1::ThreadPosition& position);

}  // namespace clarion::gateway
