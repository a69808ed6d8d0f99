#include "service/ctl/publish_result.h"

#include <vector>

#include "proto/base/text.h"
#include "proto/contract/error.h"

namespace clarion::ctl {

v1::PublishResult RefusedResult(const std::string& event_id, const std::string& thread_id,
                                const absl::Status& status) {
  v1::PublishResult result;
  result.set_event_id(event_id);
  result.set_thread_id(thread_id);
  v1::Refusal& refusal = *result.mutable_refused();
  refusal.set_code(static_cast<int>(status.code()));
  refusal.set_message(std::string(status.message()));
  if (const auto reason = ReasonOf(status)) refusal.set_reason(std::string(NameOf(*reason)));
  for (const FieldViolation& violation : ViolationsOf(status)) {
    refusal.add_violations(Concat(violation.field, ": ", violation.description));
  }
  return result;
}

absl::Status StatusOf(const v1::PublishResult& refused) {
  const v1::Refusal& refusal = refused.refused();
  std::vector<FieldViolation> violations;
  for (const std::string& text : refusal.violations()) {
    const size_t colon = text.find(": ");
    if (colon == std::string::npos) {
      violations.push_back({"", text});
    } else {
      violations.push_back({text.substr(0, colon), text.substr(colon + 2)});
    }
  }
  const auto part = [&](const char* name) {
    const auto found = refusal.metadata().find(name);
    return found == refusal.metadata().end() ? std::string() : found->second;
  };
  const ErrorContext context = {part("user_id"),   part("thread_id"), part("run_id"),
                                part("operation"), part("trace_id"),  part("cause")};
  const auto reason = ReasonFromName(refusal.reason());
  if (!reason) {
    return absl::Status(static_cast<absl::StatusCode>(refusal.code()), refusal.message());
  }
  return violations.empty() ? MakeError(*reason, refusal.message(), context)
                            : MakeBadRequest(violations, context);
}

}  // namespace clarion::ctl
