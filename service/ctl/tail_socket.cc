#include "service/ctl/tail_socket.h"

#include <exception>
#include <future>
#include <thread>
#include <utility>

#include "boost/asio/awaitable.hpp"
#include "boost/asio/co_spawn.hpp"
#include "boost/asio/connect.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/redirect_error.hpp"
#include "boost/asio/ssl/context.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/asio/use_awaitable.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/message.hpp"
#include "boost/beast/http/string_body.hpp"
#include "boost/beast/ssl/ssl_stream.hpp"
#include "boost/beast/websocket.hpp"
#include "boost/beast/websocket/ssl.hpp"
#include "boost/url/parse.hpp"
#include "openssl/ssl.h"
#include "proto/base/text.h"
#include "proto/contract/error.h"

namespace clarion::ctl {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace websocket = boost::beast::websocket;
using asio::ip::tcp;
using boost::system::error_code;
using Kind = SocketEnd::Kind;

constexpr size_t kMaxMessageBytes = 16 * 1024 * 1024;
constexpr auto kIdle = std::chrono::seconds(60);
// How long a close waits for the gateway's own.
constexpr auto kCloseWait = std::chrono::seconds(1);
constexpr char kSubprotocol[] = "clarion.v1.json";

auto Into(error_code& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

websocket::stream_base::timeout Times(websocket::stream_base::duration handshake) {
  websocket::stream_base::timeout times;
  times.handshake_timeout = handshake;
  times.idle_timeout = kIdle;
  times.keep_alive_pings = true;
  return times;
}

SocketEnd Unreachable(std::string_view step, const error_code& error) {
  return {Kind::kUnreachable, 0, Concat(step, ": ", error.message())};
}

// No extension is asked for.
template <class Stream>
using Socket = websocket::stream<Stream, false>;

template <class Stream>
asio::awaitable<SocketEnd> Open(Socket<Stream>& socket, const StreamUrl& url) {
  socket.set_option(Times(websocket::stream_base::none()));
  socket.set_option(websocket::stream_base::decorator([](websocket::request_type& request) {
    request.set(http::field::sec_websocket_protocol, kSubprotocol);
    request.set(http::field::user_agent, "clarionctl");
  }));
  socket.read_message_max(kMaxMessageBytes);

  error_code error;
  websocket::response_type response;
  const bool ipv6 = url.host.find(':') != std::string::npos;
  const std::string authority = Concat(ipv6 ? "[" : "", url.host, ipv6 ? "]" : "", ":", url.port);
  co_await socket.async_handshake(response, authority, url.target, Into(error));
  if (error == websocket::error::upgrade_declined) {
    const std::string_view body(response.body());
    co_return SocketEnd{Kind::kRefused, static_cast<uint16_t>(response.result_int()),
                        Concat("HTTP ", response.result_int(), " ", body.substr(0, 200))};
  }
  if (error) co_return Unreachable("handshake", error);
  if (response[http::field::sec_websocket_protocol] != kSubprotocol) {
    co_return SocketEnd{Kind::kUnreachable, 0,
                        Concat("what answers there does not speak ", kSubprotocol)};
  }
  co_return SocketEnd{Kind::kStopped, 0, ""};
}

template <class Stream>
SocketEnd EndOf(Socket<Stream>& socket, const error_code& error) {
  if (error == websocket::error::closed) {
    return {Kind::kClosed, socket.reason().code, std::string(socket.reason().reason.c_str())};
  }
  return {Kind::kBroken, 0, error.message()};
}

template <class Stream>
asio::awaitable<SocketEnd> Converse(Socket<Stream>& socket, const SocketCalls& calls) {
  error_code error;
  beast::flat_buffer buffer;
  std::optional<std::string> reply = calls.on_open();
  for (;;) {
    if (!reply->empty()) {
      co_await socket.async_write(asio::buffer(*reply), Into(error));
      // What the gateway said before it closed is still to be read.
      if (error && error != websocket::error::closed && error != asio::error::broken_pipe &&
          error != asio::error::connection_reset) {
        co_return EndOf(socket, error);
      }
    }
    buffer.clear();
    co_await socket.async_read(buffer, Into(error));
    if (error) co_return EndOf(socket, error);
    const auto data = buffer.cdata();
    reply = calls.on_message({static_cast<const char*>(data.data()), data.size()});
    if (!reply) break;
  }
  socket.set_option(Times(kCloseWait));
  co_await socket.async_close(websocket::close_code::normal, Into(error));
  co_return SocketEnd{Kind::kStopped, 0, ""};
}

template <class Stream>
asio::awaitable<SocketEnd> OpenAndConverse(Socket<Stream>& socket, const StreamUrl& url,
                                           const SocketCalls& calls) {
  SocketEnd end = co_await Open(socket, url);
  if (end.kind == Kind::kStopped) end = co_await Converse(socket, calls);
  co_return end;
}

asio::awaitable<SocketEnd> RunPlain(tcp::socket stream, const StreamUrl& url,
                                    const SocketCalls& calls) {
  Socket<tcp::socket> socket(std::move(stream));
  co_return co_await OpenAndConverse(socket, url, calls);
}

asio::awaitable<SocketEnd> RunTls(tcp::socket stream, const StreamUrl& url, const Globals& globals,
                                  const SocketCalls& calls) {
  error_code error;
  asio::ssl::context context(asio::ssl::context::tls_client);
  context.set_verify_mode(asio::ssl::verify_peer, error);
  if (globals.tls_ca.empty()) {
    context.set_default_verify_paths(error);
  } else {
    context.load_verify_file(globals.tls_ca, error);
  }
  if (error) co_return Unreachable("--tls-ca", error);
  Socket<beast::ssl_stream<tcp::socket>> socket(std::move(stream), context);
  SSL* ssl = socket.next_layer().native_handle();
  if (SSL_set_tlsext_host_name(ssl, url.host.c_str()) != 1 ||
      SSL_set1_host(ssl, url.host.c_str()) != 1) {
    co_return SocketEnd{Kind::kUnreachable, 0, "TLS: bad host name"};
  }
  co_await socket.next_layer().async_handshake(asio::ssl::stream_base::client, Into(error));
  if (error) co_return Unreachable("TLS", error);
  co_return co_await OpenAndConverse(socket, url, calls);
}

using Endpoints = tcp::resolver::results_type;

asio::awaitable<SocketEnd> Run(const Endpoints& endpoints, const StreamUrl& url,
                               const Globals& globals, const SocketCalls& calls) {
  error_code error;
  tcp::socket stream(co_await asio::this_coro::executor);
  co_await asio::async_connect(stream, endpoints, Into(error));
  if (error) co_return Unreachable("connect", error);
  stream.set_option(tcp::no_delay(true), error);
  if (url.tls) co_return co_await RunTls(std::move(stream), url, globals, calls);
  co_return co_await RunPlain(std::move(stream), url, calls);
}

// A look-up cannot be cut short: its thread is left behind when it takes too long.
SocketEnd Resolve(const StreamUrl& url, std::chrono::steady_clock::time_point give_up_at,
                  Endpoints* endpoints) {
  using Found = std::pair<error_code, Endpoints>;
  std::promise<Found> promise;
  std::future<Found> found = promise.get_future();
  std::thread([promise = std::move(promise), host = url.host, port = url.port]() mutable {
    asio::io_context context;
    tcp::resolver resolver(context);
    Found result;
    result.second = resolver.resolve(host, port, result.first);
    promise.set_value(std::move(result));
  }).detach();
  if (found.wait_until(give_up_at) != std::future_status::ready) {
    return {Kind::kTimedOut, 0, "looking up " + url.host};
  }
  auto [error, result] = found.get();
  *endpoints = std::move(result);
  return error ? Unreachable("host name", error) : SocketEnd{Kind::kStopped, 0, ""};
}

}  // namespace

absl::StatusOr<StreamUrl> ParseStreamUrl(std::string_view text) {
  const auto parsed = boost::urls::parse_uri({text.data(), text.size()});
  if (!parsed || parsed->host().empty() ||
      (parsed->scheme() != "ws" && parsed->scheme() != "wss")) {
    return absl::InvalidArgumentError("--url must be ws://HOST:PORT/v1/stream or wss://…");
  }
  StreamUrl url;
  url.tls = parsed->scheme() == "wss";
  url.host = parsed->host_address();
  url.port = parsed->has_port() && !parsed->port().empty() ? std::string(parsed->port())
                                                           : (url.tls ? "443" : "80");
  url.target = std::string(parsed->encoded_path());
  if (url.target.empty() || url.target == "/") url.target = "/v1/stream";
  if (parsed->has_query()) url.target += "?" + std::string(parsed->encoded_query());
  return url;
}

SocketEnd RunSocket(const StreamUrl& url, const Globals& globals, const SocketCalls& calls,
                    std::chrono::steady_clock::time_point give_up_at) {
  Endpoints endpoints;
  SocketEnd end = Resolve(url, give_up_at, &endpoints);
  if (end.kind != Kind::kStopped) return end;
  asio::io_context loop{1};
  asio::steady_timer timer(loop, give_up_at);
  timer.async_wait([&](error_code error) {
    if (error || calls.settled()) return;
    end = {Kind::kTimedOut, 0, "no answer"};
    loop.stop();
  });
  asio::co_spawn(loop, Run(endpoints, url, globals, calls),
                 [&](std::exception_ptr error, SocketEnd result) {
                   if (error) std::rethrow_exception(error);
                   end = std::move(result);
                   timer.cancel();
                 });
  try {
    loop.run();
  } catch (const std::exception& error) {
    end = {Kind::kBroken, 0, error.what()};
  }
  return end;
}

}  // namespace clarion::ctl
