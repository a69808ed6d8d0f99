// Events as browsers and `clarionctl` see them: one flat JSON object.
//
// Order of keys: offset, first_offset (compacted events only), type, event_id, thread_id, run_id,
// user_id, agent_name, timestamp, accepted_at, traceparent, tracestate, then the payload's fields
// in the order of event.proto. A failure's FailureInfo is flat too. Absent optional fields are left
// out; `estimated_recovery_time` is null when unknown. JSON-text fields (input, arguments, result,
// value, response_schema) go in byte by byte. Enums are lower_snake, integers and doubles JSON
// numbers, times RFC 3339 in UTC with milliseconds (microseconds, nanoseconds where the producer
// gave them).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clarion/v1/event.pb.h"
#include "proto/contract/error.h"

namespace clarion {

// Appends `"type":…}`: the object without its opening brace and offsets (EncodedEvent::json).
// Requires an event that ValidateEvent accepts. False, and nothing appended: a type this encoder
// lacks.
bool AppendEventJson(const v1::Event& event, std::string* out);

// The whole object, offsets first. Empty for a type this encoder lacks.
std::string EventToJson(const v1::Event& event);

// The reverse, from a whole object; `offset`, `first_offset` and `accepted_at` are read if present.
// CONTEXT_INVALID with the path of what is wrong. Unknown keys are refused, and keys said twice;
// null stands for an absent optional field, except in JSON-text fields, where it is a value. Values
// are taken as they are: ValidateEvent judges them.
absl::StatusOr<v1::Event> EventFromJson(std::string_view json);

// Who wrote an event, which decides what it may claim.
enum class EventOrigin {
  kProducer,  // no reserved event_id or user, not synthetic, nothing that the service sets
  kService,   // all of that is allowed
};

// Every rule of event.proto, with paths that begin with `prefix` (`event.`). Appends to
// `violations`, at most 16; nothing appended: valid. Does not check the size. Requires strings in
// UTF-8, which protobuf checks in what comes from the wire.
void ValidateEvent(const v1::Event& event, std::string_view prefix,
                   std::vector<FieldViolation>* violations,
                   EventOrigin origin = EventOrigin::kProducer);

// One complete JSON value in UTF-8, at most 64 levels deep (json_text.h).
bool ValidJsonText(std::string_view text);

}  // namespace clarion
