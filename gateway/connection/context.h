// What the connections of one loop share.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "boost/asio/io_context.hpp"
#include "boost/intrusive/list.hpp"
#include "gateway/auth/handshake_bytes.h"
#include "gateway/auth/token_verifier.h"
#include "gateway/connection/tickets.h"
#include "gateway/connection/user_limit.h"
#include "gateway/connection/write_turn.h"
#include "gateway/frames.h"
#include "gateway/hub/hub.h"
#include "gateway/timer_wheel.h"
#include "telemetry/failure_limiter.h"

namespace clarion::gateway {

struct ConnectionOptions {
  uint32_t heartbeat_ms = 25'000;
  uint32_t handshake_timeout_ms = 10'000;
  // From the close frame until the socket is closed whatever the peer does.
  uint32_t close_timeout_ms = 5'000;
  size_t max_message_bytes = 384 * 1024;  // see GatewayOptions
  size_t max_queued_bytes = 1024 * 1024;
  size_t max_queued_events = 10'000;
  // How long a connection that polls keeps its place between polls; at most 5 minutes.
  uint32_t poll_lease_ms = 30'000;
  // Frames from a page, each second on average and at once.
  uint32_t frames_per_second = 200;
  uint32_t frames_burst = 1'000;
};

// Linked into the loop's list of connections, for shutdown.
class ConnectionListHook : public boost::intrusive::list_base_hook<
                               boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
 public:
  // The gateway stops: come back after so long, not here.
  virtual void GoAway(uint32_t reconnect_after_ms) = 0;
  // See Hub::FollowsOpenRun.
  virtual bool FollowsOpenRun() const = 0;

 protected:
  ~ConnectionListHook() = default;
};
using ConnectionList =
    boost::intrusive::list<ConnectionListHook, boost::intrusive::constant_time_size<false>>;

// Outlives the loop's connections; on the loop's thread only, but for what says otherwise.
struct ConnectionContext {
  boost::asio::io_context& loop;
  const ConnectionOptions options;
  const TokenVerifier& verifier;    // any thread
  UserLimit& user_limit;            // any thread
  UserLimit& question_limit;        // any thread
  HandshakeBytes& handshake_bytes;  // any thread
  Tickets& tickets;                 // any thread
  TimerWheel& wheel;
  WriteTurn& turn;
  Hub* hub = nullptr;  // null again when the loop ends
  // Connection ids: this, `-` and a number. Unique among gateways, their loops and restarts.
  std::string id_prefix;
  uint64_t last_id = 0;
  ConnectionList connections{};
  // Of lines about connections that were cut off, and about refused handshakes.
  FailureLimiter cut_off_lines{};
  FailureLimiter handshake_lines{};
  // One `ping` for all, by Encoding.
  std::array<FramesPtr, kEncodings> pings{};
};

}  // namespace clarion::gateway
