// Pieces of JSON text, appended to a string: what events, frames and log lines are made of.
//
// No tree is built in between. Strings that go in are UTF-8 (protobuf checks those that come from
// the wire); what comes from elsewhere goes through CleanUtf8 first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "google/protobuf/timestamp.pb.h"

namespace clarion {

inline constexpr size_t kMaxJsonDepth = 64;

// `text` in quotes, escaped.
void AppendJsonString(std::string_view text, std::string* out);
void AppendJsonNumber(uint64_t value, std::string* out);
// The shortest text that reads back as the same double. Requires a finite value.
void AppendJsonNumber(double value, std::string* out);
// RFC 3339 in UTC, in quotes, with 3 digits after the point, or 6 or 9 where the value has them.
// Requires the years 1970 to 9999.
void AppendJsonTime(const google::protobuf::Timestamp& time, std::string* out);

// One complete JSON value in UTF-8, at most `max_depth` arrays and objects inside each other. As
// RFC 8259, and escaped surrogates come in pairs.
bool ValidJsonText(std::string_view text, size_t max_depth);

// At most `max_bytes` of `text`, cut between characters; each byte that is not UTF-8 becomes `?`.
std::string CleanUtf8(std::string_view text, size_t max_bytes = SIZE_MAX);

}  // namespace clarion
