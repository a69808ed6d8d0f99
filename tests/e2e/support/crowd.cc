#include "tests/e2e/support/crowd.h"

#include <cstdlib>
#include <cstring>
#include <future>
#include <string_view>
#include <utility>

#include "boost/asio/buffer.hpp"
#include "boost/asio/executor_work_guard.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/write.hpp"
#include "tests/e2e/support/raw_socket.h"

namespace clarion::testing {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

// More than the largest frame: a page, and what stands around it.
constexpr size_t kReadBytes = 2 * 1024 * 1024;

uint64_t NumberAt(std::string_view text, size_t at) {
  return std::strtoull(text.data() + at, nullptr, 10);
}

}  // namespace

class Crowd::Member {
 public:
  Member(Crowd* crowd, CrowdMember options)
      : crowd_(crowd), socket_(crowd->context_), options_(std::move(options)) {}

  void Start() {
    boost::system::error_code error;
    socket_.connect({asio::ip::address_v4::loopback(), crowd_->port_}, error);
    if (error) return Closed();
    boost::system::error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    // The smallest that there is: what is not read waits on the other side.
    if (!options_.reads) socket_.set_option(asio::socket_base::receive_buffer_size(1), ignored);
    Write(kUpgradeRequest);
    Read();
  }
  void Check(uint64_t goal) {
    if (!counted_ && last_ >= goal && options_.reads) {
      counted_ = true;
      ++crowd_->readers_;
    }
  }
  void Reset() { counted_ = false; }
  bool reads() const { return options_.reads; }
  void Resume() {
    resumed_ = true;
    if (std::exchange(paused_, false)) Read();
  }

 private:
  void Write(std::string_view bytes) {
    boost::system::error_code ignored;
    asio::write(socket_, asio::buffer(bytes), ignored);
  }

  void Read() {
    socket_.async_wait(tcp::socket::wait_read, [this](const boost::system::error_code& error) {
      if (error) return Closed();
      std::vector<char>& buffer = crowd_->buffer_;
      std::memcpy(buffer.data(), rest_.data(), rest_.size());
      boost::system::error_code read_error;
      const size_t size = socket_.read_some(
          asio::buffer(buffer.data() + rest_.size(), buffer.size() - rest_.size()), read_error);
      if (read_error) return Closed();
      crowd_->bytes_ += size;
      Consume({buffer.data(), rest_.size() + size});
      if (upgraded_ && (!options_.reads || paused_)) return;
      Read();
    });
  }

  void Consume(std::string_view bytes) {
    if (!upgraded_) {
      if (!TakeUpgradeAnswer(bytes)) {
        rest_ = bytes;
        return;
      }
      upgraded_ = true;
      Write(ClientFrame(R"({"type":"connect","protocol":1,"token":")" + options_.token +
                        R"(","subscribe":[{"thread_id":")" + options_.thread + R"(","from":")" +
                        options_.from + R"(","history":")" + options_.history + "\"}]}"));
    }
    const int64_t now = NowNanos();
    TakeFrames(bytes, [&](std::string_view text) { Frame(text, now); });
    rest_ = bytes;
    Check(crowd_->goal_);
    crowd_->Notify();
  }

  void Frame(std::string_view text, int64_t now) {
    constexpr std::string_view kOffset = "{\"offset\":";
    if (text.starts_with(kOffset)) return Event(text, now);
    const std::string_view type = text.substr(0, 24);
    if (type.find("\"subscribed\"") != std::string_view::npos) {
      constexpr std::string_view kFrom = "\"from_offset\":";
      const size_t at = text.find(kFrom);
      if (at != std::string_view::npos) last_ = NumberAt(text, at + kFrom.size()) - 1;
    } else if (type.find("\"caught_up\"") != std::string_view::npos) {
      ++crowd_->caught_up_;
      if (options_.pause_after_caught_up && !resumed_) paused_ = true;
    } else if (type.find("\"ping\"") != std::string_view::npos) {
      Write(ClientFrame(R"({"type":"pong"})"));
    }
  }

  void Event(std::string_view text, int64_t now) {
    constexpr std::string_view kFirst = ",\"first_offset\":";
    constexpr std::string_view kDelta = "\"delta\":\"";
    ++crowd_->frames_;
    const size_t number = text.find(':') + 1;
    const uint64_t offset = NumberAt(text, number);
    const size_t comma = text.find(',');
    const bool compacted = text.substr(comma, kFirst.size()) == kFirst;
    const uint64_t first = compacted ? NumberAt(text, comma + kFirst.size()) : offset;
    if (first != last_ + 1 || offset < first) {
      crowd_->Fault("offset " + std::to_string(first) + " after " + std::to_string(last_));
    }
    last_ = offset;
    const size_t delta = text.find(kDelta);
    if (compacted || delta == std::string_view::npos) return;
    const int64_t sent = std::strtoll(text.data() + delta + kDelta.size(), nullptr, 10);
    if (sent > 0) crowd_->delays_.push_back(static_cast<double>(now - sent) / 1e6);
  }

  void Closed() {
    ++crowd_->closed_;
    crowd_->Notify();
  }

  Crowd* const crowd_;
  tcp::socket socket_;
  const CrowdMember options_;
  std::string rest_;
  uint64_t last_ = 0;
  bool upgraded_ = false;
  bool counted_ = false;
  bool paused_ = false;
  bool resumed_ = false;
};

Crowd::Crowd(uint16_t port) : port_(port), buffer_(kReadBytes) {
  thread_ = std::thread([this] {
    auto work = asio::make_work_guard(context_);
    context_.run();
  });
}

Crowd::~Crowd() {
  context_.stop();
  thread_.join();
}

void Crowd::Join(std::vector<CrowdMember> members) {
  asio::post(context_, [this, members = std::move(members)] {
    for (const CrowdMember& options : members) {
      members_.push_back(std::make_unique<Member>(this, options));
      members_.back()->Start();
    }
  });
}

void Crowd::Resume() {
  asio::post(context_, [this] {
    for (const auto& member : members_) member->Resume();
  });
}

bool Crowd::WaitForOffset(uint64_t offset, std::chrono::seconds limit) {
  std::promise<uint64_t> readers;
  asio::post(context_, [&] {
    uint64_t count = 0;
    goal_ = offset;
    readers_ = 0;
    for (const auto& member : members_) {
      member->Reset();
      member->Check(offset);
      if (member->reads()) ++count;
    }
    readers.set_value(count);
  });
  const uint64_t all = readers.get_future().get();
  return WaitFor([&] { return readers_ >= all || !fault().empty(); }, limit) && fault().empty();
}

bool Crowd::WaitFor(const std::function<bool()>& predicate, std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!predicate()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(20));
  }
  return true;
}

std::string Crowd::fault() const {
  std::lock_guard lock(mutex_);
  return fault_;
}

void Crowd::Fault(const std::string& what) {
  std::lock_guard lock(mutex_);
  if (fault_.empty()) fault_ = what;
}

void Crowd::Notify() {
  changed_.notify_all();
}

std::vector<double> Crowd::TakeDelays() {
  std::promise<std::vector<double>> taken;
  asio::post(context_, [&] { taken.set_value(std::exchange(delays_, {})); });
  return taken.get_future().get();
}

}  // namespace clarion::testing
