#include "tests/bench/followers.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <future>
#include <string_view>

#include "boost/asio/buffer.hpp"
#include "boost/asio/executor_work_guard.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/write.hpp"
#include "tests/e2e/support/raw_socket.h"

namespace clarion::bench {

namespace asio = boost::asio;
using asio::ip::tcp;
using testing::ClientFrame;
using testing::NowNanos;

// Reads as much as there is at once; parses frame heads only.
class Followers::Follower {
 public:
  Follower(Followers* owner, std::string token, std::string thread)
      : owner_(owner),
        socket_(owner->context_),
        token_(std::move(token)),
        thread_(std::move(thread)) {}

  void Start() {
    socket_.async_connect({asio::ip::address_v4::loopback(), owner_->port_},
                          [this](const boost::system::error_code& error) {
                            if (error) return Closed();
                            boost::system::error_code ignored;
                            socket_.set_option(tcp::no_delay(true), ignored);
                            Upgrade();
                            Read();
                          });
  }

 private:
  static constexpr size_t kReadBytes = 256 * 1024;
  // One buffer for all: they run on one thread, and only what is incomplete is kept.
  static std::vector<char>& Shared() {
    static std::vector<char> buffer(kReadBytes);
    return buffer;
  }

  void Upgrade() { Write(testing::kUpgradeRequest); }

  void SayHello() {
    Write(ClientFrame(R"({"type":"connect","protocol":1,"token":")" + token_ + "\"}"));
    token_.clear();
    token_.shrink_to_fit();
  }

  void Write(std::string_view bytes) {
    boost::system::error_code ignored;
    asio::write(socket_, asio::buffer(bytes), ignored);
  }

  void Read() {
    socket_.async_wait(tcp::socket::wait_read, [this](const boost::system::error_code& error) {
      if (error) return Closed();
      auto& buffer = Shared();
      std::memcpy(buffer.data(), rest_.data(), rest_.size());
      boost::system::error_code read_error;
      const size_t size = socket_.read_some(
          asio::buffer(buffer.data() + rest_.size(), buffer.size() - rest_.size()), read_error);
      if (read_error) return Closed();
      Consume({buffer.data(), rest_.size() + size});
      Read();
    });
  }

  void Consume(std::string_view bytes) {
    if (!upgraded_) {
      if (!testing::TakeUpgradeAnswer(bytes)) {
        rest_ = bytes;
        return;
      }
      upgraded_ = true;
      SayHello();
    }
    const int64_t now = NowNanos();
    uint64_t events = 0;
    testing::TakeFrames(bytes, [&](std::string_view text) { events += Frame(text, now); });
    if (events) owner_->CountEvents(events);
    rest_ = bytes;
  }

  // True: an event.
  bool Frame(std::string_view text, int64_t now) {
    if (text.starts_with("{\"offset\":")) {
      constexpr std::string_view kDelta = "\"delta\":\"";
      const size_t at = text.find(kDelta);
      if (at != std::string_view::npos) {
        const int64_t sent = std::strtoll(text.data() + at + kDelta.size(), nullptr, 10);
        if (sent > 0) owner_->delays_.push_back(static_cast<double>(now - sent) / 1e6);
      }
      return true;
    }
    if (text.find("\"connected\"") != std::string_view::npos) {
      if (thread_.empty()) {
        owner_->CountReady();
      } else {
        Write(ClientFrame(R"({"type":"subscribe","from":"live","thread_id":")" + thread_ + "\"}"));
      }
    } else if (text.find("\"caught_up\"") != std::string_view::npos) {
      owner_->CountReady();
    } else if (text.find("\"ping\"") != std::string_view::npos) {
      Write(ClientFrame(R"({"type":"pong"})"));
    }
    return false;
  }

  void Closed() { owner_->closed_.fetch_add(1); }

  Followers* owner_;
  tcp::socket socket_;
  std::string token_;
  std::string thread_;
  std::string rest_;
  bool upgraded_ = false;
};

Followers::Followers(uint16_t port) : port_(port) {}

Followers::~Followers() {
  context_.stop();
  if (thread_.joinable()) thread_.join();
}

void Followers::Add(const std::string& token, const std::string& thread) {
  followers_.push_back(std::make_unique<Follower>(this, token, thread));
}

void Followers::Start() {
  thread_ = std::thread([this] {
    auto work = asio::make_work_guard(context_);
    for (auto& follower : followers_) follower->Start();
    context_.run();
  });
}

bool Followers::WaitReady() {
  std::unique_lock lock(mutex_);
  wanted_ready_ = followers_.size();
  return reached_.wait_for(lock, std::chrono::seconds(60),
                           [this] { return ready_.load() >= followers_.size(); });
}

bool Followers::WaitForEvents(uint64_t events, int seconds) {
  std::unique_lock lock(mutex_);
  wanted_events_ = events;
  for (uint64_t seen = this->events();; seen = this->events()) {
    const bool reached = reached_.wait_for(lock, std::chrono::seconds(seconds),
                                           [&] { return this->events() >= events; });
    if (!reached && this->events() != seen) continue;
    wanted_events_ = UINT64_MAX;
    return reached;
  }
}

void Followers::CountEvents(uint64_t events) {
  if (events_.fetch_add(events) + events >= wanted_events_) Reached();
}

void Followers::CountReady() {
  if (ready_.fetch_add(1) + 1 >= wanted_ready_) Reached();
}

void Followers::Reached() {
  // Whoever waits has either not looked yet, or sleeps.
  {
    std::lock_guard lock(mutex_);
  }
  reached_.notify_all();
}

std::vector<double> Followers::TakeDelays() {
  std::promise<std::vector<double>> taken;
  asio::post(context_, [&] { taken.set_value(std::exchange(delays_, {})); });
  return taken.get_future().get();
}

}  // namespace clarion::bench
