#include "gateway/loop.h"

#include <algorithm>
#include <future>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "boost/asio/post.hpp"
#include "gateway/connection/websocket.h"
#include "gateway/hub/loop_timer.h"
#include "telemetry/log.h"

namespace clarion::gateway {
namespace {

namespace asio = boost::asio;

// A loop that does not answer within this is not ready.
constexpr std::chrono::milliseconds kReadyTimeout{1'000};

// Tells this life of the loop, and its connections, from those of another.
std::string BootTag() {
  static constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuv";
  std::random_device random;
  std::string tag;
  for (int i = 0; i < 8; ++i) tag += kDigits[random() % 32];
  return tag;
}

}  // namespace

Loop::Loop(Shared& shared, std::string gateway_id, const LinkFactory& link,
           asio::ip::tcp::endpoint address)
    : shared_(shared),
      io_(std::make_unique<asio::io_context>(1)),
      wheel_(std::chrono::steady_clock::now()),
      turn_(std::make_unique<WriteTurn>(
          *io_, shared.queue_budget, std::chrono::milliseconds(shared.options.stall_timeout_ms))),
      link_(link(*io_)),
      tick_(std::make_unique<asio::steady_timer>(*io_)) {
  const GatewayOptions& options = shared.options;
  canaries_.reset(new CanaryContext{
      .loop = *io_,
      .wheel = wheel_,
      .tickets = shared.tickets,
      .address = std::move(address),
      .report = [this](v1::CanaryReport report) { hub_->Report(std::move(report)); },
  });
  const std::string boot = BootTag();
  HubOptions hub{.gateway_id = gateway_id,
                 .instance = boot,
                 .subscriptions_per_connection = options.subscriptions_per_connection,
                 .after = MakeLoopTimer(*io_)};
  const size_t quarter = options.max_queued_bytes / 4;
  hub.page_bytes = static_cast<uint32_t>(std::min<size_t>(hub.page_bytes, quarter));
  hub.recent_bytes_per_thread = std::min(hub.recent_bytes_per_thread, quarter);
  hub.page_events =
      static_cast<uint32_t>(std::min<size_t>(hub.page_events, options.max_queued_events / 4));
  hub_ = Hub::Create(std::move(hub), link_.get(),
                     [this](const v1::OpenCanary& check) { StartCanary(*canaries_, check); });
  connections_.reset(new ConnectionContext{
      .loop = *io_,
      .options = {.heartbeat_ms = options.heartbeat_ms,
                  .handshake_timeout_ms = options.handshake_timeout_ms,
                  .max_message_bytes = options.max_message_bytes,
                  .max_queued_bytes = options.max_queued_bytes,
                  .max_queued_events = options.max_queued_events,
                  .poll_lease_ms = 1000 * options.poll_lease_seconds,
                  .frames_per_second = options.max_frames_per_second,
                  .frames_burst = 5 * options.max_frames_per_second},
      .verifier = *shared.verifier,
      .user_limit = shared.user_limit,
      .question_limit = shared.question_limit,
      .handshake_bytes = shared.handshake_bytes,
      .tickets = shared.tickets,
      .wheel = wheel_,
      .turn = *turn_,
      .hub = hub_.get(),
      .id_prefix = gateway_id + "-" + boot,
  });
  api_ = std::make_unique<BrowserApi>(*connections_, *link_);
  http_.reset(new HttpContext{
      .loop = *io_,
      .responder = shared.responder,
      .wheel = wheel_,
      .queues = turn_->queues(),
      .timeout = std::chrono::milliseconds(options.handshake_timeout_ms),
      .upgrade =
          [this](Socket socket, HttpRequest request, Encoding encoding,
                 std::function<void()> on_end) {
            if (drain_ != nullptr) return on_end();
            WebSocket::Start(*connections_, std::move(socket), std::move(request), encoding,
                             std::move(on_end));
          },
      .api = *api_,
      .handshake_bytes = shared.handshake_bytes,
      .max_body_bytes = options.max_message_bytes,
  });
}

Loop::~Loop() {
  connections_->hub = nullptr;  // connections that are still there have nobody to tell
  drain_.reset();
  hub_.reset();
  link_.reset();
  tick_.reset();
  // Ends what coroutines are left, while what they use is still there.
  io_.reset();
}

void Loop::Start() {
  v1::ServerFrame ping;
  ping.mutable_ping();
  for (Encoding encoding : {Encoding::kJson, Encoding::kProto, Encoding::kEventStream}) {
    connections_->pings[static_cast<size_t>(encoding)] = Frames::OfMessage(encoding, ping);
  }
  asio::post(*io_, [this] {
    link_->Start(hub_.get());
    Tick();
  });
  thread_ = std::thread([this] { io_->run(); });
}

void Loop::Tick() {
  tick_->expires_after(TimerWheel::kTick);
  tick_->async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    const auto now = std::chrono::steady_clock::now();
    wheel_.Advance(now);
    turn_->queues().CheckStalls(now);
    turn_->queues().CheckBudget();
    if (drain_ != nullptr) {
      drain_->Advance(now);
      TellIfDrained();
    }
    Tick();
  });
}

void Loop::Take(Socket socket) {
  // Beyond the limit a few are still told so; the rest are closed unheard.
  constexpr size_t kToldWhenFull = 100;
  const size_t before = shared_.connections.fetch_add(1, std::memory_order_relaxed);
  if (drain_ != nullptr || before >= shared_.options.max_connections + kToldWhenFull) {
    shared_.connections.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  const Admission admission =
      before < shared_.options.max_connections ? Admission::kServe : Admission::kFull;
  StartHttpSession(*http_, std::move(socket), admission, [this] { OnConnectionEnd(); });
}

void Loop::OnConnectionEnd() {
  shared_.connections.fetch_sub(1, std::memory_order_relaxed);
  if (drain_ != nullptr) TellIfDrained();
}

void Loop::TellIfDrained() {
  // Sockets that only speak HTTP are not waited for.
  if (!drain_->done() || !connections_->connections.empty()) return;
  MutexLock lock(mutex_);
  drained_ = true;
  changed_.NotifyAll();
}

absl::Status Loop::Ready() {
  auto attached = std::make_shared<std::promise<absl::Status>>();
  std::future<absl::Status> answer = attached->get_future();
  asio::post(*io_, [this, attached] { attached->set_value(hub_->attached()); });
  if (answer.wait_for(kReadyTimeout) != std::future_status::ready) {
    return absl::UnavailableError("a loop does not turn");
  }
  absl::Status status = answer.get();
  if (status.ok()) return status;
  return absl::UnavailableError(
      absl::StrCat("the link to the service is down: ", status.message()));
}

void Loop::BeginStop(const DrainPlan& plan) {
  asio::post(*io_, [this, plan] {
    hub_->BeginDrain();
    api_->BeginDrain();
    drain_ = std::make_unique<Drain>(plan, connections_->connections);
    TellIfDrained();
  });
}

void Loop::FinishStop(std::chrono::steady_clock::time_point give_up_at) {
  {
    MutexLock lock(mutex_);
    while (!drained_ && changed_.WaitUntil(mutex_, give_up_at)) {
    }
  }
  asio::post(*io_, [this] {
    link_->Stop();
    tick_->cancel();
    io_->stop();
  });
  thread_.join();
}

}  // namespace clarion::gateway
