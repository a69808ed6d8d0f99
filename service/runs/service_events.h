// Events that the service itself appends to runs.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "clarion/v1/event.pb.h"
#include "proto/contract/encoded_event.h"

namespace clarion::runs {

// What every event of a run says of it.
struct RunName {
  std::string user_id;
  std::string thread_id;
  std::string run_id;
  std::string agent_name;
};

RunName RunOf(const v1::Event& event);
// As the log keeps it.
v1::Event EventOf(const EncodedEvent& event);

// Without a payload. Its id is reserved for the service, and made of the run and `why`: who makes
// the event again for the same reason makes a repetition.
v1::Event ServiceEvent(const RunName& run, std::initializer_list<std::string_view> why);

}  // namespace clarion::runs
