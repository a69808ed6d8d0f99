#include "service/front/core.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "proto/base/text.h"
#include "telemetry/log.h"

namespace clarion::front {
namespace {

// Version 00: 00-<32 hex>-<16 hex>-<2 hex>, lower case, neither id all zeros. Later versions may be
// longer, which nobody sends yet; they are treated as absent.
constexpr size_t kTraceparentBytes = 55;
constexpr size_t kMaxTracestateBytes = 512;

bool IsLowerHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
  });
}

bool AllZero(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos;
}

bool ValidTraceparent(std::string_view text) {
  if (text.size() != kTraceparentBytes || text.substr(0, 3) != "00-") return false;
  if (text[35] != '-' || text[52] != '-') return false;
  const std::string_view trace = text.substr(3, 32), span = text.substr(36, 16);
  return IsLowerHex(trace) && !AllZero(trace) && IsLowerHex(span) && !AllZero(span) &&
         IsLowerHex(text.substr(53));
}

bool ValidTracestate(std::string_view text) {
  return text.size() <= kMaxTracestateBytes &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return c >= 0x20 && c <= 0x7e; });
}

std::string_view MetadataOf(const grpc::ServerContextBase& context, const char* key) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(key);
  if (found == metadata.end()) return {};
  return {found->second.data(), found->second.size()};
}

}  // namespace

CallFacts::CallFacts(const grpc::ServerContextBase& context, std::string_view operation)
    : operation(operation) {
  const std::string_view traceparent = MetadataOf(context, "traceparent");
  if (!ValidTraceparent(traceparent)) return;
  trace.set_traceparent(std::string(traceparent));
  trace_id = std::string(traceparent.substr(3, 32));
  const std::string_view tracestate = MetadataOf(context, "tracestate");
  if (ValidTracestate(tracestate)) trace.set_tracestate(std::string(tracestate));
}

ErrorContext CallFacts::Context(std::string_view user, std::string_view thread,
                                std::string_view run) const {
  return {.user_id = std::string(user),
          .thread_id = std::string(thread),
          .run_id = std::string(run),
          .operation = operation,
          .trace_id = trace_id};
}

absl::Status NotServing() {
  return WithRetryAfter(
      MakeError(Reason::kNotInitialized, "the service is starting or stopping; try again"),
      std::chrono::milliseconds(500));
}

absl::Status Core::Serving() const {
  return serving_.load(std::memory_order_acquire) ? absl::OkStatus() : NotServing();
}

void Core::StopServing() {
  serving_.store(false, std::memory_order_release);
  std::vector<std::shared_ptr<LastingCall>> calls;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    for (const auto& [key, weak] : lasting_) {
      if (auto call = weak.lock()) calls.push_back(std::move(call));
    }
    lasting_.clear();
  }
  for (const auto& call : calls) call->End(NotServing());
}

absl::Status Core::Note(absl::Status status, const ErrorContext& context) const {
  status = WithContext(std::move(status), context);
  // The log mends itself, and nobody knows when.
  if (ReasonOf(status) == Reason::kLogUnavailable && !RetryAfterOf(status).has_value()) {
    status = WithRetryAfter(std::move(status), std::chrono::seconds(1));
  }
  if (!options.production) {
    const ErrorContext said = ContextOf(status);
    const std::string chain = Concat(said.operation, ": ", status.message(),
                                     said.cause.empty() ? "" : "; caused by ", said.cause);
    status = WithDebug(std::move(status), chain);
  }
  LogFailure(status);
  return status;
}

grpc::Status Core::Fail(absl::Status status, const ErrorContext& context) const {
  return ToGrpc(Note(std::move(status), context));
}

bool Core::Add(const std::shared_ptr<LastingCall>& call) {
  MutexLock lock(mutex_);
  if (stopped_) return false;
  lasting_.emplace(call.get(), call);
  return true;
}

void Core::Remove(LastingCall* call) {
  MutexLock lock(mutex_);
  lasting_.erase(call);
}

}  // namespace clarion::front
