// One event loop of the gateway: a thread with its link, its hub and its connections.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/steady_timer.hpp"
#include "gateway/connection/browser_api.h"
#include "gateway/connection/canary.h"
#include "gateway/connection/context.h"
#include "gateway/connection/frame_stream.h"
#include "gateway/drain.h"
#include "gateway/gateway.h"
#include "gateway/http/http_session.h"
#include "gateway/http/responder.h"
#include "gateway/hub/hub.h"
#include "proto/base/mutex.h"

namespace clarion::gateway {

// What all loops share; outlives them. Any thread.
struct Shared {
  const GatewayOptions options;
  const std::unique_ptr<const TokenVerifier> verifier;
  const Responder responder;
  UserLimit user_limit;
  UserLimit question_limit;
  HandshakeBytes handshake_bytes;
  QueueBudget queue_budget;
  Tickets tickets;
  std::atomic<size_t> connections{0};
};

// Owned by the gateway. Public calls from any thread but the loop's, unless they say otherwise.
class Loop {
 public:
  // `address`: where the gateway itself can be reached.
  Loop(Shared& shared, std::string gateway_id, const LinkFactory& link,
       boost::asio::ip::tcp::endpoint address);
  // Stop() first.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void Start();
  boost::asio::io_context& io() { return *io_; }
  // On the loop's thread: serves this socket.
  void Take(Socket socket);
  // OK: the link is up and the loop turns.
  absl::Status Ready();

  // Sends every connection away (see drain.h), waits until they have gone or it is time to give up,
  // ends the thread. The two steps are apart so that loops say goodbye at the same time.
  void BeginStop(const DrainPlan& plan);
  void FinishStop(std::chrono::steady_clock::time_point give_up_at);

 private:
  void Tick();
  void OnConnectionEnd();
  // Nobody is left, or to be told.
  void TellIfDrained();

  Shared& shared_;
  std::unique_ptr<boost::asio::io_context> io_;
  // The loop's thread only.
  TimerWheel wheel_;
  std::unique_ptr<WriteTurn> turn_;
  std::unique_ptr<ConnectionContext> connections_;
  std::unique_ptr<BrowserApi> api_;
  std::unique_ptr<HttpContext> http_;
  std::unique_ptr<CanaryContext> canaries_;
  std::unique_ptr<link::Link> link_;
  std::unique_ptr<Hub> hub_;
  std::unique_ptr<boost::asio::steady_timer> tick_;
  std::unique_ptr<Drain> drain_;  // not null: stopping

  Mutex mutex_;
  CondVar changed_;
  bool drained_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace clarion::gateway
