#include "tests/e2e/support/program.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "boost/asio/connect.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/beast/core.hpp"
#include "boost/beast/http.hpp"
#include "gtest/gtest.h"

namespace clarion::testing {

uint16_t FreePort() {
  // Below those that Linux gives to outgoing connections, which would take one before its program
  // does.
  constexpr int kFirst = 10'000;
  constexpr int kCount = 22'000;
  static std::atomic<int> next{::getpid() * 61};
  for (int tries = 0; tries < kCount; ++tries) {
    const auto port = static_cast<uint16_t>(kFirst + (next++ & 0x7fffffff) % kCount);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int reuse = 1;  // as the programs do
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool free = ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                      ::listen(fd, 1) == 0;
    ::close(fd);
    if (free) return port;
  }
  ADD_FAILURE() << "no port is free";
  return 0;
}

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "clarion-XXXXXX").string();
  path_ = ::mkdtemp(pattern.data());
}

TempDir::~TempDir() {
  if (::testing::Test::HasFailure()) {
    std::cerr << "kept for inspection: " << path_ << "\n";
    return;
  }
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Program::Program(std::filesystem::path binary, std::vector<std::string> arguments,
                 std::filesystem::path log)
    : binary_(std::move(binary)), arguments_(std::move(arguments)), log_(std::move(log)) {}

Program::~Program() {
  if (running()) Stop(SIGKILL);
}

void Program::Start() {
  std::vector<char*> argv = {const_cast<char*>(binary_.c_str())};
  for (const std::string& argument : arguments_)
    argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log_.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  const int error = ::posix_spawn(&pid_, binary_.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ASSERT_EQ(error, 0) << "cannot start " << binary_;
}

int Program::Stop(int signal) {
  if (pid_ <= 0) return -1;
  ::kill(pid_, signal);
  return Wait();
}

int Program::Wait() {
  if (pid_ <= 0) return -1;
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool Program::running() {
  if (pid_ <= 0) return false;
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0;
}

std::string Program::log() const {
  std::ifstream file(log_);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

namespace {

namespace http = boost::beast::http;

// Status 0: nobody answers.
struct Answer {
  http::status status{};
  std::string body;
};

Answer Get(uint16_t port, const std::string& target) {
  boost::asio::io_context context;
  boost::asio::ip::tcp::socket socket(context);
  boost::system::error_code error;
  socket.connect({boost::asio::ip::address_v4::loopback(), port}, error);
  if (error) return {};
  http::request<http::empty_body> request(http::verb::get, target, 11);
  request.set(http::field::host, "127.0.0.1");
  request.set(http::field::connection, "close");
  http::write(socket, request, error);
  boost::beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(64 * 1024 * 1024);
  http::read(socket, buffer, parser, error);
  if (error) return {};
  return {parser.get().result(), std::move(parser.get().body())};
}

}  // namespace

std::string HttpGet(uint16_t port, const std::string& target) {
  Answer answer = Get(port, target);
  if (answer.status != http::status::ok) return "";
  return answer.body.empty() ? " " : std::move(answer.body);
}

std::string WhyUnavailable(uint16_t port, const std::string& target) {
  Answer answer = Get(port, target);
  return answer.status == http::status::service_unavailable ? std::move(answer.body) : "";
}

bool WaitUntil(const std::function<bool()>& condition, std::chrono::seconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

namespace {

void WaitWhileRunning(Program& program, const std::string& what,
                      const std::function<bool()>& condition) {
  bool so = false;
  const bool in_time = WaitUntil(
      [&] {
        const bool running = program.running();
        so = condition();
        return so || !running;
      },
      std::chrono::seconds(60));
  if (so) return;
  FAIL() << what << (in_time ? ", and the program ended:\n" : ":\n") << program.log();
}

}  // namespace

void WaitUntilServing(Program& program, uint16_t port, const std::string& target) {
  WaitWhileRunning(program, "not serving", [&] { return !HttpGet(port, target).empty(); });
}

void WaitUntilLogged(Program& program, const std::string& text) {
  WaitWhileRunning(program, "not logged: " + text,
                   [&] { return program.log().find(text) != std::string::npos; });
}

namespace {

size_t StatusBytes(pid_t pid, const std::string& key) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return std::stoull(line.substr(key.size() + 1)) * 1024;
  }
  return 0;
}

}  // namespace

size_t Program::resident() const {
  return StatusBytes(pid_, "VmRSS");
}

size_t Program::most_resident() const {
  return StatusBytes(pid_, "VmHWM");
}

double MetricValue(uint16_t admin_port, const std::string& name) {
  std::istringstream lines(HttpGet(admin_port, "/metrics"));
  double sum = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name)) continue;
    const char after = line.size() > name.size() ? line[name.size()] : '\0';
    if (after == ' ' || after == '{')
      sum += std::strtod(line.substr(line.rfind(' ')).c_str(), nullptr);
  }
  return sum;
}

MetricWatch::MetricWatch(std::vector<Metric> metrics)
    : metrics_(std::move(metrics)), most_(metrics_.size()), thread_([this] {
        while (!stop_) {
          for (size_t i = 0; i < metrics_.size(); ++i) {
            most_[i] = std::max(most_[i], MetricValue(metrics_[i].admin_port, metrics_[i].name));
          }
          std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
      }) {}

MetricWatch::~MetricWatch() {
  Stop();
}

void MetricWatch::Stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

}  // namespace clarion::testing
