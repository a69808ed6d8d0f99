#include "gateway/http/responder.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"
#include "boost/beast/http/field.hpp"
#include "boost/beast/http/rfc7230.hpp"
#include "boost/beast/http/status.hpp"
#include "boost/beast/http/verb.hpp"
#include "boost/beast/websocket/rfc6455.hpp"
#include "boost/json/object.hpp"
#include "boost/json/serialize.hpp"
#include "boost/url/parse.hpp"
#include "gateway/http/subprotocol.h"
#include "proto/base/text.h"
#include "proto/contract/ids.h"

namespace clarion::gateway {
namespace {

namespace http = boost::beast::http;

constexpr std::string_view kHealthPath = "/healthz";
constexpr std::string_view kDevTokenPath = "/v1/dev/token";
constexpr std::chrono::hours kDevTokenLife{12};
constexpr size_t kMaxWebSocketKeyBytes = 24;  // 16 bytes in base64

// Scripts, styles and connections of the page's own origin, and nothing else.
constexpr std::string_view kContentSecurityPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'";

boost::beast::string_view Beast(std::string_view text) {
  return {text.data(), text.size()};
}

HttpResponse Make(http::status status, std::string_view type, std::string body) {
  HttpResponse response(status, 11);
  response.set(http::field::server, "clarion");
  response.set(http::field::content_type, Beast(type));
  response.set("X-Content-Type-Options", "nosniff");
  response.set("Referrer-Policy", "no-referrer");
  response.set("Cross-Origin-Resource-Policy", "same-origin");
  response.set(http::field::cache_control, "no-store");
  response.body() = std::move(body);
  response.prepare_payload();
  return response;
}

std::string_view PathOf(const HttpRequest& request) {
  const std::string_view target = ToStdView(request.target());
  return target.substr(0, target.find('?'));
}

std::string_view QueryOf(const HttpRequest& request) {
  const std::string_view target = ToStdView(request.target());
  const size_t mark = target.find('?');
  return mark == std::string_view::npos ? std::string_view() : target.substr(mark + 1);
}

// The name in a Host header is this machine's own. What a page of another site reaches by pointing
// its own name at 127.0.0.1 is not.
bool HostIsLoopback(std::string_view host) {
  const size_t colon = host.rfind(':');
  if (colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) {
    host = host.substr(0, colon);
  }
  return host == "localhost" || host == "127.0.0.1" || host == "[::1]";
}

boost::json::object ErrorJson(Reason reason, std::string_view message) {
  boost::json::object error;
  error["type"] = "error";
  error["code"] = Beast(NameOf(reason));
  error["message"] = Beast(message);
  error["user_message"] = Beast(RowOf(reason).user_message);
  return error;
}

HttpResponse ErrorOf(http::status status, const boost::json::object& error) {
  HttpResponse response = Make(status, "application/json", boost::json::serialize(error));
  response.keep_alive(false);
  return response;
}

}  // namespace

HttpResponse Responder::Error(http::status status, Reason reason, std::string_view message) {
  return ErrorOf(status, ErrorJson(reason, message));
}

HttpResponse Responder::Json(http::status status, std::string body) {
  return Make(status, "application/json", std::move(body));
}

HttpResponse Responder::ErrorByRow(const CloseRow& row, std::string_view message,
                                   uint32_t retry_after_ms) {
  constexpr unsigned kOfHttp = 4000;
  const auto code = static_cast<unsigned>(row.code);
  const auto status = code > kOfHttp ? static_cast<http::status>(code - kOfHttp)
                                     : http::status::service_unavailable;
  const uint32_t after_ms = std::max(retry_after_ms, row.retry_after_ms);
  boost::json::object error = ErrorJson(row.reason, message);
  if (row.reconnect != Reconnect::kNo) error["reconnect"] = true;
  if (row.reconnect == Reconnect::kAfterDelay) error["retry_after_ms"] = after_ms;
  HttpResponse response = ErrorOf(status, error);
  if (row.reconnect == Reconnect::kAfterDelay) {
    response.set(http::field::retry_after, std::to_string((after_ms + 999) / 1000));
  }
  return response;
}

void Responder::AllowOrigin(std::string_view origin, HttpResponse& response) {
  if (origin.empty()) return;
  response.set(http::field::access_control_allow_origin, Beast(origin));
  response.set(http::field::access_control_expose_headers, "Retry-After");
  response.set(http::field::vary, "Origin");
  response.set("Cross-Origin-Resource-Policy", "cross-origin");
}

std::optional<std::string> Responder::AllowedOrigin(const HttpRequest& request) const {
  const std::string_view origin = ToStdView(request[http::field::origin]);
  if (origin.empty()) return std::string();
  if (!options_.origins.Allows(origin, ToStdView(request[http::field::host]))) return std::nullopt;
  return std::string(origin);
}

HttpResponse Responder::OriginRefused() {
  return Error(http::status::forbidden, Reason::kPermissionDenied,
               "this page's origin may not ask here (--allowed-origin)");
}

HttpResponse Responder::Preflight(const HttpRequest& request) const {
  const std::optional<std::string> origin = AllowedOrigin(request);
  if (!origin) return OriginRefused();
  HttpResponse response(http::status::no_content, 11);
  response.set(http::field::server, "clarion");
  AllowOrigin(*origin, response);
  response.set(http::field::access_control_allow_methods, "GET, POST");
  response.set(http::field::access_control_allow_headers,
               "Authorization, Content-Type, Last-Event-ID");
  response.set(http::field::access_control_max_age, "7200");
  response.prepare_payload();
  return response;
}

bool Responder::IsUpgrade(const HttpRequest& request) {
  return PathOf(request) == kStreamPath && boost::beast::websocket::is_upgrade(request);
}

std::optional<HttpResponse> Responder::RefuseUpgrade(const HttpRequest& request,
                                                     Encoding* encoding) const {
  if (ToStdView(request[http::field::sec_websocket_version]) != "13") {
    HttpResponse response = Error(http::status::upgrade_required, Reason::kContextInvalid,
                                  "only version 13 of WebSocket is served");
    response.set(http::field::sec_websocket_version, "13");
    return response;
  }
  const size_t key_bytes = request[http::field::sec_websocket_key].size();
  if (key_bytes == 0 || key_bytes > kMaxWebSocketKeyBytes) {
    return Error(http::status::bad_request, Reason::kContextInvalid,
                 "Sec-WebSocket-Key must be 16 bytes in base64");
  }
  if (!options_.origins.Allows(ToStdView(request[http::field::origin]),
                               ToStdView(request[http::field::host]))) {
    return Error(http::status::forbidden, Reason::kPermissionDenied,
                 "this page's origin may not open a stream (--allowed-origin)");
  }
  const std::optional<Encoding> negotiated =
      NegotiateSubprotocol(ToStdView(request[http::field::sec_websocket_protocol]));
  if (!negotiated) {
    return Error(http::status::bad_request, Reason::kContextInvalid,
                 "the subprotocols are clarion.v1.json and clarion.v1.proto");
  }
  *encoding = *negotiated;
  return std::nullopt;
}

HttpResponse Responder::Respond(const HttpRequest& request, From from,
                                std::chrono::system_clock::time_point now) const {
  const std::string_view path = PathOf(request);
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    HttpResponse response = Error(http::status::method_not_allowed, Reason::kContextInvalid,
                                  "only GET and HEAD are served here");
    response.set(http::field::allow, "GET, HEAD");
    return response;
  }
  if (path == kStreamPath) {
    HttpResponse response =
        Error(http::status::upgrade_required, Reason::kContextInvalid,
              "this is a WebSocket: ask for an upgrade, or POST for an event stream");
    response.set(http::field::upgrade, "websocket");
    response.set(http::field::connection, "Upgrade, close");
    return response;
  }
  if (path == kHealthPath) return Make(http::status::ok, "text/plain; charset=utf-8", "ok\n");
  const bool token = path == kDevTokenPath && options_.dev && from == From::kLoopback &&
                     HostIsLoopback(ToStdView(request[http::field::host]));
  HttpResponse response = token ? DevToken(request, QueryOf(request), now) : File(request, path);
  // Pages of other origins load the client from here.
  if (const auto origin = AllowedOrigin(request)) AllowOrigin(*origin, response);
  return response;
}

HttpResponse Responder::File(const HttpRequest& request, std::string_view path) const {
  const StaticFile* file = options_.files.Find(path);
  if (file == nullptr) {
    return Error(http::status::not_found, Reason::kNotFound, "there is nothing at this path");
  }
  const bool known = ToStdView(request[http::field::if_none_match]) == file->etag;
  HttpResponse response = Make(known ? http::status::not_modified : http::status::ok, file->type,
                               known ? std::string() : file->content);
  response.set(http::field::etag, file->etag);
  // Kept by browsers, and asked for again each time: names stay the same from version to version.
  response.set(http::field::cache_control, "no-cache");
  if (file->built_in) response.set("Content-Security-Policy", Beast(kContentSecurityPolicy));
  return response;
}

HttpResponse Responder::DevToken(const HttpRequest&, std::string_view query,
                                 std::chrono::system_clock::time_point now) const {
  const auto refuse = [](std::string_view why) {
    return Error(http::status::bad_request, Reason::kContextInvalid, why);
  };
  const std::string target = Concat("/?", query);
  const auto url = boost::urls::parse_origin_form(target);
  if (!url) return refuse("the query is malformed: `user` must be percent-encoded");
  const auto parameters = url->params();
  const size_t users = parameters.count("user");
  if (users == 0) return refuse("`user` is missing: ask for /v1/dev/token?user=NAME");
  if (users > 1) return refuse("`user` is there more than once");
  const std::string user = (*parameters.find("user")).value;
  if (!ValidId(user)) {
    return refuse("`user` must be 1 to 128 bytes of printable ASCII without spaces");
  }
  if (IsReservedUser(user)) {
    return refuse("`user` must not be _clarion: that name is reserved for Clarion itself");
  }
  const auto expires_at = std::chrono::floor<std::chrono::seconds>(now + kDevTokenLife);
  boost::json::object answer;
  answer["token"] = SignDevToken(options_.tokens.secret, options_.tokens, UserId(user), expires_at);
  answer["expires_at"] =
      absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromChrono(expires_at), absl::UTCTimeZone());
  return Make(http::status::ok, "application/json", boost::json::serialize(answer));
}

}  // namespace clarion::gateway
