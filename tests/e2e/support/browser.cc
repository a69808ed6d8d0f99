#include "tests/e2e/support/browser.h"

#include <algorithm>
#include <utility>

#include "boost/asio/co_spawn.hpp"
#include "boost/asio/detached.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/redirect_error.hpp"
#include "boost/asio/use_awaitable.hpp"
#include "tests/e2e/support/browser_impl.h"

namespace clarion::testing {

namespace asio = boost::asio;
namespace json = boost::json;

Browser::Browser(Browsers* owner, BrowserOptions options)
    : owner_(owner), options_(std::move(options)), timer_(owner->context_) {}

Browser::Awaitable<void> Browser::Run(std::shared_ptr<Browser> self) {
  co_await self->Sleep(self->options_.before_connect);
  while (!self->leaving_) {
    ++self->session_;
    co_await self->Session();
    self->owner_->changed_.notify_all();
    if (!self->options_.reconnect || self->leaving_) break;
    co_await self->Sleep(std::exchange(self->away_for_, kPause));
  }
}

void Browser::Leave() {
  leaving_ = true;
  timer_.cancel();
  Drop();
}

void Browser::SetPause(std::chrono::milliseconds pause) {
  pause_ = pause;
  if (pause.count() == 0) timer_.cancel();
}

Browser::Awaitable<void> Browser::Sleep(std::chrono::milliseconds time) {
  if (time.count() <= 0) co_return;
  boost::system::error_code ignored;
  timer_.expires_after(time);
  co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

uint16_t Browser::NextPort() {
  const size_t turn = next_port_++ % (1 + options_.more_ports.size());
  return turn == 0 ? options_.port : options_.more_ports[turn - 1];
}

Browser::Awaitable<bool> Browser::ConnectTo(Tcp::socket& socket, uint16_t port) {
  boost::system::error_code error;
  co_await socket.async_connect({asio::ip::address_v4::loopback(), port},
                                asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return false;
  socket.set_option(Tcp::no_delay(true));
  std::lock_guard lock(owner_->mutex_);
  owner_->attempts_.push_back(std::chrono::steady_clock::now());
  co_return true;
}

Browser::Awaitable<void> Browser::OnFrame(json::object frame) {
  const std::string type = Text(frame, "type");
  if (type == "connected") {
    co_await Sleep(options_.before_subscribe);
    SubscribeAll();
    co_await Sleep(options_.before_read);
  }
  if (type == "going_away" && options_.heed_going_away) {
    away_for_ = std::chrono::milliseconds(Number(frame, "reconnect_after_ms"));
  }
  if (type == "probe" && options_.answer_probes) {
    Write({{"type", "probe_reply"}, {"nonce", Text(frame, "nonce")}});
  }
  if (type == "error" && Text(frame, "id") == kSubscribeId && frame.contains("retry_after_ms")) {
    const std::chrono::milliseconds delay(Number(frame, "retry_after_ms"));
    asio::co_spawn(owner_->context_,
                   SubscribeLater(shared_from_this(), Text(frame, "thread_id"), delay),
                   asio::detached);
  }
  Record(type, std::move(frame));
  owner_->changed_.notify_all();
  co_await Sleep(pause_);
}

void Browser::SubscribeAll() {
  std::lock_guard lock(owner_->mutex_);
  if (options_.all) {
    json::array after;
    for (const auto& [thread, view] : views) {
      if (view.subscribed == 0 || view.epoch.empty()) continue;
      after.push_back({{"thread_id", thread}, {"epoch", view.epoch}, {"offset", view.last}});
    }
    Write({{"type", "subscribe"}, {"all", true}, {"after", after}, {"history", options_.history}});
  }
  for (const std::string& thread : options_.threads) Write(SubscribeFrame(thread));
}

json::object Browser::SubscribeFrame(const std::string& thread) {
  const ThreadView& view = views[thread];
  json::object frame{{"type", "subscribe"},
                     {"id", kSubscribeId},
                     {"thread_id", thread},
                     {"history", options_.history}};
  if (view.subscribed > 0 && !view.epoch.empty()) {
    frame["after"] = {{"epoch", view.epoch}, {"offset", view.last}};
  } else {
    frame["from"] = options_.from;
  }
  return frame;
}

// Refused for now: a user has only so many claims, for example.
Browser::Awaitable<void> Browser::SubscribeLater(std::shared_ptr<Browser> self, std::string thread,
                                                 std::chrono::milliseconds delay) {
  const int session = self->session_;
  asio::steady_timer timer(self->owner_->context_, delay);
  boost::system::error_code ignored;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  if (self->leaving_ || self->session_ != session) co_return;
  std::lock_guard lock(self->owner_->mutex_);
  self->Write(self->SubscribeFrame(thread));
}

uint64_t Browser::Number(const json::object& frame, const char* key) {
  const json::value* value = frame.if_contains(key);
  return value && value->is_number() ? value->to_number<uint64_t>() : 0;
}

std::string Browser::Text(const json::object& frame, const char* key) {
  const json::value* value = frame.if_contains(key);
  return value && value->is_string() ? std::string(value->as_string()) : std::string();
}

void Browser::Record(const std::string& type, json::object frame) {
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
    if (view.asking_again && type == "missed") Write(SubscribeFrame(thread));
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

void Browser::Fault(ThreadView& view, std::string what) {
  if (view.fault.empty()) view.fault = std::move(what);
}

void Browser::RecordControl(ThreadView& view, const std::string& type, const json::object& frame) {
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

namespace {

std::shared_ptr<Browser> Make(Browsers* owner, BrowserOptions options) {
  switch (options.transport) {
    case Transport::kEventStream:
      return MakeEventStreamBrowser(owner, std::move(options));
    case Transport::kPolling:
      return MakePollingBrowser(owner, std::move(options));
    case Transport::kWebSocket:
      break;
  }
  return MakeWebSocketBrowser(owner, std::move(options));
}

}  // namespace

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
  auto browser = Make(this, std::move(options));
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
