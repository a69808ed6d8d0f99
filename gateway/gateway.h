// clarion-gateway as a library: loops, each with a link, a hub and its connections; the HTTP and
// WebSocket listener. `main` and the one-process program start it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "boost/asio/io_context.hpp"
#include "proto/link/link.h"
#include "telemetry/runtime/flags.h"

namespace clarion::gateway {

// README.md, "Configuration", lists every flag.
struct GatewayOptions {
  std::string gateway_id;  // empty: made from host name and a random part
  std::string listen = "127.0.0.1:7710";
  std::string admin_listen = "127.0.0.1:7711";
  bool insecure = false;
  size_t loops = 1;
  // Directory of the page; empty: the page that is compiled in.
  std::string web_root;
  // Development: `GET /v1/dev/token?user=…` hands out tokens, loopback only. Needs --token-secret.
  bool dev = false;

  // Tokens. At least one key; a key fixes its algorithm.
  std::string token_secret;                    // HS256
  std::vector<std::string> token_public_keys;  // PEM files: RSA -> RS256, P-256 -> ES256
  std::string token_issuer;                    // empty: any
  std::string token_audience;                  // empty: any
  uint64_t token_max_days = 0;                 // longest life of a token from now on; 0: any
  std::vector<std::string> allowed_origins;    // empty: same origin only; `*`: any

  uint32_t heartbeat_ms = 25'000;
  uint32_t handshake_timeout_ms = 10'000;
  // The longest `connect` of stream.proto, as JSON with ids and epochs of 128 bytes: 1,024
  // positions of 310 bytes, 128 subscriptions by name of 320, a token of 8 KiB; 359 KiB.
  size_t max_message_bytes = 384 * 1024;
  // Of messages of connections that are not authenticated, all together, beyond 8 KiB of each: a
  // thousand clients that come back at once with 100 KiB of positions each.
  size_t max_handshake_bytes = 128 * 1024 * 1024;
  // Of one connection: bytes and frames that wait for its socket.
  size_t max_queued_bytes = 1024 * 1024;
  size_t max_queued_events = 10'000;
  // Of all connections.
  size_t max_queued_bytes_total = 256 * 1024 * 1024;
  // A connection that takes nothing for so long while something waits is closed.
  uint32_t stall_timeout_ms = 30'000;
  size_t max_connections = 15'000;
  size_t max_connections_per_user = 100;
  // Requests of one user for pages, lists and frames to pass, from the question to the answer's
  // last byte. Each may have a page of a mebibyte in memory.
  size_t max_questions_per_user = 32;
  size_t subscriptions_per_connection = 128;
  // A connection that polls keeps its place so long between polls; at most 300.
  uint32_t poll_lease_seconds = 30;
  // A stop sends so many connections away per second, for so long at most; whoever is left then
  // goes at once and is told to come back later.
  uint32_t drain_per_second = 500;
  uint32_t drain_seconds = 20;
  uint32_t max_frames_per_second = 200;  // from one connection; five times that at once

  // What stands before `listen` and `admin-listen` in flags and sentences about them: empty, or
  // `gateway-` in the one-process program, whose --insecure is the service's flag for both.
  std::string flag_prefix;

  // Adds a flag for each.
  void AddFlags(Flags& flags);
  // Everything that can be wrong with them and with the files they name, without opening, creating
  // or binding anything; Start does it too. The error is one sentence that names the flag to mend.
  absl::Status Check() const;
};

// Makes the link of one loop; `gateway_id` is that loop's.
using LinkFactory = std::function<std::unique_ptr<link::Link>(boost::asio::io_context& loop)>;

class Gateway {
 public:
  // The error is one sentence that names the flag to mend.
  static absl::StatusOr<std::unique_ptr<Gateway>> Start(GatewayOptions options, LinkFactory link);
  virtual ~Gateway() = default;  // Stop() first
  virtual uint16_t port() const = 0;
  virtual uint16_t admin_port() const = 0;
  // Readiness ends at once; returns when the browsers have gone, after drain_seconds and two more
  // at most.
  virtual void Stop() = 0;
};

}  // namespace clarion::gateway
