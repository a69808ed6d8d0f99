// The parts of StartRun that only compute: names, tokens, and what is kept with a run.
#include <openssl/rand.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "proto/base/text.h"
#include "service/runs/start_run.h"

namespace clarion::runs {
namespace {

constexpr size_t kHexDigits = 32;

std::string Hex(const log::Digest& digest) {
  return absl::StrFormat("%016x%016x", digest.high, digest.low);
}

bool ParseHex(std::string_view text, uint64_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value, 16);
  return error == std::errc() && end == text.data() + text.size();
}

std::string TimeOf(const google::protobuf::Timestamp& stamp) {
  const absl::Time time = absl::FromUnixSeconds(stamp.seconds()) + absl::Nanoseconds(stamp.nanos());
  return absl::FormatTime("%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

}  // namespace

std::string EncodeRunFacts(const RunFacts& facts) {
  return Concat("2 ", Hex(facts.request), " ", static_cast<int>(facts.readiness), " ",
                facts.producer_token, " ", facts.lease.count());
}

std::optional<RunFacts> DecodeRunFacts(std::string_view data) {
  const std::vector<std::string> fields = absl::StrSplit(std::string(data), ' ');
  if (fields.size() != 5 || fields[0] != "2" || fields[1].size() != kHexDigits ||
      fields[2].size() != 1 || fields[3].size() != kHexDigits) {
    return std::nullopt;
  }
  RunFacts facts;
  if (!ParseHex(std::string_view(fields[1]).substr(0, 16), &facts.request.high) ||
      !ParseHex(std::string_view(fields[1]).substr(16), &facts.request.low)) {
    return std::nullopt;
  }
  const int readiness = fields[2].front() - '0';
  if (!v1::Readiness_IsValid(readiness)) return std::nullopt;
  facts.readiness = static_cast<v1::Readiness>(readiness);
  facts.producer_token = fields[3];
  int64_t lease = 0;
  if (!absl::SimpleAtoi(fields[4], &lease) || lease < 0) return std::nullopt;
  facts.lease = std::chrono::milliseconds(lease);
  return facts;
}

std::optional<std::chrono::milliseconds> LeaseOf(std::string_view data) {
  const std::optional<RunFacts> facts = DecodeRunFacts(data);
  if (!facts || facts->lease.count() == 0) return std::nullopt;
  return facts->lease;
}

EventId StartEventId(std::string_view request_id) {
  return EventId(Concat("_start.", Hex(log::Digest::Of(request_id))));
}

RunId MakeRunId(std::string_view request_id) {
  return RunId(Concat("run-", Hex(log::Digest::Of(Concat("run/", request_id)))));
}

void FillStarted(const v1::StartRunRequest& request, v1::Event* event) {
  event->set_agent_name(request.agent_name());
  if (request.has_trace_context()) *event->mutable_trace_context() = request.trace_context();
  v1::AgentStarted* started = event->mutable_agent_started();
  if (request.has_input()) started->set_input(request.input());
  if (request.has_parent_run_id()) started->set_parent_run_id(request.parent_run_id());
  if (request.has_parent_tool_call_id()) {
    started->set_parent_tool_call_id(request.parent_tool_call_id());
  }
  if (request.has_retry_of_run_id()) started->set_retry_of_run_id(request.retry_of_run_id());
}

std::string RandomHex() {
  unsigned char bytes[kHexDigits / 2];
  // Without randomness a token fences nothing; there is no way to go on.
  if (RAND_bytes(bytes, sizeof(bytes)) != 1) std::abort();
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(bytes), sizeof(bytes)));
}

absl::Status NotReady(const delivery::ReadyState& state, bool gateways,
                      const ErrorContext& context) {
  constexpr int kStepsSaid = 8;
  std::string message = gateways ? "" : "no gateway is attached; ";
  message += state.subscriptions > 0
                 ? "browsers of the user follow the thread, but no page answered the probe; seen:"
                 : "no browser of the user follows the thread; seen:";
  const int steps = static_cast<int>(state.steps.size());
  if (steps == 0) message += " nothing";
  if (steps > kStepsSaid) absl::StrAppend(&message, " (", steps - kStepsSaid, " earlier)");
  const int first = std::max(steps - kStepsSaid, 0);
  for (int i = first; i < steps; ++i) {
    const v1::ReadinessStep& step = state.steps[static_cast<size_t>(i)];
    absl::StrAppend(&message, i == first ? " " : "; ", TimeOf(step.at()),
                    " connections=", step.connections(), " subscriptions=", step.subscriptions());
  }
  return WithRetryAfter(MakeError(Reason::kNotReady, message, context), std::chrono::seconds(1));
}

}  // namespace clarion::runs
