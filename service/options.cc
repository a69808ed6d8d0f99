// The flags of the service's half, and what is wrong with them.
#include "grpcpp/security/server_credentials.h"
#include "proto/base/text.h"
#include "service/checked_options.h"
#include "service/runs/run_protocol.h"
#include "telemetry/runtime/tls.h"

namespace clarion::service {
namespace {

constexpr std::string_view kEmbedded = "embedded:";
constexpr size_t kLeastEventBytes = 1024, kMostEventBytes = 1024 * 1024;
// As many as a state tells of.
constexpr size_t kMostOpenRuns = 100;
constexpr size_t kMostPages = 1'024;
constexpr uint64_t kMostLeaseSeconds = 86'400;
// A hundred years: what is longer does not fit into times.
constexpr uint64_t kMostRetentionHours = 876'000;
constexpr uint64_t kMostTombstoneDays = 36'500;
constexpr uint64_t kMostPurgeMinutes = 1'440;

absl::Status CheckLimits(const ServiceOptions& options) {
  if (options.max_event_bytes < kLeastEventBytes || options.max_event_bytes > kMostEventBytes) {
    return Mistake("--max-event-bytes", "must be 1024 to 1048576");
  }
  if (options.retention_hours == 0) return Mistake("--retention-hours", "must be at least 1");
  if (options.retention_critical_hours > kMostRetentionHours) {
    return Mistake("--retention-critical-hours", "must be at most 876000");
  }
  if (options.retention_critical_hours < options.retention_hours) {
    return Mistake("--retention-critical-hours", "must not be less than --retention-hours");
  }
  if (options.thread_max_bytes < options.max_event_bytes) {
    return Mistake("--thread-max-bytes", "must not be less than --max-event-bytes");
  }
  if (options.max_user_connections == 0) {
    return Mistake("--max-user-connections", "must be at least 1");
  }
  if (options.max_resting_connections == 0) {
    return Mistake("--max-resting-connections", "must be at least 1");
  }
  if (options.max_all_threads == 0) return Mistake("--max-all-threads", "must be at least 1");
  if (options.max_open_runs == 0 || options.max_open_runs > kMostOpenRuns) {
    return Mistake("--max-open-runs", "must be 1 to 100");
  }
  if (!runs::RunRulesOf(options.run_protocol)) {
    return Mistake("--run-protocol", "must be strict, lenient or off");
  }
  if (options.run_lease_seconds == 0 || options.run_lease_seconds > kMostLeaseSeconds) {
    return Mistake("--run-lease-seconds", "must be 1 to 86400");
  }
  if (options.max_pages == 0 || options.max_pages > kMostPages) {
    return Mistake("--max-pages", "must be 1 to 1024");
  }
  if (options.thread_max_events == 0) return Mistake("--thread-max-events", "must be at least 1");
  if (options.tombstone_days == 0 || options.tombstone_days > kMostTombstoneDays) {
    return Mistake("--tombstone-days", "must be 1 to 36500");
  }
  if (options.purge_minutes > kMostPurgeMinutes) {
    return Mistake("--purge-minutes", "must be at most 1440");
  }
  return absl::OkStatus();
}

// The path of an embedded log.
absl::StatusOr<std::string> LogPath(const std::string& url) {
  if (url.starts_with(kEmbedded)) {
    std::string path = url.substr(kEmbedded.size());
    if (path.empty()) return Mistake("--log-url", "embedded: needs a path, as in embedded:PATH");
    return path;
  }
  if (url.starts_with("redis://") || url.starts_with("rediss://") ||
      url.starts_with("redis+cluster://")) {
    return Mistake("--log-url", "this version does not serve the Redis log; use embedded:PATH");
  }
  return Mistake("--log-url", Concat("'", url, "' is not a log; use embedded:PATH"));
}

absl::Status CheckExposure(const ServiceOptions& options, const CheckedOptions& checked) {
  if (options.insecure) return absl::OkStatus();
  if (!IsLoopback(checked.listen.host) && options.tls_cert_file.empty()) {
    return Mistake("--listen", Concat(options.listen,
                                      " is not loopback: give --tls-cert-file and "
                                      "--tls-key-file, or say --insecure"));
  }
  if (!IsLoopback(checked.admin_listen.host)) {
    return Mistake("--admin-listen", Concat(options.admin_listen,
                                            " is not loopback, and this port is plain HTTP: "
                                            "say --insecure"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Mistake(std::string_view flag, std::string_view what) {
  return absl::InvalidArgumentError(Concat(flag, ": ", what));
}

void ServiceOptions::AddFlags(Flags& flags) {
  flags.Add("--log-url", log_url, "Where events are kept: embedded:PATH");
  flags.Add("--listen", listen, "Where gRPC is served");
  flags.Add("--admin-listen", admin_listen, "Where /healthz, /readyz and /metrics are served");
  flags.AddSwitch("--insecure", insecure, "Allow plaintext on other than loopback addresses");
  flags.AddSwitch("--production", production, "Leave DebugInfo out of errors");
  flags.Add("--max-event-bytes", max_event_bytes, "Largest event, as JSON, in bytes");
  flags.Add("--max-user-connections", max_user_connections,
            "Connections of one user over all gateways");
  flags.Add("--max-resting-connections", max_resting_connections,
            "Polling connections that may be between two polls at a time");
  flags.Add("--max-user-claims", max_user_claims,
            "Threads that a user may wait for without owning them");
  flags.Add("--max-all-threads", max_all_threads, "Threads that `subscribe` {all} follows");
  flags.Add("--max-open-runs", max_open_runs, "Open runs of one thread");
  flags.Add(
      "--run-protocol", run_protocol,
      "What is done with an event that does not fit its run: strict refuses it, lenient mends "
      "the run, off takes it as it is");
  flags.Add("--run-lease-seconds", run_lease_seconds,
            "How long a run may be silent before the service ends it");
  flags.Add("--max-pages", max_pages, "Pages of replay that are read and compacted at a time");
  flags.Add("--retention-hours", retention_hours, "How long events are kept");
  flags.Add("--retention-critical-hours", retention_critical_hours,
            "How long unacknowledged critical events are kept");
  flags.Add("--thread-max-bytes", thread_max_bytes, "Bytes of events kept per thread, at most");
  flags.Add("--thread-max-events", thread_max_events, "Events kept per thread, at most");
  flags.Add("--tombstone-days", tombstone_days, "How long the id of a deleted thread is refused");
  flags.Add("--purge-minutes", purge_minutes, "When the bytes of deleted threads leave the disk");
  flags.Add("--tls-cert-file", tls_cert_file, "PEM chain of the gRPC server");
  flags.Add("--tls-key-file", tls_key_file, "PEM key of the gRPC server");
  flags.Add("--tls-client-ca-file", tls_client_ca_file,
            "PEM authorities; clients must show a certificate of theirs");
}

absl::StatusOr<CheckedOptions> CheckOptions(const ServiceOptions& options) {
  if (absl::Status status = CheckLimits(options); !status.ok()) return status;
  CheckedOptions checked;
  auto log_path = LogPath(options.log_url);
  if (!log_path.ok()) return log_path.status();
  checked.log_path = *std::move(log_path);
  const auto addresses =
      ParseListenFlags({{"--listen", options.listen}, {"--admin-listen", options.admin_listen}});
  if (!addresses.ok()) return addresses.status();
  checked.listen = addresses->at(0);
  checked.admin_listen = addresses->at(1);
  if (absl::Status status = CheckExposure(options, checked); !status.ok()) return status;
  auto credentials =
      MakeServerCredentials({.cert = {"--tls-cert-file", options.tls_cert_file},
                             .key = {"--tls-key-file", options.tls_key_file},
                             .ca = {"--tls-client-ca-file", options.tls_client_ca_file}});
  if (!credentials.ok()) return credentials.status();
  checked.credentials = *std::move(credentials);
  return checked;
}

absl::Status ServiceOptions::Check() const {
  return CheckOptions(*this).status();
}

}  // namespace clarion::service
