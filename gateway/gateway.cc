#include "gateway/gateway.h"

#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <random>
#include <thread>
#include <tuple>
#include <utility>

#include "boost/asio/as_tuple.hpp"
#include "boost/asio/basic_socket_acceptor.hpp"
#include "boost/asio/co_spawn.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/use_awaitable.hpp"
#include "gateway/checked_options.h"
#include "gateway/loop.h"
#include "proto/base/text.h"
#include "telemetry/log.h"
#include "telemetry/runtime/admin_server.h"

namespace clarion::gateway {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Executor = asio::io_context::executor_type;
using Acceptor = asio::basic_socket_acceptor<tcp, Executor>;
constexpr auto kUseTuple = asio::as_tuple_t<asio::use_awaitable_t<Executor>>();

// Descriptors beside those of connections: logs, links, the admin port.
constexpr size_t kOtherDescriptors = 200;
// After a failure to accept, out of descriptors for instance.
constexpr std::chrono::milliseconds kAcceptPause{100};
// How long stopping waits for browsers to take leave, once all were told.
constexpr std::chrono::milliseconds kStopGrace{2'000};
// A browser that takes no more than this leaves the rest in our queue, which has a bound.
constexpr int kUnsentInKernelBytes = 128 * 1024;

// Of a checked address.
tcp::endpoint EndpointOf(const HostPort& listen) {
  return {asio::ip::make_address(listen.host == "localhost" ? "127.0.0.1" : listen.host),
          listen.port};
}

std::string MakeGatewayId() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  std::string id;
  for (const char* c = host.data(); *c != '\0' && id.size() < kMaxGatewayIdBytes - 8; ++c) {
    const bool plain = (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') ||
                       (*c >= 'A' && *c <= 'Z') || *c == '-';
    id += plain ? *c : '-';
  }
  static constexpr char kDigits[] = "0123456789abcdef";
  std::random_device random;
  id += '-';
  for (int i = 0; i < 6; ++i) id += kDigits[random() % 16];
  return id;
}

// As many descriptors as the system lets this process have.
void RaiseDescriptorLimit(size_t max_connections) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < max_connections + kOtherDescriptors) {
    Log(Severity::kWarning, "fewer file descriptors than --max-connections needs",
        {{"descriptors", std::to_string(limit.rlim_cur)},
         {"max_connections", std::to_string(max_connections)}});
  }
}

class GatewayImpl final : public Gateway {
 public:
  GatewayImpl(GatewayOptions options, std::unique_ptr<const TokenVerifier> verifier,
              ResponderOptions responder)
      : shared_{.options = options,
                .verifier = std::move(verifier),
                .responder = Responder(std::move(responder)),
                .user_limit = UserLimit(options.max_connections_per_user),
                .question_limit = UserLimit(options.max_questions_per_user),
                .handshake_bytes = HandshakeBytes(options.max_handshake_bytes),
                .queue_budget = QueueBudget(options.max_queued_bytes_total)} {}

  // Binds, so that the port is known.
  absl::Status Listen(const tcp::endpoint& endpoint);
  absl::Status Run(const LinkFactory& link, const HostPort& admin_listen);
  absl::Status OpenAdmin(const HostPort& listen);

  uint16_t port() const override { return address_.port(); }
  uint16_t admin_port() const override { return admin_->port(); }
  void Stop() override;

 private:
  static asio::awaitable<void, Executor> Accept(GatewayImpl* gateway);
  void Distribute(Loop& loop, Socket socket);
  absl::Status Ready();

  Shared shared_;
  asio::io_context accepting_{1};
  Acceptor acceptor_{accepting_};
  tcp::endpoint address_;
  std::vector<std::unique_ptr<Loop>> loops_;
  size_t next_loop_ = 0;  // of the accepting thread
  std::thread accepting_thread_;
  std::unique_ptr<AdminServer> admin_;
  std::atomic<bool> draining_{false};
  bool stopped_ = false;
};

absl::Status GatewayImpl::Listen(const tcp::endpoint& endpoint) {
  boost::system::error_code error;
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return absl::UnavailableError("--" + shared_.options.flag_prefix + "listen: cannot listen on " +
                                  shared_.options.listen + ": " + error.message());
  }
  address_ = acceptor_.local_endpoint();
  return absl::OkStatus();
}

absl::Status GatewayImpl::Run(const LinkFactory& link, const HostPort& admin_listen) {
  // Where canaries find us: a wildcard is no address to connect to.
  tcp::endpoint self = address_;
  if (self.address().is_unspecified()) {
    self.address(self.protocol() == tcp::v6()
                     ? asio::ip::address(asio::ip::address_v6::loopback())
                     : asio::ip::address(asio::ip::address_v4::loopback()));
  }
  const GatewayOptions& options = shared_.options;
  for (size_t i = 0; i < options.loops; ++i) {
    std::string id = options.gateway_id;
    if (options.loops > 1) id += "." + std::to_string(i);
    loops_.push_back(std::make_unique<Loop>(shared_, std::move(id), link, self));
  }
  for (const auto& loop : loops_) loop->Start();
  if (absl::Status status = OpenAdmin(admin_listen); !status.ok()) return status;
  asio::co_spawn(accepting_, Accept(this), [](std::exception_ptr error) {
    if (error) Log(Severity::kError, "accepting connections threw");
  });
  accepting_thread_ = std::thread([this] { accepting_.run(); });
  Log(Severity::kInfo, "gateway serves",
      {{"gateway_id", options.gateway_id},
       {"address", address_.address().to_string() + ":" + std::to_string(port())},
       {"loops", std::to_string(options.loops)}});
  return absl::OkStatus();
}

absl::Status GatewayImpl::OpenAdmin(const HostPort& listen) {
  auto admin = AdminServer::Start({.listen = listen, .ready = [this] { return Ready(); }});
  if (!admin.ok()) {
    return absl::UnavailableError(Concat("--", shared_.options.flag_prefix,
                                         "admin-listen: ", ToStd(admin.status().message())));
  }
  admin_ = *std::move(admin);
  return absl::OkStatus();
}

absl::Status GatewayImpl::Ready() {
  if (draining_.load()) return absl::UnavailableError("the gateway stops: it sends browsers away");
  for (const auto& loop : loops_) {
    if (absl::Status status = loop->Ready(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

asio::awaitable<void, Executor> GatewayImpl::Accept(GatewayImpl* gateway) {
  asio::basic_waitable_timer<std::chrono::steady_clock,
                             asio::wait_traits<std::chrono::steady_clock>, Executor>
      pause(gateway->accepting_);
  while (gateway->acceptor_.is_open()) {
    // In turn: connections live long and cost much the same.
    Loop& loop = *gateway->loops_[gateway->next_loop_++ % gateway->loops_.size()];
    const Executor executor = loop.io().get_executor();
    auto [error, socket] = co_await gateway->acceptor_.async_accept(executor, kUseTuple);
    if (!error) {
      gateway->Distribute(loop, std::move(socket));
    } else if (error != asio::error::operation_aborted &&
               error != asio::error::connection_aborted) {
      Log(Severity::kWarning, "cannot accept a connection", {{"cause", error.message()}});
      pause.expires_after(kAcceptPause);
      std::ignore = co_await pause.async_wait(kUseTuple);
    }
  }
}

void GatewayImpl::Distribute(Loop& loop, Socket socket) {
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kUnsentInKernelBytes,
               sizeof kUnsentInKernelBytes);
  asio::post(loop.io(),
             [&loop, socket = std::move(socket)]() mutable { loop.Take(std::move(socket)); });
}

void GatewayImpl::Stop() {
  if (std::exchange(stopped_, true)) return;
  draining_.store(true);
  // The accept under way holds a socket of a loop: it ends before the loops do.
  asio::post(accepting_, [this] {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
  });
  if (accepting_thread_.joinable()) accepting_thread_.join();
  const GatewayOptions& options = shared_.options;
  const auto now = std::chrono::steady_clock::now();
  const DrainPlan plan{.begin = now,
                       .end = now + std::chrono::seconds(options.drain_seconds),
                       .per_second = static_cast<double>(options.drain_per_second) /
                                     static_cast<double>(loops_.size())};
  Log(Severity::kInfo, "gateway stops",
      {{"gateway_id", options.gateway_id},
       {"connections", Concat(shared_.connections.load(std::memory_order_relaxed))}});
  for (const auto& loop : loops_) loop->BeginStop(plan);
  for (const auto& loop : loops_) loop->FinishStop(plan.end + kStopGrace);
  admin_.reset();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Start(GatewayOptions options, LinkFactory link) {
  auto checked = CheckOptions(options);
  if (!checked.ok()) return checked.status();
  if (options.gateway_id.empty()) options.gateway_id = MakeGatewayId();
  RaiseDescriptorLimit(options.max_connections);

  auto gateway = std::make_unique<GatewayImpl>(std::move(options), std::move(checked->verifier),
                                               std::move(checked->responder));
  absl::Status status = gateway->Listen(EndpointOf(checked->listen));
  if (status.ok()) status = gateway->Run(link, checked->admin_listen);
  if (!status.ok()) {
    gateway->Stop();
    return status;
  }
  return gateway;
}

}  // namespace clarion::gateway
