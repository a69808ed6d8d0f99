#include "proto/contract/error.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/cord.h"
#include "proto/base/text.h"
#include "proto/contract/json_text.h"

namespace clarion {
namespace {

constexpr absl::string_view kPayloadUrl = "type.googleapis.com/clarion.v1.RpcStatus";
constexpr std::string_view kDetailUrl = "type.googleapis.com/google.rpc.";
constexpr std::string_view kDomain = "clarion";

// gRPC clients refuse more than 8 KiB of trailing metadata, in which the details travel in base64
// and the message a second time. These bounds together stay below that.
constexpr size_t kMaxMessageBytes = 1024;
constexpr size_t kMaxContextBytes = 192;
constexpr size_t kMaxDebugBytes = 1024;
constexpr size_t kMaxFieldBytes = 96;
constexpr size_t kMaxDescriptionBytes = 112;

struct ContextField {
  std::string_view name;
  std::string ErrorContext::* member;
};
constexpr std::array kContextFields = {
    ContextField{"user_id", &ErrorContext::user_id},
    ContextField{"thread_id", &ErrorContext::thread_id},
    ContextField{"run_id", &ErrorContext::run_id},
    ContextField{"operation", &ErrorContext::operation},
    ContextField{"trace_id", &ErrorContext::trace_id},
    ContextField{"cause", &ErrorContext::cause},
};

template <class Detail>
std::string UrlOf() {
  return Concat(kDetailUrl, Detail::descriptor()->name());
}

template <class Detail>
std::optional<Detail> Find(const v1::RpcStatus& rpc) {
  const std::string url = UrlOf<Detail>();
  for (const google::protobuf::Any& any : rpc.details()) {
    Detail detail;
    if (any.type_url() == url && detail.ParseFromString(any.value())) return detail;
  }
  return std::nullopt;
}

// Replaces the detail of that type, or adds it.
template <class Detail>
void Put(const Detail& detail, v1::RpcStatus* rpc) {
  const std::string url = UrlOf<Detail>();
  google::protobuf::Any* place = nullptr;
  for (google::protobuf::Any& any : *rpc->mutable_details()) {
    if (any.type_url() == url) place = &any;
  }
  if (place == nullptr) place = rpc->add_details();
  place->set_type_url(url);
  place->set_value(detail.SerializeAsString());
}

absl::Status FromDetails(absl::StatusCode code, std::string_view message, v1::RpcStatus rpc) {
  rpc.set_code(static_cast<int>(code));
  rpc.set_message(std::string(message));
  absl::Status status(code, ToAbsl(message));
  status.SetPayload(kPayloadUrl, absl::Cord(rpc.SerializeAsString()));
  return status;
}

// Known parts that `info` does not say yet.
void Fill(const ErrorContext& context, v1::ErrorInfo* info) {
  for (const ContextField& field : kContextFields) {
    const std::string& value = context.*field.member;
    if (value.empty()) continue;
    std::string& place = (*info->mutable_metadata())[std::string(field.name)];
    if (place.empty()) place = CleanUtf8(value, kMaxContextBytes);
  }
}

// The operation is what the caller asked for; what it was before goes before the cause.
void NameOperation(const std::string& operation, v1::ErrorInfo* info) {
  if (operation.empty()) return;
  auto& metadata = *info->mutable_metadata();
  const std::string part =
      std::exchange(metadata["operation"], CleanUtf8(operation, kMaxContextBytes));
  const auto cause = metadata.find("cause");
  if (cause == metadata.end() || part.empty() || part == operation) return;
  cause->second = CleanUtf8(Concat(part, ": ", cause->second), kMaxContextBytes);
}

v1::ErrorInfo MakeInfo(Reason reason, const ErrorContext& context) {
  v1::ErrorInfo info;
  info.set_reason(std::string(NameOf(reason)));
  info.set_domain(std::string(kDomain));
  Fill(context, &info);
  return info;
}

std::optional<v1::ErrorInfo> InfoOf(const v1::RpcStatus& rpc) {
  auto info = Find<v1::ErrorInfo>(rpc);
  if (info && info->domain() != kDomain) return std::nullopt;
  return info;
}

std::string SummaryOf(const v1::BadRequest& bad_request, size_t violations) {
  const auto& first = bad_request.field_violations(0);
  std::string summary = first.field().empty() ? first.description()
                                              : Concat(first.field(), ": ", first.description());
  if (violations > 1) summary += Concat(" (and ", violations - 1, " more)");
  return summary;
}

}  // namespace

absl::Status MakeError(Reason reason, std::string_view message, const ErrorContext& context) {
  v1::RpcStatus rpc;
  Put(MakeInfo(reason, context), &rpc);
  return FromDetails(RowOf(reason).code, CleanUtf8(message, kMaxMessageBytes), std::move(rpc));
}

absl::Status MakeBadRequest(const std::vector<FieldViolation>& violations,
                            const ErrorContext& context) {
  v1::BadRequest bad_request;
  const size_t kept = std::min(violations.size(), kMaxViolations);
  for (size_t i = 0; i < kept; ++i) {
    auto* violation = bad_request.add_field_violations();
    violation->set_field(CleanUtf8(violations[i].field, kMaxFieldBytes));
    violation->set_description(CleanUtf8(violations[i].description, kMaxDescriptionBytes));
  }
  v1::RpcStatus rpc;
  Put(MakeInfo(Reason::kContextInvalid, context), &rpc);
  Put(bad_request, &rpc);
  return FromDetails(RowOf(Reason::kContextInvalid).code, SummaryOf(bad_request, violations.size()),
                     std::move(rpc));
}

absl::Status WithContext(absl::Status status, const ErrorContext& context, Reason otherwise) {
  if (status.ok()) return status;
  v1::RpcStatus rpc = DetailsOf(status);
  auto info = InfoOf(rpc);
  if (!info) {
    // The code must say what the caller does next, so it is the reason's; the old one is the cause.
    ErrorContext with_cause = context;
    if (with_cause.cause.empty()) with_cause.cause = absl::StatusCodeToString(status.code());
    return MakeError(otherwise, ToStd(status.message()), with_cause);
  }
  NameOperation(context.operation, &*info);
  Fill(context, &*info);
  Put(*info, &rpc);
  return FromDetails(status.code(), ToStd(status.message()), std::move(rpc));
}

absl::Status WithPlace(const absl::Status& status, std::string_view place) {
  if (status.ok()) return status;
  const std::string message = Concat(place, ": ", status.message());
  return FromDetails(status.code(), CleanUtf8(message, kMaxMessageBytes), DetailsOf(status));
}

absl::Status WithRetryAfter(absl::Status status, std::chrono::milliseconds delay) {
  if (status.ok()) return status;
  v1::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(delay.count() / 1000);
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(delay.count() % 1000) * 1'000'000);
  v1::RpcStatus rpc = DetailsOf(status);
  Put(retry, &rpc);
  return FromDetails(status.code(), ToStd(status.message()), std::move(rpc));
}

absl::Status WithDebug(absl::Status status, std::string_view detail) {
  if (status.ok() || detail.empty()) return status;
  v1::DebugInfo debug;
  debug.set_detail(CleanUtf8(detail, kMaxDebugBytes));
  v1::RpcStatus rpc = DetailsOf(status);
  Put(debug, &rpc);
  return FromDetails(status.code(), ToStd(status.message()), std::move(rpc));
}

absl::Status WithDetail(absl::Status status, const google::protobuf::Message& detail) {
  if (status.ok()) return status;
  v1::RpcStatus rpc = DetailsOf(status);
  google::protobuf::Any& any = *rpc.add_details();
  any.set_type_url(Concat("type.googleapis.com/", detail.GetTypeName()));
  any.set_value(detail.SerializeAsString());
  return FromDetails(status.code(), ToStd(status.message()), std::move(rpc));
}

std::optional<Reason> ReasonOf(const absl::Status& status) {
  if (status.ok()) return std::nullopt;
  const auto info = InfoOf(DetailsOf(status));
  return info ? ReasonFromName(info->reason()) : std::nullopt;
}

v1::RpcStatus DetailsOf(const absl::Status& status) {
  v1::RpcStatus rpc;
  const auto payload = status.GetPayload(kPayloadUrl);
  if (payload && !rpc.ParseFromString(std::string(*payload))) rpc.Clear();
  return rpc;
}

ErrorContext ContextOf(const absl::Status& status) {
  ErrorContext context;
  const auto info = InfoOf(DetailsOf(status));
  if (!info) return context;
  for (const ContextField& field : kContextFields) {
    const auto found = info->metadata().find(std::string(field.name));
    if (found != info->metadata().end()) context.*field.member = found->second;
  }
  return context;
}

std::vector<FieldViolation> ViolationsOf(const absl::Status& status) {
  std::vector<FieldViolation> violations;
  const auto bad_request = Find<v1::BadRequest>(DetailsOf(status));
  if (!bad_request) return violations;
  for (const auto& violation : bad_request->field_violations()) {
    violations.push_back({violation.field(), violation.description()});
  }
  return violations;
}

std::optional<std::chrono::milliseconds> RetryAfterOf(const absl::Status& status) {
  const auto retry = Find<v1::RetryInfo>(DetailsOf(status));
  if (!retry) return std::nullopt;
  return std::chrono::seconds(retry->retry_delay().seconds()) +
         std::chrono::milliseconds(retry->retry_delay().nanos() / 1'000'000);
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto payload = status.GetPayload(kPayloadUrl);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
                      payload ? std::string(*payload) : std::string());
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  v1::RpcStatus rpc;
  if (!status.error_details().empty() && rpc.ParseFromString(status.error_details())) {
    result.SetPayload(kPayloadUrl, absl::Cord(status.error_details()));
  }
  return result;
}

}  // namespace clarion
