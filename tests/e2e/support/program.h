// A program under test as a child process: started, watched, killed.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace clarion::testing {

// A port that was free a moment ago. Programs that are killed and started again need the same one
// twice.
uint16_t FreePort();

// A directory of its own, removed at the end of the test unless the test failed.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class Program {
 public:
  // `log` collects standard output and error, appended over restarts.
  Program(std::filesystem::path binary, std::vector<std::string> arguments,
          std::filesystem::path log);
  ~Program();  // SIGKILL
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void Start();
  // Sends the signal and waits for the end.
  int Stop(int signal);
  // Waits for the end: the exit code, or 128 + signal.
  int Wait();
  bool running();
  pid_t pid() const { return pid_; }
  std::string log() const;
  // Memory that it has, or had at most, in bytes (VmRSS, VmHWM).
  size_t resident() const;
  size_t most_resident() const;

 private:
  std::filesystem::path binary_;
  std::vector<std::string> arguments_;
  std::filesystem::path log_;
  pid_t pid_ = -1;
};

// GET http://127.0.0.1:port/target; empty when nobody answers 200.
std::string HttpGet(uint16_t port, const std::string& target);
// The body of the answer 503 there; empty when there is none.
std::string WhyUnavailable(uint16_t port, const std::string& target);
// Asks until it is so: nothing tells when it is in another process. False: not within `limit`.
bool WaitUntil(const std::function<bool()>& condition, std::chrono::seconds limit);
// Polls until `port` answers 200 there, or the program ends (then the test fails with its log).
void WaitUntilServing(Program& program, uint16_t port, const std::string& target);
// Polls until the program's log holds `text`, or the program ends (then the test fails with its
// log).
void WaitUntilLogged(Program& program, const std::string& text);
// The value of a metric without labels, or the sum over its labels; 0 when it is absent.
double MetricValue(uint16_t admin_port, const std::string& name);

// The most of some metrics, asked for every 10 ms until Stop().
class MetricWatch {
 public:
  struct Metric {
    uint16_t admin_port;
    std::string name;
  };
  explicit MetricWatch(std::vector<Metric> metrics);
  ~MetricWatch();
  void Stop();
  // After Stop(): of the metrics in their order.
  double most(size_t index) const { return most_[index]; }

 private:
  const std::vector<Metric> metrics_;
  std::vector<double> most_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace clarion::testing
