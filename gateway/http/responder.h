// Answers to plain HTTP requests, and to upgrades that are refused. Knows no sockets.
//
//   GET /, /console.js …    the page, and the client in /client/
//   GET /healthz            200 while the loop turns
//   GET /v1/stream          upgrade to WebSocket, or why not
//   GET /v1/dev/token?user= with --dev, from loopback: {token, expires_at}
//   OPTIONS                 whether a page of another origin may make requests (CORS)
// What api_request.h takes does not come here. Everything else is 404; errors are JSON {code,
// message, user_message} with a reason of proto/contract/reason.h.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "boost/beast/http/empty_body.hpp"
#include "boost/beast/http/message.hpp"
#include "boost/beast/http/string_body.hpp"
#include "gateway/auth/token_verifier.h"
#include "gateway/frames.h"
#include "gateway/http/origin.h"
#include "gateway/http/static_files.h"
#include "proto/contract/close_code.h"
#include "proto/contract/reason.h"

namespace clarion::gateway {

using HttpRequest = boost::beast::http::request<boost::beast::http::empty_body>;
using HttpResponse = boost::beast::http::response<boost::beast::http::string_body>;

inline std::string_view ToStdView(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

inline constexpr std::string_view kStreamPath = "/v1/stream";

struct ResponderOptions {
  OriginPolicy origins;
  StaticFiles files;
  // Development tokens: those signed with `tokens.secret`.
  bool dev = false;
  TokenOptions tokens;
};

enum class From { kLoopback, kElsewhere };

// Immutable; any thread.
class Responder {
 public:
  explicit Responder(ResponderOptions options) : options_(std::move(options)) {}

  // Wants a WebSocket at kStreamPath: ask Upgrade, not Respond.
  static bool IsUpgrade(const HttpRequest& request);
  // The encoding of the connection to be; or why there is none.
  std::optional<HttpResponse> RefuseUpgrade(const HttpRequest& request, Encoding* encoding) const;

  HttpResponse Respond(const HttpRequest& request, From from,
                       std::chrono::system_clock::time_point now) const;

  // JSON that is nobody else's to keep.
  static HttpResponse Json(boost::beast::http::status status, std::string body);
  // A JSON error; the connection is closed after it.
  static HttpResponse Error(boost::beast::http::status status, Reason reason,
                            std::string_view message);
  // What a WebSocket is closed with, as the answer to a request: the row's code less 4000.
  static HttpResponse ErrorByRow(const CloseRow& row, std::string_view message,
                                 uint32_t retry_after_ms);
  // Pages of `origin` may read it. Empty: no effect.
  static void AllowOrigin(std::string_view origin, HttpResponse& response);

  // Requests of /v1 that are more than files: whether their Origin may send them, and what to name
  // in AllowOrigin. Nothing: it may not.
  std::optional<std::string> AllowedOrigin(const HttpRequest& request) const;
  static HttpResponse OriginRefused();
  // OPTIONS: what browsers ask before they let a page of another origin send a request.
  HttpResponse Preflight(const HttpRequest& request) const;

 private:
  HttpResponse File(const HttpRequest& request, std::string_view path) const;
  HttpResponse DevToken(const HttpRequest& request, std::string_view query,
                        std::chrono::system_clock::time_point now) const;

  const ResponderOptions options_;
};

}  // namespace clarion::gateway
