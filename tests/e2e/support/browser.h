// A browser as the gateway sees it: a real WebSocket client that records every frame, connects
// again and resumes by position, and is the outside observer of what a user saw.
//
// All browsers of a Browsers run on one thread; views are read with View(), which is a copy.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "boost/asio/awaitable.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/json.hpp"

namespace clarion::testing {

// What a browser saw of one thread.
struct ThreadView {
  struct Seen {
    std::string epoch;
    uint64_t first = 0;  // of the offsets that it covers: `offset`, unless it is compacted
    uint64_t offset = 0;
    std::string event_id;
    std::string type;
    std::string delta;
    std::chrono::steady_clock::time_point at;
  };
  std::vector<Seen> events;
  // Every frame of the thread that is not an event, in order, with the events as `offset` strings
  // left out: subscribed, missed, caught_up, bound ...
  std::vector<boost::json::object> control;
  std::string epoch;
  uint64_t last = 0;   // the position to resume from
  uint64_t begin = 0;  // from_offset of the first `subscribed`; 0: there was none
  uint64_t acked = 0;  // the furthest that it acknowledged
  int subscribed = 0;
  int caught_up = 0;
  uint64_t caught_up_offset = 0;
  // The first broken rule: a gap, a repeat, an event before `subscribed`.
  std::string fault;
  // A part of a compacted event was rolled back: it is asked for again, and what is under way is
  // passed over until that is answered.
  bool asking_again = false;
};

enum class Transport { kWebSocket, kEventStream, kPolling };

struct BrowserOptions {
  Transport transport = Transport::kWebSocket;
  uint16_t port = 0;
  // Other gateways; tried in turn, from `port` on, each time it connects: whatever has no standing
  // socket goes to all of them.
  std::vector<uint16_t> more_ports;
  std::function<std::string()> token;
  std::vector<std::string> threads;
  bool all = false;
  // Used for the first subscribe; later ones resume.
  std::string from = "unfinished";
  // "compacted" or "full".
  std::string history = "full";
  bool reconnect = true;
  // Wait as long as `going_away` says before connecting again; otherwise, and after anything else:
  // 20 ms.
  bool heed_going_away = false;
  // Answer `probe`, as a page does whose code runs.
  bool answer_probes = true;
  // Acknowledge every this many events; 0: never.
  int ack_every = 0;
  // Waits injected before the connection, between `connected` and `subscribe`, and before reading
  // on.
  std::chrono::milliseconds before_connect{0};
  std::chrono::milliseconds before_subscribe{0};
  std::chrono::milliseconds before_read{0};
};

class Browser;

class Browsers {
 public:
  Browsers();
  ~Browsers();  // closes all
  Browsers(const Browsers&) = delete;
  Browsers& operator=(const Browsers&) = delete;

  // The index of the new browser.
  size_t Open(BrowserOptions options);
  // Drops the transport without a goodbye; the browser connects again by itself.
  void Drop(size_t browser);
  // Leaves for good.
  void Leave(size_t browser);
  void Send(size_t browser, boost::json::object frame);
  // From now on it waits so long after each frame before it reads the next.
  void SetPause(size_t browser, std::chrono::milliseconds pause);

  ThreadView View(size_t browser, const std::string& thread) const;
  // Frames that belong to no thread: connected, error, going_away ...
  std::vector<boost::json::object> Frames(size_t browser) const;
  int connections(size_t browser) const;  // how many times it was `connected`
  // When browsers asked to connect, all of them, in order.
  std::vector<std::chrono::steady_clock::time_point> attempts() const;
  // How late the browsers' own loop was at most since this was asked last: what should have
  // happened within that time may have happened at once.
  std::chrono::steady_clock::duration TakeLateness();
  std::optional<int> close_code(size_t browser) const;
  size_t size() const;

  // Waits for the predicate, which is asked again after every frame and every close. False: time is
  // over.
  bool WaitFor(std::chrono::seconds limit, const std::function<bool()>& predicate) const;
  bool WaitForOffset(size_t browser, const std::string& thread, uint64_t offset,
                     std::chrono::seconds limit = std::chrono::seconds(30)) const;

 private:
  friend class Browser;
  mutable std::mutex mutex_;  // guards what the browsers recorded
  mutable std::condition_variable changed_;
  boost::asio::awaitable<void> WatchLateness();

  std::vector<std::chrono::steady_clock::time_point> attempts_;
  std::chrono::steady_clock::duration lateness_{0};
  boost::asio::io_context context_{1};
  std::vector<std::shared_ptr<Browser>> browsers_;
  std::thread thread_;
};

}  // namespace clarion::testing
