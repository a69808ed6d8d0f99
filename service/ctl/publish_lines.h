// What `clarionctl publish` sends: lines of JSON, or one event from flags.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "clarion/v1/event.pb.h"

namespace clarion::ctl {

// What a line need not say itself. Empty: it must.
struct EventDefaults {
  std::string user;
  std::string thread;
  std::string run;
  std::string agent;
};

// One line: EventFromJson, then the defaults for what is absent; an event_id is made if there is
// none. The error is CONTEXT_INVALID with the paths of what is wrong.
absl::StatusOr<v1::Event> EventFromLine(std::string_view line, const EventDefaults& defaults);

// The event_id that a line names, for sentences about it: also of one that is no event. Empty:
// none.
std::string EventIdIn(std::string_view line);

// `type` and fields `name=text` or `name:=json` as such a line.
absl::StatusOr<std::string> LineFromFields(std::string_view type,
                                           const std::vector<std::string>& fields);

// 128 random bits, `ctl-…`.
std::string MakeEventId();

}  // namespace clarion::ctl
