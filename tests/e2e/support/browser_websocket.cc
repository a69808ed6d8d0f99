#include "boost/asio/co_spawn.hpp"
#include "boost/asio/detached.hpp"
#include "boost/asio/redirect_error.hpp"
#include "boost/asio/use_awaitable.hpp"
#include "boost/beast/core.hpp"
#include "boost/beast/websocket.hpp"
#include "tests/e2e/support/browser_impl.h"

namespace clarion::testing {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace json = boost::json;
namespace websocket = beast::websocket;

class WebSocketBrowser final : public Browser {
 public:
  using Browser::Browser;

  void Drop() override {
    if (stream_) beast::get_lowest_layer(*stream_).close();
  }

  void Write(json::object frame) override {
    outbox_.push_back(json::serialize(frame));
    if (!writing_ && stream_ && stream_->is_open()) {
      writing_ = true;
      asio::co_spawn(context(), Drain(Self()), asio::detached);
    }
  }

 private:
  using Stream = websocket::stream<Tcp::socket>;

  std::shared_ptr<WebSocketBrowser> Self() {
    return std::static_pointer_cast<WebSocketBrowser>(shared_from_this());
  }

  static Awaitable<void> Drain(std::shared_ptr<WebSocketBrowser> self) {
    auto stream = self->stream_;
    while (stream && !self->outbox_.empty() && stream == self->stream_) {
      const std::string text = std::move(self->outbox_.front());
      self->outbox_.erase(self->outbox_.begin());
      boost::system::error_code error;
      stream->text(true);
      co_await stream->async_write(asio::buffer(text),
                                   asio::redirect_error(asio::use_awaitable, error));
      if (error) break;
    }
    self->writing_ = false;
  }

  Awaitable<void> Session() override {
    boost::system::error_code error;
    auto stream = std::make_shared<Stream>(context());
    const uint16_t port = NextPort();
    if (!co_await ConnectTo(stream->next_layer(), port)) co_return;
    stream->set_option(websocket::stream_base::decorator([](websocket::request_type& request) {
      request.set(beast::http::field::sec_websocket_protocol, "clarion.v1.json");
    }));
    co_await stream->async_handshake("127.0.0.1:" + std::to_string(port), "/v1/stream",
                                     asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;
    stream->read_message_max(4 * 1024 * 1024);
    stream_ = stream;
    outbox_.clear();
    writing_ = false;
    Write({{"type", "connect"}, {"token", options().token()}, {"protocol", 1}});
    beast::flat_buffer buffer;
    while (!error && !leaving()) {
      buffer.clear();
      co_await stream->async_read(buffer, asio::redirect_error(asio::use_awaitable, error));
      if (error) break;
      const auto data = buffer.cdata();
      json::error_code parse_error;
      json::value value =
          json::parse({static_cast<const char*>(data.data()), data.size()}, parse_error);
      if (parse_error || !value.is_object()) continue;
      if (Text(value.as_object(), "type") == "ping") Write({{"type", "pong"}});
      co_await OnFrame(std::move(value.as_object()));
    }
    stream_.reset();
    std::lock_guard lock(mutex());
    if (error == websocket::error::closed) close_code = stream->reason().code;
  }

  std::shared_ptr<Stream> stream_;
  std::vector<std::string> outbox_;
  bool writing_ = false;
};

}  // namespace

std::shared_ptr<Browser> MakeWebSocketBrowser(Browsers* owner, BrowserOptions options) {
  return std::make_shared<WebSocketBrowser>(owner, std::move(options));
}

}  // namespace clarion::testing
