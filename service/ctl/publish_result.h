// Results of single events, whoever refused them: the service, a call as a whole, or clarionctl.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "clarion/v1/event_service.pb.h"

namespace clarion::ctl {

// Refused with `status`, for good.
v1::PublishResult RefusedResult(const std::string& event_id, const std::string& thread_id,
                                const absl::Status& status);

// The facts of a refusal, as a failed call's status has them.
absl::Status StatusOf(const v1::PublishResult& refused);

}  // namespace clarion::ctl
