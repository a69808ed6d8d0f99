// The transports over plain HTTP: an event stream, and polling.
#include "boost/asio/buffer.hpp"
#include "boost/asio/co_spawn.hpp"
#include "boost/asio/detached.hpp"
#include "boost/asio/read_until.hpp"
#include "boost/asio/redirect_error.hpp"
#include "boost/asio/use_awaitable.hpp"
#include "boost/asio/write.hpp"
#include "boost/beast/core.hpp"
#include "boost/beast/http.hpp"
#include "tests/e2e/support/browser_impl.h"

namespace clarion::testing {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
namespace json = boost::json;

using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

Request Post(const std::string& target, const std::string& token, const json::value& body) {
  Request request(http::verb::post, target, 11);
  request.set(http::field::host, "127.0.0.1");
  request.set(http::field::content_type, "application/json");
  request.set(http::field::authorization, "Bearer " + token);
  request.body() = json::serialize(body);
  request.prepare_payload();
  return request;
}

// A browser that asks over HTTP.
class HttpBrowser : public Browser {
 public:
  using Browser::Browser;

  void Drop() override {
    if (socket_) socket_->close();
  }

 protected:
  std::shared_ptr<Tcp::socket> socket_;
  // What waits to be said.
  json::array outbox_;

  // A request of its own on a connection of its own. Nothing: there was no answer.
  Awaitable<std::optional<Response>> Ask(std::shared_ptr<Tcp::socket> socket, uint16_t port,
                                         Request request) {
    boost::system::error_code error;
    if (!co_await ConnectTo(*socket, port)) co_return std::nullopt;
    co_await http::async_write(*socket, request, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return std::nullopt;
    boost::beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(64 * 1024 * 1024);
    co_await http::async_read(*socket, buffer, parser,
                              asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return std::nullopt;
    co_return parser.release();
  }
};

// Says what it has to say on requests of their own, to whichever gateway.
class EventStreamBrowser final : public HttpBrowser {
 public:
  using HttpBrowser::HttpBrowser;

  void Write(json::object frame) override {
    outbox_.push_back(std::move(frame));
    if (connection_id_.empty() || std::exchange(passing_, true)) return;
    const auto self = std::static_pointer_cast<EventStreamBrowser>(shared_from_this());
    asio::co_spawn(context(), PassOn(self, connection_id_), asio::detached);
  }

 private:
  static Awaitable<void> PassOn(std::shared_ptr<EventStreamBrowser> self, std::string id) {
    while (!self->outbox_.empty() && self->connection_id_ == id && !self->leaving()) {
      const json::array messages = std::exchange(self->outbox_, {});
      const uint64_t sequence = ++self->sequence_;
      // Again until it is answered: the number says whether it was there before.
      for (bool passed = false; !passed && self->connection_id_ == id && !self->leaving();) {
        const auto answer =
            co_await self->Ask(std::make_shared<Tcp::socket>(self->context()), self->NextPort(),
                               self->Passing(id, sequence, messages));
        passed = answer && answer->result() == http::status::ok;
        if (answer && answer->result() == http::status::bad_request) {
          self->Broken("messages were refused: " + answer->body());
        }
        if (!passed) {
          asio::steady_timer timer(self->context(), kPause);
          co_await timer.async_wait(asio::use_awaitable);
        }
      }
    }
    if (self->connection_id_ == id) self->passing_ = false;
  }

  // Not in the coroutine: g++ 12 makes nothing of initializer lists there.
  Request Passing(const std::string& id, uint64_t sequence, const json::array& messages) {
    return Post("/v1/connections/" + id, options().token(),
                json::object{{"sequence", sequence}, {"messages", messages}});
  }

  void Broken(const std::string& what) {
    std::lock_guard lock(mutex());
    frames.push_back({{"type", "fault"}, {"message", what}});
  }

  Awaitable<void> Session() override {
    boost::system::error_code error;
    auto socket = std::make_shared<Tcp::socket>(context());
    socket_ = socket;
    connection_id_.clear();
    outbox_.clear();
    sequence_ = 0;
    passing_ = false;
    if (!co_await ConnectTo(*socket, NextPort())) co_return;
    json::array messages{{{"type", "connect"}, {"protocol", 1}}};
    const Request request = Post("/v1/stream", options().token(), messages);
    co_await http::async_write(*socket, request, asio::redirect_error(asio::use_awaitable, error));
    std::string buffer;
    if (!error) {
      const size_t header =
          co_await asio::async_read_until(*socket, asio::dynamic_buffer(buffer), "\r\n\r\n",
                                          asio::redirect_error(asio::use_awaitable, error));
      if (!error && buffer.substr(0, header).find(" 200 ") == std::string::npos) co_return;
      buffer.erase(0, header);
    }
    while (!error && !leaving()) {
      const size_t end =
          co_await asio::async_read_until(*socket, asio::dynamic_buffer(buffer), "\n\n",
                                          asio::redirect_error(asio::use_awaitable, error));
      if (error) break;
      const std::string event = buffer.substr(0, end);
      buffer.erase(0, end);
      co_await OnEvent(event);
    }
    connection_id_.clear();
  }

  Awaitable<void> OnEvent(const std::string& event) {
    std::string data;
    std::string id;
    for (size_t begin = 0; begin < event.size();) {
      const size_t end = event.find('\n', begin);
      const std::string line = event.substr(begin, end - begin);
      begin = end + 1;
      if (line.starts_with("data: ")) data += (data.empty() ? "" : "\n") + line.substr(6);
      if (line.starts_with("id: ")) id = line.substr(4);
    }
    if (data.empty()) co_return;
    json::error_code parse_error;
    json::value value = json::parse(data, parse_error);
    if (parse_error || !value.is_object()) co_return Broken("not JSON: " + data);
    json::object& frame = value.as_object();
    if (frame.contains("event_id")) {
      std::string wanted;
      {
        std::lock_guard lock(mutex());
        wanted = views[Text(frame, "thread_id")].epoch;
      }
      wanted += ":" + std::to_string(Number(frame, "offset"));
      if (id != wanted) Broken("id " + id + " of " + wanted);
    }
    if (Text(frame, "type") == "connected") connection_id_ = Text(frame, "connection_id");
    co_await OnFrame(std::move(frame));
  }

  std::string connection_id_;
  uint64_t sequence_ = 0;
  bool passing_ = false;
};

// Says with each poll where it stands.
class PollingBrowser final : public HttpBrowser {
 public:
  using HttpBrowser::HttpBrowser;

  void Write(json::object frame) override {
    // What to follow every poll says anew.
    if (Text(frame, "type") != "subscribe") outbox_.push_back(std::move(frame));
  }

 private:
  Awaitable<void> Session() override {
    const json::array said = outbox_;
    std::set<std::string> asks;
    const bool asks_all = options().all && !told_all_ && !asked_all_;
    json::object body{{"history", options().history}, {"wait", 5}};
    json::array messages{{{"type", "connect"}, {"protocol", 1}}};
    json::array positions;
    {
      std::lock_guard lock(mutex());
      if (!connection_id_.empty()) body["connection_id"] = connection_id_;
      if (told_all_) body["all"] = true;
      if (asks_all) {
        messages.push_back({{"type", "subscribe"}, {"all", true}, {"history", options().history}});
      }
      for (const std::string& thread : told_) {
        ThreadView& view = views[thread];
        view.asking_again = false;
        positions.push_back({{"thread_id", thread}, {"epoch", view.epoch}, {"offset", view.last}});
      }
      for (const std::string& thread : options().threads) {
        if (told_.contains(thread) || asked_.contains(thread)) continue;
        messages.push_back(SubscribeFrame(thread));
        asks.insert(thread);
      }
    }
    for (const json::value& message : said) messages.push_back(message);
    body["messages"] = std::move(messages);
    body["positions"] = std::move(positions);
    socket_ = std::make_shared<Tcp::socket>(context());
    ComeBackAfter(kPause);
    const auto answer =
        co_await Ask(socket_, NextPort(), Post("/v1/poll", options().token(), body));
    if (!answer || answer->result() != http::status::ok) co_return;
    outbox_.erase(outbox_.begin(), outbox_.begin() + static_cast<ptrdiff_t>(said.size()));
    ComeBackAfter(std::chrono::milliseconds(1));
    // It is answered, and not said again.
    asked_.merge(asks);
    asked_all_ = asked_all_ || asks_all;
    json::value value = json::parse(answer->body());
    connection_id_ = Text(value.as_object(), "connection_id");
    for (json::value& frame : value.as_object().at("frames").as_array()) {
      Note(frame.as_object());
      co_await OnFrame(std::move(frame.as_object()));
    }
  }

  // What it has been told, it says it knows.
  void Note(const json::object& frame) {
    const std::string type = Text(frame, "type");
    const std::string thread = Text(frame, "thread_id");
    if (type == "subscribed" && thread.empty()) told_all_ = true;
    if (type == "subscribed" && !thread.empty()) told_.insert(thread);
    // Of all threads it is none any more.
    if (frame.contains("claim") && options().all) told_.erase(thread);
    if (type == "error" && !thread.empty()) {
      if (Text(frame, "code") == "NOT_FOUND") told_.erase(thread);
      asked_.erase(thread);
      ComeBackAfter(std::chrono::milliseconds(100));
    } else if (type == "error" || type == "going_away") {
      asked_.clear();
      asked_all_ = false;
    }
  }

  std::string connection_id_;
  std::set<std::string> asked_;
  std::set<std::string> told_;
  bool asked_all_ = false;
  bool told_all_ = false;
};

}  // namespace

std::shared_ptr<Browser> MakeEventStreamBrowser(Browsers* owner, BrowserOptions options) {
  return std::make_shared<EventStreamBrowser>(owner, std::move(options));
}

std::shared_ptr<Browser> MakePollingBrowser(Browsers* owner, BrowserOptions options) {
  return std::make_shared<PollingBrowser>(owner, std::move(options));
}

}  // namespace clarion::testing
