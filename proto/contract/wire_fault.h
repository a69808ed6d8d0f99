// Why bytes are not a message. Protocol Buffers say only that they are not; whoever sent them wants
// to know where.
#pragma once

#include <optional>
#include <string_view>

#include "google/protobuf/descriptor.h"
#include "proto/contract/error.h"

namespace clarion {

// The first thing in `bytes` that keeps them from being a message of this type: the path of the
// field that is not UTF-8 or not whole. Nothing: there is none that this search knows.
std::optional<FieldViolation> FindWireFault(const google::protobuf::Descriptor& type,
                                            std::string_view bytes);

}  // namespace clarion
