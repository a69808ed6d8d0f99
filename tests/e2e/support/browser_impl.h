// What one browser knows and does: for browser.cc and its transports, browser_*.cc.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "boost/asio/awaitable.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/json.hpp"
#include "tests/e2e/support/browser.h"

namespace clarion::testing {

// On the loop of its Browsers; what it records is guarded by their mutex.
class Browser : public std::enable_shared_from_this<Browser> {
 public:
  using Tcp = boost::asio::ip::tcp;
  template <class T>
  using Awaitable = boost::asio::awaitable<T>;

  Browser(Browsers* owner, BrowserOptions options);
  virtual ~Browser() = default;

  static Awaitable<void> Run(std::shared_ptr<Browser> self);
  // Loses its transport without a goodbye.
  virtual void Drop() = 0;
  // One more thing to say to the gateway.
  virtual void Write(boost::json::object frame) = 0;
  void Leave();
  void SetPause(std::chrono::milliseconds pause);

  // Guarded by the owner's mutex.
  std::map<std::string, ThreadView> views;
  std::vector<boost::json::object> frames;
  int connections = 0;
  std::optional<int> close_code;

 protected:
  static constexpr std::chrono::milliseconds kPause{20};
  static constexpr const char* kSubscribeId = "subscribe";

  // From connecting to the loss of the transport.
  virtual Awaitable<void> Session() = 0;

  Awaitable<void> Sleep(std::chrono::milliseconds time);
  // What came, whatever brought it.
  Awaitable<void> OnFrame(boost::json::object frame);
  // Of whichever gateway's turn it is.
  uint16_t NextPort();
  Awaitable<bool> ConnectTo(Tcp::socket& socket, uint16_t port);
  // The loop's.
  boost::asio::io_context& context() const { return owner_->context_; }
  std::mutex& mutex() const { return owner_->mutex_; }
  bool leaving() const { return leaving_; }
  const BrowserOptions& options() const { return options_; }
  // Tells apart what belongs to an earlier transport.
  int session() const { return session_; }
  void ComeBackAfter(std::chrono::milliseconds time) { away_for_ = time; }

  // With the owner's mutex.
  boost::json::object SubscribeFrame(const std::string& thread);

  static uint64_t Number(const boost::json::object& frame, const char* key);
  static std::string Text(const boost::json::object& frame, const char* key);

 private:
  void SubscribeAll();
  static Awaitable<void> SubscribeLater(std::shared_ptr<Browser> self, std::string thread,
                                        std::chrono::milliseconds delay);
  void Record(const std::string& type, boost::json::object frame);
  static void RecordControl(ThreadView& view, const std::string& type,
                            const boost::json::object& frame);
  static void Fault(ThreadView& view, std::string what);

  Browsers* owner_;
  BrowserOptions options_;
  boost::asio::steady_timer timer_;
  std::chrono::milliseconds away_for_ = kPause;
  std::chrono::milliseconds pause_{0};
  size_t next_port_ = 0;
  int session_ = 0;
  bool leaving_ = false;
};

std::shared_ptr<Browser> MakeWebSocketBrowser(Browsers* owner, BrowserOptions options);
std::shared_ptr<Browser> MakeEventStreamBrowser(Browsers* owner, BrowserOptions options);
std::shared_ptr<Browser> MakePollingBrowser(Browsers* owner, BrowserOptions options);

}  // namespace clarion::testing
