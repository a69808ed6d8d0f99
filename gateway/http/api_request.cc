#include "gateway/http/api_request.h"

#include <charconv>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "boost/beast/http/field.hpp"
#include "boost/beast/http/rfc7230.hpp"
#include "boost/beast/http/status.hpp"
#include "boost/beast/http/verb.hpp"
#include "boost/url/parse.hpp"
#include "boost/url/url_view.hpp"
#include "proto/base/text.h"
#include "proto/contract/ids.h"
#include "proto/contract/limits.h"

namespace clarion::gateway {
namespace {

namespace http = boost::beast::http;
namespace urls = boost::urls;
using Kind = ApiRequest::Kind;

constexpr uint32_t kMaxLimit = 1'000;
constexpr uint32_t kMaxRuns = 100;
constexpr size_t kMaxPageTokenBytes = 1'024;

HttpResponse BadRequest(std::string_view message) {
  return Responder::Error(http::status::bad_request, Reason::kContextInvalid, message);
}

template <class T>
bool ParseNumber(std::string_view text, uint64_t max, T& number) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > max) return false;
  number = static_cast<T>(value);
  return true;
}

// EPOCH:OFFSET, or OFFSET alone.
bool ParsePosition(std::string_view text, std::optional<v1::Position>& position) {
  const size_t colon = text.rfind(':');
  const std::string_view epoch =
      colon == std::string_view::npos ? std::string_view() : text.substr(0, colon);
  uint64_t offset = 0;
  if (colon != std::string_view::npos && !ValidId(epoch)) return false;
  if (!ParseNumber(text.substr(colon + 1), kMaxInteger, offset)) return false;
  position.emplace();
  position->set_epoch(std::string(epoch));
  position->set_offset(offset);
  return true;
}

bool ParseWait(std::string_view text, std::optional<std::chrono::milliseconds>& wait) {
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  if (!(seconds >= 0 && seconds <= static_cast<double>(kLongestWait.count()))) return false;
  wait = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  return true;
}

bool ParseFrom(std::string_view text, v1::StartFrom& from) {
  if (text == "unfinished") from = v1::START_FROM_UNFINISHED;
  if (text == "start") from = v1::START_FROM_START;
  if (text == "live") from = v1::START_FROM_LIVE;
  return from != v1::START_FROM_UNSPECIFIED;
}

// One parameter into the request. What is wrong with it; nothing: it is served.
std::string_view Take(std::string_view key, const std::string& value, ApiRequest& request) {
  if (key == "after")
    return ParsePosition(value, request.after) ? "" : "after must be EPOCH:OFFSET";
  if (key == "before") {
    const bool valid = ParseNumber(value, kMaxInteger, request.before) && request.before > 0;
    return valid ? "" : "before must be an offset above 0";
  }
  if (key == "last_runs") {
    const bool valid = ParseNumber(value, kMaxRuns, request.last_runs) && request.last_runs > 0;
    return valid ? "" : "last_runs must be 1 to 100";
  }
  if (key == "limit") {
    const bool valid = ParseNumber(value, kMaxLimit, request.limit) && request.limit > 0;
    return valid ? "" : "limit must be 1 to 1000";
  }
  if (key == "wait") return ParseWait(value, request.wait) ? "" : "wait must be 0 to 60 seconds";
  if (key == "from") {
    return ParseFrom(value, request.from) ? "" : "from must be unfinished, start or live";
  }
  if (key == "history") {
    request.full = value == "full";
    return value == "full" || value == "compacted" ? "" : "history must be compacted or full";
  }
  request.page_token = value;
  return value.size() <= kMaxPageTokenBytes ? "" : "page_token is longer than any that was given";
}

// The parameters of the query, each at most once, and only those of its kind.
std::string ReadQuery(const urls::url_view& url, std::initializer_list<std::string_view> known,
                      ApiRequest& request) {
  std::string seen;
  for (const auto& parameter : url.params()) {
    const std::string key = parameter.key;
    bool is_known = false;
    for (const std::string_view name : known) is_known = is_known || name == key;
    if (!is_known) return Concat("the parameter ", key.substr(0, 64), " is unknown here");
    const std::string mark = Concat("&", key, "&");
    if (seen.find(mark) != std::string::npos) return key + " is there more than once";
    seen += mark;
    if (const auto problem = Take(key, parameter.value, request); !problem.empty()) {
      return std::string(problem);
    }
  }
  return "";
}

bool WantsEventStream(const HttpRequest& request) {
  return ToStdView(request[http::field::accept]).find("text/event-stream") !=
         std::string_view::npos;
}

std::string TokenOf(const HttpRequest& request) {
  constexpr std::string_view kScheme = "bearer ";
  const std::string_view value = ToStdView(request[http::field::authorization]);
  if (value.size() < kScheme.size()) return "";
  for (size_t i = 0; i < kScheme.size(); ++i) {
    const char c = value[i] >= 'A' && value[i] <= 'Z' ? static_cast<char>(value[i] + 32) : value[i];
    if (c != kScheme[i]) return "";
  }
  std::string_view token = value.substr(kScheme.size());
  while (!token.empty() && token.front() == ' ') token.remove_prefix(1);
  return std::string(token);
}

// Which of them, by the segments of the path; nothing: none.
std::optional<Kind> KindOf(const std::vector<std::string>& path, const HttpRequest& request,
                           ApiRequest& parsed) {
  if (path.size() < 2 || path[0] != "v1") return std::nullopt;
  const bool posted =
      request.method() == http::verb::post || request.method() == http::verb::options;
  if (path.size() == 2 && path[1] == "stream" && posted) return Kind::kStream;
  if (path.size() == 2 && path[1] == "poll") return Kind::kPoll;
  if (path.size() == 3 && path[1] == "connections") {
    parsed.connection_id = path[2];
    return Kind::kPass;
  }
  if (path.size() == 2 && path[1] == "threads") return Kind::kThreads;
  if (path.size() == 4 && path[1] == "threads" && path[3] == "events") {
    parsed.thread_id = path[2];
    return WantsEventStream(request) ? Kind::kFollow : Kind::kEvents;
  }
  return std::nullopt;
}

HttpResponse WrongMethod(std::string_view allowed) {
  HttpResponse response =
      Responder::Error(http::status::method_not_allowed, Reason::kContextInvalid,
                       Concat("only ", allowed, " is served here"));
  response.set(http::field::allow, boost::beast::string_view(allowed.data(), allowed.size()));
  return response;
}

// What is wrong with path and query.
std::string ReadTarget(const urls::url_view& url, const HttpRequest& request, ApiRequest& parsed) {
  switch (parsed.kind) {
    case Kind::kStream:
    case Kind::kPoll:
      return ReadQuery(url, {}, parsed);
    case Kind::kPass:
      if (!ValidId(parsed.connection_id)) return "the path names no connection";
      return ReadQuery(url, {}, parsed);
    case Kind::kThreads:
      return ReadQuery(url, {"limit", "page_token"}, parsed);
    case Kind::kEvents:
    case Kind::kFollow:
      break;
  }
  if (!ValidId(parsed.thread_id)) return "the path names no thread";
  if (parsed.kind == Kind::kEvents) {
    auto problem =
        ReadQuery(url, {"after", "before", "last_runs", "limit", "wait", "history"}, parsed);
    const int places = (parsed.after ? 1 : 0) + (parsed.before > 0) + (parsed.last_runs > 0);
    if (problem.empty() && places > 1) problem = "after, before and last_runs exclude each other";
    if (problem.empty() && parsed.wait && parsed.before > 0) problem = "nothing comes before";
    return problem;
  }
  if (auto problem = ReadQuery(url, {"after", "from", "history"}, parsed); !problem.empty()) {
    return problem;
  }
  // A browser that comes back says how far it got; its URL still says where it began.
  if (const std::string_view last = ToStdView(request["Last-Event-ID"]); !last.empty()) {
    if (!ParsePosition(last, parsed.after)) return "Last-Event-ID must be EPOCH:OFFSET";
    parsed.from = v1::START_FROM_UNSPECIFIED;
  }
  if (parsed.after && parsed.from != v1::START_FROM_UNSPECIFIED) {
    return "after and from exclude each other";
  }
  return "";
}

}  // namespace

ParsedApiRequest ParseApiRequest(const Responder& responder, const HttpRequest& request) {
  const auto url =
      urls::parse_origin_form(urls::string_view(request.target().data(), request.target().size()));
  if (!url) return {};
  std::vector<std::string> path;
  for (const auto& segment : url->segments()) path.push_back(segment);
  ApiRequest parsed;
  const std::optional<Kind> kind = KindOf(path, request, parsed);
  if (!kind) return {};
  parsed.kind = *kind;
  if (request.method() == http::verb::options) return responder.Preflight(request);
  std::optional<std::string> origin = responder.AllowedOrigin(request);
  if (!origin) return Responder::OriginRefused();
  parsed.allow_origin = *std::move(origin);
  const auto refuse = [&](HttpResponse response) {
    Responder::AllowOrigin(parsed.allow_origin, response);
    return response;
  };
  const http::verb wanted = parsed.posts() ? http::verb::post : http::verb::get;
  if (request.method() != wanted) return refuse(WrongMethod(parsed.posts() ? "POST" : "GET"));
  if (std::string problem = ReadTarget(*url, request, parsed); !problem.empty()) {
    return refuse(BadRequest(problem));
  }
  parsed.token = TokenOf(request);
  return parsed;
}

}  // namespace clarion::gateway
