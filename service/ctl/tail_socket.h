// One WebSocket connection to a gateway, from opening to its end. Reads frame after frame on the
// caller's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/ctl/program.h"

namespace clarion::ctl {

struct StreamUrl {
  bool tls = false;
  std::string host;
  std::string port;
  std::string target;  // path and query
};
// `ws://host[:port][/path]` or `wss://…`; without a path `/v1/stream`.
absl::StatusOr<StreamUrl> ParseStreamUrl(std::string_view text);

// How a connection ended.
struct SocketEnd {
  enum class Kind {
    kStopped,      // the callback wanted no more
    kUnreachable,  // not opened: nobody there, or no WebSocket
    kRefused,      // not opened: HTTP said no; `code` is the HTTP status
    kClosed,       // the gateway closed; `code` is the close code
    kBroken,       // the connection broke
    kTimedOut,     // `give_up_at` came first
  };
  Kind kind = Kind::kBroken;
  uint16_t code = 0;
  std::string text;
};

struct SocketCalls {
  // The WebSocket is open: what to send first.
  std::function<std::string()> on_open;
  // A text message. Something: to be sent (empty: nothing). Nothing: close, no more is wanted.
  std::function<std::optional<std::string>(std::string_view)> on_message;
  // The connection has become what it is for.
  std::function<bool()> settled;
};

// Ends at `give_up_at` if the connection is not settled by then, whatever it waits for. Later, a
// gateway that is silent for a minute and does not answer pings counts as broken.
SocketEnd RunSocket(const StreamUrl& url, const Globals& globals, const SocketCalls& calls,
                    std::chrono::steady_clock::time_point give_up_at);

}  // namespace clarion::ctl
