// The flags of the gateway's half.
#include "gateway/gateway.h"

namespace clarion::gateway {

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
  flags.Add("--max-connections", max_connections, "Connections of this process");
  flags.Add("--max-connections-per-user", max_connections_per_user, "Connections of one user");
  flags.Add("--subscriptions-per-connection", subscriptions_per_connection,
            "Subscriptions of one connection");
  flags.Add("--max-frames-per-second", max_frames_per_second,
            "Frames from one connection on average; five times as many at once");
}

}  // namespace clarion::gateway
