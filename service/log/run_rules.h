// The life of a run: which event may follow which.
//
//   agent_started    begins it; nothing of the run comes before, and it comes once.
//   tool_executing   opens a tool call, under its id; tool_progress needs it open; tool_completed
//   closes it. Several
//                    may be open. Steps likewise, under their names.
//   agent_completed  ends it. With success nothing may be open; cancelled and incomplete end what
//   is open with it;
//                    interrupted only suspends the run, which goes on with its next event.
//   agent_error      ends it, and what is open with it.
//   after the end    resource_cleanup and system_recovered may follow, nothing else.
//
// Plain functions over what is kept of a run (RunRecord); the judge applies them in the commit.
#pragma once

#include <string_view>

#include "service/log/log.h"

namespace clarion::log {

// What stands against the step, for the run as it is (null: the thread keeps none of this id).
// `key`: the tool call's id or the step's name.
RunRule CheckStep(const RunRecord* run, RunStep step, std::string_view key);

// Whether the step changes more of the record than `last`.
bool ChangesRun(const RunRecord& run, RunStep step);

// Takes the step, at this offset. What CheckStep has something against leaves the run as it makes
// sense: what is closed without being open, or opened twice, is as if it had not been said, and a
// run that has ended stays so.
void TakeStep(RunRecord& run, const AppendItem& item, Offset offset);

}  // namespace clarion::log
