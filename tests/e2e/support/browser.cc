#include "tests/e2e/support/browser.h"

#include <algorithm>
#include <utility>

#include "boost/asio/co_spawn.hpp"
#include "boost/asio/detached.hpp"
#include "boost/asio/executor_work_guard.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/redirect_error.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/asio/use_awaitable.hpp"
#include "boost/beast/core.hpp"
#include "boost/beast/websocket.hpp"

namespace clarion::testing {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
namespace json = boost::json;
using asio::ip::tcp;

class Browser : public std::enable_shared_from_this<Browser> {
 public:
  Browser(Browsers* owner, BrowserOptions options)
      : owner_(owner), options_(std::move(options)), timer_(owner->context_) {}

  static asio::awaitable<void> Run(std::shared_ptr<Browser> self) {
    co_await self->Sleep(self->options_.before_connect);
    while (!self->leaving_) {
      co_await Session(self);
      self->stream_.reset();
      self->owner_->changed_.notify_all();
      if (!self->options_.reconnect || self->leaving_) break;
      co_await self->Sleep(self->away_for_);
      self->away_for_ = kPause;
    }
  }

  void Drop() {
    if (stream_) beast::get_lowest_layer(*stream_).close();
  }

  void Leave() {
    leaving_ = true;
    timer_.cancel();
    Drop();
  }

  void SetPause(std::chrono::milliseconds pause) {
    pause_ = pause;
    if (pause.count() == 0) timer_.cancel();
  }

  void Write(json::object frame) {
    outbox_.push_back(json::serialize(frame));
    if (!writing_ && stream_ && stream_->is_open()) {
      writing_ = true;
      asio::co_spawn(owner_->context_, Drain(shared_from_this()), asio::detached);
    }
  }

  // Guarded by the owner's mutex.
  std::map<std::string, ThreadView> views;
  std::vector<json::object> frames;
  int connections = 0;
  std::optional<int> close_code;

 private:
  using Stream = websocket::stream<tcp::socket>;
  static constexpr std::chrono::milliseconds kPause{20};
  static constexpr const char* kSubscribeId = "subscribe";

  asio::awaitable<void> Sleep(std::chrono::milliseconds time) {
    if (time.count() <= 0) co_return;
    boost::system::error_code ignored;
    timer_.expires_after(time);
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }

  static asio::awaitable<void> Drain(std::shared_ptr<Browser> self) {
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

  static asio::awaitable<void> Session(std::shared_ptr<Browser> self) {
    boost::system::error_code error;
    auto stream = std::make_shared<Stream>(self->owner_->context_);
    tcp::socket& socket = stream->next_layer();
    const uint16_t port = self->NextPort();
    co_await socket.async_connect({asio::ip::address_v4::loopback(), port},
                                  asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;
    self->NoteAttempt();
    socket.set_option(tcp::no_delay(true));
    stream->set_option(websocket::stream_base::decorator([](websocket::request_type& request) {
      request.set(beast::http::field::sec_websocket_protocol, "clarion.v1.json");
    }));
    co_await stream->async_handshake("127.0.0.1:" + std::to_string(port), "/v1/stream",
                                     asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;
    stream->read_message_max(4 * 1024 * 1024);
    self->stream_ = stream;
    self->outbox_.clear();
    self->writing_ = false;
    self->Write({{"type", "connect"}, {"token", self->options_.token()}, {"protocol", 1}});
    beast::flat_buffer buffer;
    while (!error && !self->leaving_) {
      buffer.clear();
      co_await stream->async_read(buffer, asio::redirect_error(asio::use_awaitable, error));
      if (error) break;
      const auto data = buffer.cdata();
      json::error_code parse_error;
      json::value value =
          json::parse({static_cast<const char*>(data.data()), data.size()}, parse_error);
      if (parse_error || !value.is_object()) continue;
      const std::string type(value.as_object()["type"].as_string());
      if (type == "connected") {
        co_await self->Sleep(self->options_.before_subscribe);
        self->SubscribeAll();
        co_await self->Sleep(self->options_.before_read);
      }
      if (type == "ping") self->Write({{"type", "pong"}});
      const json::object& frame = value.as_object();
      if (type == "going_away" && self->options_.heed_going_away) {
        self->away_for_ = std::chrono::milliseconds(Number(frame, "reconnect_after_ms"));
      }
      if (type == "probe" && self->options_.answer_probes) {
        self->Write({{"type", "probe_reply"}, {"nonce", Text(frame, "nonce")}});
      }
      if (type == "error" && Text(frame, "id") == kSubscribeId &&
          frame.contains("retry_after_ms")) {
        const std::chrono::milliseconds delay(Number(frame, "retry_after_ms"));
        asio::co_spawn(self->owner_->context_,
                       SubscribeLater(self, Text(frame, "thread_id"), delay), asio::detached);
      }
      self->Record(type, std::move(value.as_object()));
      self->owner_->changed_.notify_all();
      co_await self->Sleep(self->pause_);
    }
    std::lock_guard lock(self->owner_->mutex_);
    if (error == websocket::error::closed) self->close_code = stream->reason().code;
  }

  uint16_t NextPort() {
    const size_t turn = next_port_++ % (1 + options_.more_ports.size());
    return turn == 0 ? options_.port : options_.more_ports[turn - 1];
  }

  void NoteAttempt() {
    std::lock_guard lock(owner_->mutex_);
    owner_->attempts_.push_back(std::chrono::steady_clock::now());
  }

  void SubscribeAll() {
    std::lock_guard lock(owner_->mutex_);
    if (options_.all) {
      json::array after;
      for (const auto& [thread, view] : views) {
        if (view.subscribed == 0 || view.epoch.empty()) continue;
        after.push_back({{"thread_id", thread}, {"epoch", view.epoch}, {"offset", view.last}});
      }
      Write(
          {{"type", "subscribe"}, {"all", true}, {"after", after}, {"history", options_.history}});
    }
    for (const std::string& thread : options_.threads) SubscribeLocked(thread);
  }

  // With the owner's mutex.
  void SubscribeLocked(const std::string& thread) {
    const ThreadView& view = views[thread];
    if (view.subscribed > 0 && !view.epoch.empty()) {
      Write({{"type", "subscribe"},
             {"id", kSubscribeId},
             {"thread_id", thread},
             {"history", options_.history},
             {"after", {{"epoch", view.epoch}, {"offset", view.last}}}});
    } else {
      Write({{"type", "subscribe"},
             {"id", kSubscribeId},
             {"thread_id", thread},
             {"history", options_.history},
             {"from", options_.from}});
    }
  }

  // Refused for now: a user has only so many claims, for example.
  static asio::awaitable<void> SubscribeLater(std::shared_ptr<Browser> self, std::string thread,
                                              std::chrono::milliseconds delay) {
    const auto stream = self->stream_;
    asio::steady_timer timer(self->owner_->context_, delay);
    boost::system::error_code ignored;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    if (self->leaving_ || self->stream_ != stream) co_return;
    std::lock_guard lock(self->owner_->mutex_);
    self->SubscribeLocked(thread);
  }

  static uint64_t Number(const json::object& frame, const char* key) {
    const json::value* value = frame.if_contains(key);
    return value && value->is_number() ? value->to_number<uint64_t>() : 0;
  }
  static std::string Text(const json::object& frame, const char* key) {
    const json::value* value = frame.if_contains(key);
    return value && value->is_string() ? std::string(value->as_string()) : std::string();
  }

  void Record(const std::string& type, json::object frame) {
    std::lock_guard lock(owner_->mutex_);
    if (type == "connected") ++connections;
    const std::string thread = Text(frame, "thread_id");
    if (thread.empty()) {
      if (type != "ping") frames.push_back(std::move(frame));
      return;
    }
    ThreadView& view = views[thread];
    if (!frame.contains("event_id")) {
      RecordControl(view, type, frame);
      if (view.asking_again && type == "missed") SubscribeLocked(thread);
      view.control.push_back(std::move(frame));
      return;
    }
    if (view.asking_again) return;
    const uint64_t offset = Number(frame, "offset");
    const uint64_t first = frame.contains("first_offset") ? Number(frame, "first_offset") : offset;
    if (view.subscribed == 0) Fault(view, "an event before subscribed");
    if (first != view.last + 1 || first > offset) {
      Fault(view, "offset " + std::to_string(first) + " after " + std::to_string(view.last));
    }
    if (first != offset && options_.history == "full") Fault(view, "a compacted event");
    view.last = offset;
    view.events.push_back({view.epoch, first, offset, Text(frame, "event_id"), type,
                           Text(frame, "delta"), std::chrono::steady_clock::now()});
    if (options_.ack_every > 0 && view.events.size() % options_.ack_every == 0) {
      Write({{"type", "ack"}, {"thread_id", thread}, {"epoch", view.epoch}, {"offset", offset}});
      view.acked = offset;
    }
  }

  static void Fault(ThreadView& view, std::string what) {
    if (view.fault.empty()) view.fault = std::move(what);
  }

  static void RecordControl(ThreadView& view, const std::string& type, const json::object& frame) {
    if (type == "subscribed") {
      if (frame.contains("claim")) return;
      const uint64_t from = Number(frame, "from_offset");
      const bool missed = frame.contains("missed") && frame.at("missed").as_bool();
      // A resumed subscription goes on where this browser stood, unless `missed` explains why not.
      if (view.subscribed > 0 && from != view.last + 1 && !missed) {
        Fault(view,
              "subscribed from " + std::to_string(from) + " after " + std::to_string(view.last));
      }
      if (view.subscribed == 0) {
        view.last = from == 0 ? 0 : from - 1;
        view.begin = from;
      }
      ++view.subscribed;
      view.asking_again = false;
      view.epoch = Text(frame, "epoch");
    } else if (type == "missed") {
      if (frame.contains("discard_after")) {
        view.last = Number(frame, "discard_after");
        for (const ThreadView::Seen& seen : view.events) {
          if (seen.first > view.last || seen.offset <= view.last) continue;
          view.last = seen.first - 1;
          view.asking_again = true;
        }
        std::erase_if(view.events, [&](const auto& seen) { return seen.offset > view.last; });
      } else {
        view.last = Number(frame, "to_offset");
      }
    } else if (type == "caught_up") {
      ++view.caught_up;
      view.caught_up_offset = Number(frame, "offset");
    }
  }

  Browsers* owner_;
  BrowserOptions options_;
  asio::steady_timer timer_;
  std::shared_ptr<Stream> stream_;
  std::vector<std::string> outbox_;
  std::chrono::milliseconds away_for_ = kPause;
  std::chrono::milliseconds pause_{0};
  size_t next_port_ = 0;
  bool writing_ = false;
  bool leaving_ = false;
};

Browsers::Browsers() {
  asio::co_spawn(context_, WatchLateness(), asio::detached);
  thread_ = std::thread([this] { context_.run(); });
}

// Never ends: the loop runs until it is stopped.
asio::awaitable<void> Browsers::WatchLateness() {
  asio::steady_timer timer(context_);
  for (;;) {
    timer.expires_after(std::chrono::milliseconds(10));
    boost::system::error_code ignored;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    std::lock_guard lock(mutex_);
    lateness_ = std::max(lateness_, std::chrono::steady_clock::now() - timer.expiry());
  }
}

Browsers::~Browsers() {
  asio::post(context_, [this] {
    for (const auto& browser : browsers_) browser->Leave();
    context_.stop();
  });
  thread_.join();
}

size_t Browsers::Open(BrowserOptions options) {
  auto browser = std::make_shared<Browser>(this, std::move(options));
  size_t index;
  {
    std::lock_guard lock(mutex_);
    index = browsers_.size();
    browsers_.push_back(browser);
  }
  asio::co_spawn(context_, Browser::Run(browser), asio::detached);
  return index;
}

void Browsers::Drop(size_t browser) {
  asio::post(context_, [b = browsers_[browser]] { b->Drop(); });
}

void Browsers::Leave(size_t browser) {
  asio::post(context_, [b = browsers_[browser]] { b->Leave(); });
}

void Browsers::Send(size_t browser, json::object frame) {
  asio::post(context_, [b = browsers_[browser], frame = std::move(frame)] { b->Write(frame); });
}

ThreadView Browsers::View(size_t browser, const std::string& thread) const {
  std::lock_guard lock(mutex_);
  const auto& views = browsers_[browser]->views;
  const auto found = views.find(thread);
  return found == views.end() ? ThreadView{} : found->second;
}

std::vector<json::object> Browsers::Frames(size_t browser) const {
  std::lock_guard lock(mutex_);
  return browsers_[browser]->frames;
}

int Browsers::connections(size_t browser) const {
  std::lock_guard lock(mutex_);
  return browsers_[browser]->connections;
}

std::vector<std::chrono::steady_clock::time_point> Browsers::attempts() const {
  std::lock_guard lock(mutex_);
  return attempts_;
}

std::chrono::steady_clock::duration Browsers::TakeLateness() {
  std::lock_guard lock(mutex_);
  return std::exchange(lateness_, {});
}

std::optional<int> Browsers::close_code(size_t browser) const {
  std::lock_guard lock(mutex_);
  return browsers_[browser]->close_code;
}

void Browsers::SetPause(size_t browser, std::chrono::milliseconds pause) {
  asio::post(context_, [b = browsers_[browser], pause] { b->SetPause(pause); });
}

size_t Browsers::size() const {
  std::lock_guard lock(mutex_);
  return browsers_.size();
}

bool Browsers::WaitFor(std::chrono::seconds limit, const std::function<bool()>& predicate) const {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!predicate()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(50));
  }
  return true;
}

bool Browsers::WaitForOffset(size_t browser, const std::string& thread, uint64_t offset,
                             std::chrono::seconds limit) const {
  return WaitFor(limit, [&] {
    std::lock_guard lock(mutex_);
    const auto& views = browsers_[browser]->views;
    const auto found = views.find(thread);
    return found != views.end() && found->second.last >= offset;
  });
}

}  // namespace clarion::testing
