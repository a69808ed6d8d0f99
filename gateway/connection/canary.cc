#include "gateway/connection/canary.h"

#include <chrono>
#include <exception>
#include <memory>
#include <set>
#include <tuple>
#include <utility>

#include "boost/asio/buffer.hpp"
#include "boost/asio/co_spawn.hpp"
#include "boost/beast/core/buffers_to_string.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/field.hpp"
#include "boost/beast/websocket/stream.hpp"
#include "boost/json/parse.hpp"
#include "boost/json/serialize.hpp"
#include "boost/json/value.hpp"
#include "gateway/connection/frame_stream.h"
#include "gateway/http/responder.h"
#include "gateway/http/subprotocol.h"
#include "telemetry/log.h"

namespace clarion::gateway {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
namespace websocket = boost::beast::websocket;

using Clock = std::chrono::system_clock;

// Checks are short; whatever the service says, no canary lives longer.
constexpr std::chrono::minutes kLongestCheck{5};

Clock::duration LifeOf(const v1::OpenCanary& check) {
  const std::chrono::seconds seconds(check.life().seconds());
  if (seconds >= kLongestCheck) return kLongestCheck;
  return seconds + std::chrono::nanoseconds(check.life().nanos());
}

class Canary final : private TimerWheel::Entry {
 public:
  Canary(CanaryContext& context, const v1::OpenCanary& check)
      : context_(context),
        check_(check),
        missing_(check.types().begin(), check.types().end()),
        stream_(context.loop.get_executor()) {}

  static Awaitable<void> Run(std::unique_ptr<Canary> canary);

 private:
  enum class Verdict { kGoOn, kDone };

  // Empty: connected, upgraded and `connect` is sent. Otherwise what failed.
  static Awaitable<std::string> Open(Canary* canary);
  std::string ConnectFrame() const;
  Verdict OnFrame(std::string_view text);
  void Report(v1::WiringStep step, std::string_view type, std::string_view message);
  void OnTimer(TimerWheel::Time) override {
    boost::system::error_code ignored;
    stream_.next_layer().close(ignored);
  }

  CanaryContext& context_;
  const v1::OpenCanary check_;
  std::set<std::string, std::less<>> missing_;  // types that have not come
  websocket::stream<Socket, false> stream_;
  boost::beast::flat_buffer buffer_;
  bool subscribed_ = false;
};

Awaitable<void> Canary::Run(std::unique_ptr<Canary> canary) {
  const Clock::time_point now = Clock::now();
  const Clock::duration life = LifeOf(canary->check_);
  canary->context_.tickets.Add(canary->check_.ticket(), now + life, now);
  canary->context_.wheel.Arm(*canary, std::chrono::steady_clock::now() + life);

  const std::string problem = co_await Open(canary.get());
  if (!problem.empty()) canary->Report(v1::WIRING_STEP_CONNECT, "", problem);
  while (problem.empty()) {
    const auto [error, bytes] = co_await canary->stream_.async_read(canary->buffer_, kUseTuple);
    if (error) {
      if (!canary->subscribed_) {
        canary->Report(v1::WIRING_STEP_CONNECT, "", "the WebSocket ended: " + error.message());
      }
      break;
    }
    const std::string text = boost::beast::buffers_to_string(canary->buffer_.data());
    canary->buffer_.consume(canary->buffer_.size());
    if (canary->OnFrame(text) == Verdict::kDone) break;
  }
  canary->context_.tickets.Remove(canary->check_.ticket());
  if (canary->missing_.empty()) {
    std::ignore = co_await canary->stream_.async_close(websocket::close_code::normal, kUseTuple);
  }
  canary->Disarm();
}

Awaitable<std::string> Canary::Open(Canary* canary) {
  Socket& socket = canary->stream_.next_layer();
  const auto [refused] = co_await socket.async_connect(canary->context_.address, kUseTuple);
  if (refused) co_return "cannot connect to the gateway's own port: " + refused.message();
  canary->stream_.set_option(
      websocket::stream_base::decorator([](websocket::request_type& request) {
        request.set(boost::beast::http::field::sec_websocket_protocol, "clarion.v1.json");
        request.set(boost::beast::http::field::user_agent, "clarion-canary");
      }));
  const std::string host = "localhost:" + std::to_string(canary->context_.address.port());
  const boost::beast::string_view path(kStreamPath.data(), kStreamPath.size());
  const auto [declined] = co_await canary->stream_.async_handshake(host, path, kUseTuple);
  if (declined) co_return "the upgrade to a WebSocket failed: " + declined.message();
  const std::string frame = canary->ConnectFrame();
  canary->stream_.text(true);
  const auto [broken, bytes] = co_await canary->stream_.async_write(asio::buffer(frame), kUseTuple);
  if (broken) co_return "`connect` could not be sent: " + broken.message();
  co_return "";
}

std::string Canary::ConnectFrame() const {
  json::object subscribe{{"thread_id", check_.thread_id()}, {"from", "start"}, {"history", "full"}};
  json::object connect{{"type", "connect"},
                       {"token", check_.ticket()},
                       {"protocol", 1},
                       {"client", "clarion-canary"}};
  connect["subscribe"] = json::array{std::move(subscribe)};
  return json::serialize(connect);
}

Canary::Verdict Canary::OnFrame(std::string_view text) {
  boost::system::error_code error;
  const json::value frame = json::parse({text.data(), text.size()}, error);
  const json::value* type =
      error || !frame.is_object() ? nullptr : frame.get_object().if_contains("type");
  if (type == nullptr || !type->is_string()) {
    Report(v1::WIRING_STEP_CONNECT, "", "a frame is not JSON with a type");
    return Verdict::kDone;
  }
  const std::string_view name(type->get_string().data(), type->get_string().size());
  if (name == "error") {
    const json::value* message = frame.get_object().if_contains("message");
    const bool said = message != nullptr && message->is_string();
    Report(v1::WIRING_STEP_CONNECT, "", said ? std::string(message->get_string()) : "refused");
    return Verdict::kDone;
  }
  if (name == "subscribed" && !frame.get_object().contains("claim") && !subscribed_) {
    subscribed_ = true;
    Report(v1::WIRING_STEP_SOCKET, "", "");
  }
  const auto missing = missing_.find(name);
  if (missing != missing_.end()) {
    Report(v1::WIRING_STEP_ARRIVED, name, "");
    missing_.erase(missing);
  }
  return missing_.empty() ? Verdict::kDone : Verdict::kGoOn;
}

void Canary::Report(v1::WiringStep step, std::string_view type, std::string_view message) {
  v1::CanaryReport report;
  report.set_check_id(check_.check_id());
  report.set_step(step);
  report.set_type(std::string(type));
  report.set_message(std::string(message));
  context_.report(std::move(report));
}

}  // namespace

void StartCanary(CanaryContext& context, const v1::OpenCanary& check) {
  asio::co_spawn(context.loop.get_executor(), Canary::Run(std::make_unique<Canary>(context, check)),
                 [](std::exception_ptr error) {
                   if (error) Log(Severity::kError, "a canary's coroutine threw");
                 });
}

}  // namespace clarion::gateway
