// One JSON text message into a v1::ClientFrame, as stream.proto maps them.
#pragma once

#include <string>
#include <string_view>

#include "boost/json/object.hpp"
#include "boost/json/value.hpp"
#include "gateway/connection/client_frame.h"

namespace clarion::gateway {

// Checks names and kinds of fields, not their limits. `null` counts as absent.
ClientMessage ParseClientJson(std::string_view text);
// Likewise, of what is parsed already.
ClientMessage ParseClientObject(boost::json::object& frame);
// {thread_id, epoch, offset}; the problem, which begins with `path`, or nothing.
std::string ReadThreadPosition(boost::json::value& value, const std::string& path,
                               v1::ThreadPosition& position);

}  // namespace clarion::gateway
