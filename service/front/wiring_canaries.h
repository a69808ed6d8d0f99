// One valid example of every event type, for CheckWiring.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "clarion/v1/event.pb.h"
#include "proto/contract/ids.h"

namespace clarion::front {

// In the order of kEventTypes, owned by the canary user, one run.
std::vector<v1::Event> MakeCanaries(const ThreadId& thread);

}  // namespace clarion::front
