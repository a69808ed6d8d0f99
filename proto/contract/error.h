// Typed errors: an absl::Status whose payload is the google.rpc.Status that gRPC sends.
//
//   return MakeError(Reason::kThreadOwnership, "thread belongs to another user",
//                    {.user_id = user, .thread_id = thread, .operation = "Publish"});
//
// Inside the program an error travels as absl::Status; at the edge ToGrpc() makes the
// grpc::Status with its details, and ReasonOf() gives the browser's code.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "clarion/v1/error_details.pb.h"
#include "google/protobuf/message.h"
#include "grpcpp/support/status.h"
#include "proto/contract/reason.h"

namespace clarion {

// What an error is about. Empty: not known (yet); see WithContext.
struct ErrorContext {
  std::string user_id;
  std::string thread_id;
  std::string run_id;
  std::string operation;
  std::string trace_id;
  std::string cause;
};

struct FieldViolation {
  std::string field;
  std::string description;
};

// `message` is for people and does not repeat the reason's name. Texts are cut where all of them
// together would not fit into the 8 KiB that gRPC clients take (1 KiB for the message, 192 bytes
// for each part of the context), and bytes that are not UTF-8 are replaced.
absl::Status MakeError(Reason reason, std::string_view message, const ErrorContext& context = {});

// The first so many are kept.
inline constexpr size_t kMaxViolations = 16;

// CONTEXT_INVALID with a BadRequest; at most kMaxViolations are kept. Requires at least one.
absl::Status MakeBadRequest(const std::vector<FieldViolation>& violations,
                            const ErrorContext& context = {});

// Fills what the status does not say yet. The operation is what the caller asked for, hence the one
// that was said last; the name of the part that failed goes before the cause, if there is one. No
// effect on OK; a status without a reason gets `otherwise` and its gRPC code, and the code it had
// becomes the cause.
absl::Status WithContext(absl::Status status, const ErrorContext& context,
                         Reason otherwise = Reason::kLogUnavailable);

// Says before the message where it is about: "message 3 of the stream: events: required".
absl::Status WithPlace(const absl::Status& status, std::string_view place);

// Adds RetryInfo.
absl::Status WithRetryAfter(absl::Status status, std::chrono::milliseconds delay);
// Adds DebugInfo: the chain of causes. Not with --production.
absl::Status WithDebug(absl::Status status, std::string_view detail);

// Adds a message of our own, such as the response that a failed call would have had.
absl::Status WithDetail(absl::Status status, const google::protobuf::Message& detail);

// Nothing for OK and for a status not made here.
std::optional<Reason> ReasonOf(const absl::Status& status);
// The details, for those who need fields; an empty one for a status not made here.
v1::RpcStatus DetailsOf(const absl::Status& status);
ErrorContext ContextOf(const absl::Status& status);
std::vector<FieldViolation> ViolationsOf(const absl::Status& status);
std::optional<std::chrono::milliseconds> RetryAfterOf(const absl::Status& status);

grpc::Status ToGrpc(const absl::Status& status);
// The reverse, for clients: reads `grpc-status-details-bin`.
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace clarion
