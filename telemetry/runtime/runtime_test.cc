// The admin port, real time, and signals.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "boost/asio/connect.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/read.hpp"
#include "boost/asio/write.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "telemetry/metrics.h"
#include "telemetry/runtime/admin_server.h"
#include "telemetry/runtime/signals.h"
#include "telemetry/runtime/thread_scheduler.h"

namespace clarion {
namespace {

using boost::asio::ip::tcp;
using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::StartsWith;

class AdminServerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto started = AdminServer::Start({{"127.0.0.1", 0}, [this] {
                                         return ready_.load()
                                                    ? absl::OkStatus()
                                                    : absl::UnavailableError("no gateway");
                                       }});
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
  }

  tcp::socket Connect() {
    tcp::socket socket(loop_);
    socket.connect({boost::asio::ip::make_address("127.0.0.1"), server_->port()});
    return socket;
  }
  // Everything the server says to these bytes, until it closes.
  std::string Ask(const std::string& bytes) {
    tcp::socket socket = Connect();
    boost::system::error_code error;
    boost::asio::write(socket, boost::asio::buffer(bytes), error);
    std::string answer;
    boost::asio::read(socket, boost::asio::dynamic_buffer(answer), error);
    return answer;
  }
  std::string Get(const std::string& path) {
    return Ask("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
  }

  std::atomic<bool> ready_ = true;
  boost::asio::io_context loop_;
  std::unique_ptr<AdminServer> server_;
};

TEST_F(AdminServerTest, SaysThatItLivesAndWhetherItIsReady) {
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Get("/readyz?verbose"), StartsWith("HTTP/1.1 200"));
  ready_ = false;
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 200"));
  const std::string not_ready = Get("/readyz");
  EXPECT_THAT(not_ready, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(not_ready, HasSubstr("no gateway"));
}

TEST_F(AdminServerTest, GivesMetricsAsText) {
  GetCounter("test_admin_total", "Help.").Add();
  const std::string answer = Get("/metrics");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain; version=0.0.4"));
  EXPECT_THAT(answer, HasSubstr("test_admin_total 1"));
}

TEST_F(AdminServerTest, RefusesOtherPathsAndMethods) {
  EXPECT_THAT(Get("/"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
              StartsWith("HTTP/1.1 405"));
  const std::string head = Ask("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("Content-Length: 3"));
  EXPECT_THAT(head, testing::EndsWith("\r\n\r\n"));
}

TEST_F(AdminServerTest, ClosesOnGarbageAndOversizeAndServesOn) {
  EXPECT_EQ(Ask("\x16\x03\x01 not http\r\n\r\n"), "");
  EXPECT_EQ(Ask("GET / HTTP/1.1\r\nX: " + std::string(100'000, 'x')), "");
  EXPECT_THAT(Ask("GET / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + std::string(5000, 'x')),
              testing::Not(HasSubstr("200 OK")));
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(AdminServerTest, ASilentConnectionDoesNotKeepOthersWaiting) {
  std::vector<tcp::socket> silent;
  silent.reserve(20);
  for (int i = 0; i < 20; ++i) silent.push_back(Connect());
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(AdminServerTest, AnOccupiedPortIsAnErrorThatNamesTheAddress) {
  const auto second = AdminServer::Start({{"127.0.0.1", server_->port()}, nullptr});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("cannot listen on 127.0.0.1:"));
}

TEST_F(AdminServerTest, StopsWithConnectionsOpen) {
  tcp::socket open = Connect();
  server_.reset();
  char byte;
  boost::system::error_code error;
  boost::asio::read(open, boost::asio::buffer(&byte, 1), error);
  EXPECT_TRUE(error);
}

// What tasks use is declared before the scheduler: its end waits for them.
TEST(ThreadScheduler, RunsTasksInOrderOfTime) {
  std::string order;  // the scheduler's thread, then ours after `done`
  std::promise<void> done;
  const auto scheduler = MakeThreadScheduler();
  scheduler->After(milliseconds(200), [&] {
    order += "c";
    done.set_value();
  });
  scheduler->After(milliseconds(0), [&] { order += "a"; });
  scheduler->After(milliseconds(0), [&] { order += "b"; });
  done.get_future().wait();
  EXPECT_EQ(order, "abc");
}

TEST(ThreadScheduler, DoesNotBeginBeforeTheDelay) {
  std::promise<Scheduler::Steady> ran;
  const auto scheduler = MakeThreadScheduler();
  const auto begin = scheduler->now();
  scheduler->After(milliseconds(20), [&] { ran.set_value(scheduler->now()); });
  EXPECT_GE(ran.get_future().get() - begin, milliseconds(20));
}

TEST(ThreadScheduler, ACancelledTaskNeverBegins) {
  std::promise<void> go_on, later;
  std::atomic<bool> ran = false;
  const auto scheduler = MakeThreadScheduler();
  // Everything below is due before any of it can begin.
  scheduler->After(milliseconds(0), [&] { go_on.get_future().wait(); });
  const auto timer = scheduler->After(milliseconds(0), [&] { ran = true; });
  scheduler->After(milliseconds(0), [&] { later.set_value(); });
  EXPECT_TRUE(scheduler->Cancel(timer));
  EXPECT_FALSE(scheduler->Cancel(timer));
  go_on.set_value();
  later.get_future().wait();
  EXPECT_FALSE(ran);
}

TEST(ThreadScheduler, ATaskThatBeganCannotBeCancelled) {
  std::promise<void> began, go_on;
  const auto scheduler = MakeThreadScheduler();
  const auto timer = scheduler->After(milliseconds(0), [&] {
    began.set_value();
    go_on.get_future().wait();
  });
  began.get_future().wait();
  EXPECT_FALSE(scheduler->Cancel(timer));
  go_on.set_value();
}

TEST(ThreadScheduler, TasksMayScheduleAndCancel) {
  std::promise<bool> done;
  const auto scheduler = MakeThreadScheduler();
  scheduler->After(milliseconds(0), [&] {
    const auto never = scheduler->After(std::chrono::hours(1), [] { FAIL(); });
    scheduler->After(milliseconds(0), [&, never] { done.set_value(scheduler->Cancel(never)); });
  });
  EXPECT_TRUE(done.get_future().get());
}

TEST(ThreadScheduler, DestroyingWaitsForWhatBeganAndCancelsTheRest) {
  std::atomic<bool> finished = false, never = false;
  std::promise<void> began;
  auto scheduler = MakeThreadScheduler();
  scheduler->After(milliseconds(0), [&] {
    began.set_value();
    std::this_thread::yield();
    finished = true;
  });
  scheduler->After(std::chrono::hours(1), [&] { never = true; });
  began.get_future().wait();
  scheduler.reset();
  EXPECT_TRUE(finished);
  EXPECT_FALSE(never);
}

// Runs `child` in a process of its own; answers its wait status.
template <class Child>
int StatusOfChild(Child child) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    child();
    ::_exit(99);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status;
}

TEST(Signals, TheFirstIsAnsweredTheSecondEndsTheProcess) {
  const int status = StatusOfChild([] {
    BlockStopSignals();
    ::kill(::getpid(), SIGTERM);
    if (WaitForStopSignal() != SIGTERM) ::_exit(1);
    ::kill(::getpid(), SIGINT);
    ::_exit(2);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGINT);
}

TEST(Signals, AClosedPipeDoesNotKill) {
  const int status = StatusOfChild([] {
    BlockStopSignals();
    int ends[2];
    if (::pipe(ends) != 0) ::_exit(1);
    ::close(ends[0]);
    ::_exit(::write(ends[1], "x", 1) == -1 && errno == EPIPE ? 0 : 2);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace clarion
