// The flags of the gateway's half, and what is wrong with them.
#include <chrono>
#include <string>
#include <utility>

#include "gateway/checked_options.h"
#include "proto/base/text.h"
#include "proto/contract/ids.h"

namespace clarion::gateway {
namespace {

constexpr uint32_t kMaxDrainSeconds = 3'600;
constexpr uint32_t kMaxPollLeaseSeconds = 300;
constexpr size_t kMaxLoops = 64;
constexpr uint64_t kMaxTokenDays = 36'500;

absl::Status Mistake(const std::string& what) {
  return absl::InvalidArgumentError(what);
}

absl::Status CheckLimits(const GatewayOptions& options) {
  if (options.loops == 0 || options.loops > kMaxLoops) return Mistake("--loops must be 1 to 64");
  if (!options.gateway_id.empty() &&
      (!ValidId(options.gateway_id) || options.gateway_id.size() > kMaxGatewayIdBytes)) {
    return Mistake("--gateway-id must be 1 to 64 bytes of printable ASCII");
  }
  if (options.dev && options.token_secret.empty()) return Mistake("--dev needs --token-secret");
  if (options.token_max_days > kMaxTokenDays) {
    return Mistake("--token-max-days must be at most 36500");
  }
  if (options.heartbeat_ms == 0) return Mistake("--heartbeat-ms must be above 0");
  if (options.handshake_timeout_ms == 0) return Mistake("--handshake-timeout-ms must be above 0");
  if (options.max_message_bytes < 1024) return Mistake("--max-message-bytes must be at least 1024");
  if (options.max_handshake_bytes < options.max_message_bytes) {
    return Mistake("--max-handshake-bytes must be at least --max-message-bytes");
  }
  if (options.max_queued_bytes < 64 * 1024) {
    return Mistake("--max-queued-bytes must be at least 65536");
  }
  if (options.max_queued_events < 64) return Mistake("--max-queued-events must be at least 64");
  if (options.max_queued_bytes_total < options.max_queued_bytes) {
    return Mistake("--max-queued-bytes-total must be at least --max-queued-bytes");
  }
  if (options.stall_timeout_ms == 0) return Mistake("--stall-timeout-ms must be above 0");
  if (options.max_connections == 0) return Mistake("--max-connections must be above 0");
  if (options.max_connections_per_user == 0) {
    return Mistake("--max-connections-per-user must be above 0");
  }
  if (options.max_questions_per_user == 0) {
    return Mistake("--max-questions-per-user must be above 0");
  }
  if (options.subscriptions_per_connection == 0) {
    return Mistake("--subscriptions-per-connection must be above 0");
  }
  if (options.max_frames_per_second == 0) return Mistake("--max-frames-per-second must be above 0");
  if (options.drain_per_second == 0) return Mistake("--drain-per-second must be above 0");
  if (options.poll_lease_seconds == 0 || options.poll_lease_seconds > kMaxPollLeaseSeconds) {
    return Mistake("--poll-lease-seconds must be 1 to 300");
  }
  if (options.drain_seconds > kMaxDrainSeconds) {
    return Mistake("--drain-seconds must be at most 3600");
  }
  return absl::OkStatus();
}

TokenOptions TokensOf(const GatewayOptions& options) {
  return {.secret = options.token_secret,
          .public_key_files = options.token_public_keys,
          .issuer = options.token_issuer,
          .audience = options.token_audience,
          .max_lifetime = std::chrono::hours(24 * options.token_max_days)};
}

absl::Status CheckExposure(const ListenFlag& listen, const HostPort& address) {
  if (IsLoopback(address.host)) return absl::OkStatus();
  return Mistake(Concat(listen.flag, ": ", listen.value,
                        " is not loopback: end TLS in front of the gateway and say --insecure"));
}

}  // namespace

void GatewayOptions::AddFlags(Flags& flags) {
  flags.Add("--gateway-id", gateway_id,
            "Name of this gateway, no other's (empty: host name and a random part)");
  flags.Add("--" + flag_prefix + "listen", listen, "Address for browsers");
  flags.Add("--" + flag_prefix + "admin-listen", admin_listen,
            "Address for /healthz, /readyz and /metrics");
  if (flag_prefix.empty()) {
    flags.AddSwitch("--insecure", insecure,
                    "Serve plaintext on other than loopback addresses (TLS ends elsewhere)");
  }
  flags.Add("--loops", loops, "Event loops, each a thread");
  flags.Add("--web-root", web_root,
            "Directory of the page, read at start (empty: the built-in page)");
  flags.AddSwitch("--dev", dev,
                  "Hand out tokens on /v1/dev/token to loopback; needs --token-secret");

  flags.AddSecret("--token-secret", token_secret, "Secret of HS256 tokens, at least 32 bytes");
  flags.Add(
      "--token-public-key", token_public_keys,
      "PEM file with a public key of tokens: RSA for RS256, P-256 for ES256; may be repeated");
  flags.Add("--token-issuer", token_issuer, "Required `iss` of tokens (empty: any)");
  flags.Add("--token-audience", token_audience, "Required `aud` of tokens (empty: any)");
  flags.Add("--token-max-days", token_max_days,
            "Refuse tokens that live longer than this from now on (0: any)");
  flags.Add(
      "--allowed-origin", allowed_origins,
      "Origin of pages that may connect; may be repeated, `*` for any (none: same origin only)");

  flags.Add("--heartbeat-ms", heartbeat_ms, "Milliseconds between pings");
  flags.Add("--handshake-timeout-ms", handshake_timeout_ms,
            "Milliseconds for an HTTP request, and from an upgrade to `connect`");
  flags.Add("--max-message-bytes", max_message_bytes, "Largest message from a browser");
  flags.Add("--max-handshake-bytes", max_handshake_bytes,
            "Bytes of messages held for browsers that are not authenticated, beyond 8 KiB of each");
  flags.Add("--max-queued-bytes", max_queued_bytes,
            "Bytes that may wait for one connection's socket");
  flags.Add("--max-queued-events", max_queued_events,
            "Events and other frames that may wait for one connection's socket");
  flags.Add("--max-queued-bytes-total", max_queued_bytes_total,
            "Bytes that may wait for all connections' sockets together");
  flags.Add("--stall-timeout-ms", stall_timeout_ms,
            "Milliseconds that a connection may take nothing while something waits for it");
  flags.Add("--max-connections", max_connections, "Connections of this process");
  flags.Add("--max-connections-per-user", max_connections_per_user, "Connections of one user");
  flags.Add("--max-questions-per-user", max_questions_per_user,
            "Requests for pages and lists of one user under way");
  flags.Add("--subscriptions-per-connection", subscriptions_per_connection,
            "Subscriptions of one connection");
  flags.Add("--max-frames-per-second", max_frames_per_second,
            "Frames from one connection on average; five times as many at once");
  flags.Add("--drain-per-second", drain_per_second,
            "Connections that a stop sends away each second");
  flags.Add("--poll-lease-seconds", poll_lease_seconds,
            "Seconds that a connection that polls keeps its place between polls, 1 to 300");
  flags.Add("--drain-seconds", drain_seconds,
            "Seconds until a stop sends away who is left, to come back later");
}

absl::StatusOr<CheckedOptions> CheckOptions(const GatewayOptions& options) {
  if (absl::Status status = CheckLimits(options); !status.ok()) return status;
  const std::vector<ListenFlag> listens = {
      {Concat("--", options.flag_prefix, "listen"), options.listen},
      {Concat("--", options.flag_prefix, "admin-listen"), options.admin_listen}};
  const auto addresses = ParseListenFlags(listens);
  if (!addresses.ok()) return addresses.status();
  for (size_t i = 0; i < listens.size() && !options.insecure; ++i) {
    if (absl::Status status = CheckExposure(listens[i], addresses->at(i)); !status.ok()) {
      return status;
    }
  }
  auto verifier = TokenVerifier::Create(TokensOf(options));
  if (!verifier.ok()) return verifier.status();
  auto origins = OriginPolicy::Create(options.allowed_origins);
  if (!origins.ok()) return origins.status();
  CheckedOptions checked{
      .listen = addresses->at(0),
      .admin_listen = addresses->at(1),
      .verifier = *std::move(verifier),
      .responder = {
          .origins = *std::move(origins), .dev = options.dev, .tokens = TokensOf(options)}};
  if (!options.web_root.empty()) {
    auto files = StaticFiles::Load(options.web_root);
    if (!files.ok()) return files.status();
    checked.responder.files = *std::move(files);
  }
  return checked;
}

absl::Status GatewayOptions::Check() const {
  return CheckOptions(*this).status();
}

}  // namespace clarion::gateway
