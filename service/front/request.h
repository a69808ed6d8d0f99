// Checking requests: field by field, every fault with the path of the field.
//
//   Fields fields;
//   fields.Known(request).User("user_id", request.user_id()).Id("thread_id", request.thread_id());
//   if (!fields.ok()) return fields.Refusal(context);
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "clarion/v1/event.pb.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/message.h"
#include "proto/contract/error.h"

namespace clarion::front {

// `page_size` of the calls that list, and the wait of those that wait for readiness.
inline constexpr uint32_t kMaxPage = 1'000, kDefaultPage = 100;
inline constexpr std::chrono::seconds kMaxReady{120}, kDefaultReady{10};

class Fields {
 public:
  // No message in it holds a field that this version does not know.
  Fields& Known(const google::protobuf::Message& message, std::string_view prefix = {});
  // The message itself; whoever checks its parts does the same there.
  Fields& KnownAlone(const google::protobuf::Message& message, std::string_view prefix = {});
  // An id. Required.
  Fields& Id(std::string_view path, std::string_view value);
  // An id, or empty.
  Fields& OptionalId(std::string_view path, std::string_view value);
  // An id other than the reserved user. Required.
  Fields& User(std::string_view path, std::string_view value);
  Fields& OptionalUser(std::string_view path, std::string_view value);
  Fields& AtMost(std::string_view path, uint64_t value, uint64_t limit);
  Fields& MaxBytes(std::string_view path, std::string_view value, size_t limit);
  // Well-formed and within [0, most].
  Fields& Duration(std::string_view path, const google::protobuf::Duration& value,
                   std::chrono::seconds most);
  // A field or value that a later version serves.
  Fields& NotServed(std::string_view path, bool used);
  Fields& Fault(std::string_view path, std::string_view description);

  bool ok() const { return faults_.empty(); }
  absl::Status Refusal(const ErrorContext& context) const {
    return MakeBadRequest(faults_, context);
  }
  // For checkers elsewhere that append.
  std::vector<FieldViolation>* faults() { return &faults_; }

 private:
  std::vector<FieldViolation> faults_;
};

std::chrono::nanoseconds ToNanoseconds(const google::protobuf::Duration& duration);
google::protobuf::Duration ToDuration(std::chrono::nanoseconds duration);

}  // namespace clarion::front
