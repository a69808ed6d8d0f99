#include "telemetry/runtime/admin_server.h"

#include <chrono>
#include <exception>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "boost/asio/awaitable.hpp"
#include "boost/asio/co_spawn.hpp"
#include "boost/asio/detached.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/redirect_error.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/asio/use_awaitable.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/core/tcp_stream.hpp"
#include "boost/beast/http.hpp"
#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "telemetry/metrics.h"

namespace clarion {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;

constexpr size_t kMaxConnections = 32;
constexpr uint32_t kMaxHeaderBytes = 8 * 1024;
constexpr uint64_t kMaxBodyBytes = 1024;
// For the whole of one request and its answer.
constexpr auto kTimeout = std::chrono::seconds(5);

using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

Response Answer(http::status status, std::string body,
                std::string_view content_type = "text/plain; charset=utf-8") {
  Response response(status, 11);
  response.set(http::field::content_type, {content_type.data(), content_type.size()});
  response.set(http::field::cache_control, "no-store");
  response.keep_alive(false);
  response.body() = std::move(body);
  response.prepare_payload();
  return response;
}

class AdminServerImpl : public AdminServer {
 public:
  explicit AdminServerImpl(AdminOptions options) : options_(std::move(options)), acceptor_(loop_) {}

  ~AdminServerImpl() override {
    loop_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Listen() {
    boost::system::error_code error;
    const auto address = asio::ip::make_address(
        options_.listen.host == "localhost" ? "127.0.0.1" : options_.listen.host, error);
    if (error) return Refused("is not an address");
    const tcp::endpoint endpoint(address, options_.listen.port);
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return Refused(error.message());
    port_ = acceptor_.local_endpoint(error).port();
    asio::co_spawn(loop_, Accept(), asio::detached);
    thread_ = std::thread([this] { loop_.run(); });
    return absl::OkStatus();
  }

  uint16_t port() const override { return port_; }

 private:
  absl::Status Refused(std::string_view why) const {
    return MakeError(Reason::kNotInitialized, Concat("cannot listen on ", options_.listen.host, ":",
                                                     options_.listen.port, ": ", why));
  }

  asio::awaitable<void> Accept() {
    for (;;) {
      boost::system::error_code error;
      tcp::socket socket =
          co_await acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, error));
      if (error) {
        // Out of descriptors, most likely: at once again would only burn the processor.
        asio::steady_timer pause(loop_, std::chrono::milliseconds(100));
        co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
        continue;
      }
      if (connections_ == kMaxConnections) continue;  // closes it
      ++connections_;
      asio::co_spawn(loop_, Serve(beast::tcp_stream(std::move(socket))),
                     [this](std::exception_ptr) { --connections_; });
    }
  }

  // One request, one answer.
  asio::awaitable<void> Serve(beast::tcp_stream stream) {
    boost::system::error_code error;
    beast::flat_buffer buffer(kMaxHeaderBytes + kMaxBodyBytes);
    http::request_parser<http::string_body> parser;
    parser.header_limit(kMaxHeaderBytes);
    parser.body_limit(kMaxBodyBytes);
    stream.expires_after(kTimeout);
    co_await http::async_read(stream, buffer, parser,
                              asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;
    Response response = Handle(parser.get());
    co_await http::async_write(stream, response, asio::redirect_error(asio::use_awaitable, error));
    stream.socket().shutdown(tcp::socket::shutdown_send, error);
  }

  Response Handle(const Request& request) {
    const bool head = request.method() == http::verb::head;
    if (request.method() != http::verb::get && !head) {
      Response refused = Answer(http::status::method_not_allowed, "only GET and HEAD\n");
      refused.set(http::field::allow, "GET, HEAD");
      return refused;
    }
    const auto target = request.target();
    Response response = Route(std::string_view(target.data(), target.size()));
    // Content-Length stays that of the body that GET would get.
    if (head) response.body().clear();
    return response;
  }

  Response Route(std::string_view target) {
    const std::string_view path = target.substr(0, target.find('?'));
    if (path == "/healthz") return Answer(http::status::ok, "ok\n");
    if (path == "/readyz") return Ready();
    if (path == "/metrics") {
      return Answer(http::status::ok, MetricsText(), "text/plain; version=0.0.4; charset=utf-8");
    }
    return Answer(http::status::not_found, "try /healthz, /readyz or /metrics\n");
  }

  Response Ready() {
    const absl::Status status = options_.ready ? options_.ready() : absl::OkStatus();
    if (status.ok()) return Answer(http::status::ok, "ready\n");
    return Answer(http::status::service_unavailable, Concat(status.message(), "\n"));
  }

  const AdminOptions options_;
  asio::io_context loop_{1};
  tcp::acceptor acceptor_;
  uint16_t port_ = 0;
  size_t connections_ = 0;  // the loop's
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(AdminOptions options) {
  auto server = std::make_unique<AdminServerImpl>(std::move(options));
  if (absl::Status status = server->Listen(); !status.ok()) return status;
  return server;
}

}  // namespace clarion
