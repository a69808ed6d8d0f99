// Many browsers at little cost: raw sockets on one thread that follow one thread each, check
// offsets, and note delays. Some may never read.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "boost/asio/io_context.hpp"

namespace clarion::testing {

struct CrowdMember {
  std::string token;
  std::string thread;
  std::string from = "start";
  std::string history = "compacted";
  // False: it subscribes and takes nothing from then on, not even what its kernel would.
  bool reads = true;
  // It reads no more once it has caught up, until Resume().
  bool pause_after_caught_up = false;
};

class Crowd {
 public:
  explicit Crowd(uint16_t port);
  ~Crowd();  // all leave
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

  // They connect at once, and do not come back when they are closed.
  void Join(std::vector<CrowdMember> members);
  // Those that paused read on.
  void Resume();
  // Until all that read have every event up to `offset`. False: time is over.
  bool WaitForOffset(uint64_t offset, std::chrono::seconds limit);
  bool WaitFor(const std::function<bool()>& predicate, std::chrono::seconds limit);

  uint64_t caught_up() const { return caught_up_; }
  uint64_t closed() const { return closed_; }
  uint64_t frames() const { return frames_; }
  uint64_t bytes() const { return bytes_; }
  // The first broken rule of any of them: a gap or a repeat.
  std::string fault() const;
  // In milliseconds, and forgets them.
  std::vector<double> TakeDelays();

 private:
  class Member;
  void Fault(const std::string& what);
  void Notify();

  const uint16_t port_;
  boost::asio::io_context context_{1};
  std::vector<std::unique_ptr<Member>> members_;  // on the thread
  std::vector<char> buffer_;                      // of all: on the thread
  std::atomic<uint64_t> caught_up_{0};
  std::atomic<uint64_t> closed_{0};
  std::atomic<uint64_t> frames_{0};
  std::atomic<uint64_t> bytes_{0};
  // Readers that have everything up to goal_.
  std::atomic<uint64_t> goal_{UINT64_MAX};
  std::atomic<uint64_t> readers_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::string fault_;
  std::vector<double> delays_;
  std::thread thread_;
};

}  // namespace clarion::testing
