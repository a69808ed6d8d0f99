// Many browsers at little cost: raw sockets on one thread that count frames and note delays.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "boost/asio/io_context.hpp"

namespace clarion::bench {

class Followers {
 public:
  explicit Followers(uint16_t port);
  ~Followers();
  Followers(const Followers&) = delete;
  Followers& operator=(const Followers&) = delete;

  // Connects, authenticates, subscribes; an empty thread: does not subscribe. Call before Start().
  void Add(const std::string& token, const std::string& thread);
  void Start();
  // Blocks until all have their `caught_up` (or, without a thread, `connected`). False: 60 s
  // passed.
  bool WaitReady();

  uint64_t events() const { return events_.load(std::memory_order_relaxed); }
  uint64_t closed() const { return closed_.load(std::memory_order_relaxed); }
  // Waits until so many events came in all. False: `seconds` passed without a new one.
  bool WaitForEvents(uint64_t events, int seconds = 10);
  // Delays so far in milliseconds, and forgets them.
  std::vector<double> TakeDelays();

 private:
  class Follower;
  void CountEvents(uint64_t events);
  void CountReady();
  void Reached();
  boost::asio::io_context context_{1};
  uint16_t port_;
  std::vector<std::unique_ptr<Follower>> followers_;
  std::vector<double> delays_;  // on the thread, until TakeDelays' post
  std::atomic<uint64_t> events_{0};
  std::atomic<uint64_t> ready_{0};
  std::atomic<uint64_t> closed_{0};
  // What somebody waits for; the thread says so when it is reached.
  std::atomic<uint64_t> wanted_events_{UINT64_MAX};
  std::atomic<uint64_t> wanted_ready_{UINT64_MAX};
  std::mutex mutex_;
  std::condition_variable reached_;
  std::thread thread_;
};

}  // namespace clarion::bench
