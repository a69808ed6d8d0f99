// --run-protocol: what is done with an event of a producer that does not fit its run. The rules are
// the log's (service/log/run_rules.h), and it judges by them in the commit; here is what it is told
// to do, and how it is said.
#pragma once

#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "proto/contract/error.h"
#include "service/log/log.h"
#include "service/runs/intake.h"

namespace clarion::runs {

// "strict": refused, RUN_PROTOCOL with the rule's name as `cause`. "lenient": the run is mended,
// see MendRuns. "off": taken as it is. Nothing: no such name.
std::optional<log::RunRules> RunRulesOf(std::string_view name);

// Puts `request` under `rules`. With lenient ones, what the producer left out is appended in front
// of the event that shows it, under an id of the service, and counted (clarion_run_mends_total):
// agent_started of a run that the thread does not keep; of a run that is a success, tool_completed
// {abandoned} and step_completed for what is open. What cannot be mended is refused: what follows
// the end. `intake` outlives the append.
void PutUnderRules(log::RunRules rules, const Intake& intake, log::AppendRequest& request);

// Why an item was not accepted. Requires !IsAccepted.
absl::Status RefusalOf(const log::AppendedItem& item, const ErrorContext& context);

}  // namespace clarion::runs
