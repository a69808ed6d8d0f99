#include "tests/chaos/world.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <string_view>
#include <thread>

#include "gtest/gtest.h"
#include "proto/contract/error.h"

namespace clarion::testing {
namespace {

using std::chrono::milliseconds;

constexpr int kEventsPerSecond = 40;  // of one producer
// A gateway takes a token until this long after its end.
constexpr int kLeewaySeconds = 30;

std::filesystem::path StallingService() {
  return std::filesystem::path(CLARION_BIN_DIR) / "tests" / "chaos" / "stalling_service";
}

}  // namespace

World::World(uint64_t seed)
    : random_(seed),
      token_random_(seed + 1),
      deployment_(Form::kTwoProcesses, {}, {}, StallingService()) {
  deployment_.Start();
  second_gateway_ = &deployment_.AddGateway();
  for (int i = 0; i < kUsers; ++i) AddUser(i);
}

World::~World() {
  for (auto& producer : producers_) producer->Stop();
}

void World::AddUser(int number) {
  User user{.name = "user" + std::to_string(number)};
  for (int i = 0; i < kThreadsOfUser; ++i) {
    user.threads.push_back(user.name + "-thread" + std::to_string(i));
  }
  for (int i = 0; i < kBrowsersOfUser; ++i) {
    BrowserOptions options;
    constexpr std::array kTransports = {Transport::kWebSocket, Transport::kWebSocket,
                                        Transport::kEventStream, Transport::kPolling};
    options.transport = kTransports[static_cast<size_t>(Random(0, 3))];
    const bool even = Random(0, 1) == 0;
    options.port = even ? deployment_.stream_port() : second_gateway_->stream_port;
    options.more_ports = {even ? second_gateway_->stream_port : deployment_.stream_port()};
    options.token = [this, name = user.name] { return ShortToken(name); };
    options.all = i % 2 == 0;
    if (!options.all) options.threads = user.threads;
    options.from = "start";
    options.history = Random(0, 1) == 0 ? "full" : "compacted";
    options.ack_every = Random(0, 1) * Random(1, 30);
    options.heed_going_away = Random(0, 1) == 0;
    user.browsers.push_back(browsers_.Open(std::move(options)));
  }
  const bool pipelined = number % 3 == 0;
  producers_.push_back(std::make_unique<Producer>(
      deployment_, &record_, pipelined ? Style::kPipelined : Style::kOneByOne,
      "producer" + std::to_string(number), user.name, user.threads, kEventsPerSecond));
  users_.push_back(std::move(user));
}

// Of some seconds, so that connections end with their tokens all the time.
std::string World::ShortToken(const std::string& user) {
  const auto seconds = static_cast<int64_t>(5 + token_random_() % 30);
  return deployment_.Token(user, seconds - kLeewaySeconds);
}

void World::Step() {
  const int dice = Random(1, 100);
  if (dice <= 35) {
    DropSomeBrowsers();
  } else if (dice <= 55) {
    SlowSomeBrowsers();
  } else if (dice <= 60) {
    StallDisk();
  } else if (dice <= 65) {
    DeleteAThread();
  } else if (dice <= 72) {
    KillService(SIGKILL);
  } else if (dice <= 78) {
    KillService(SIGTERM);
  } else if (dice <= 90) {
    KillGateway(SIGKILL);
  } else {
    KillGateway(SIGTERM);
  }
  LetPass(50, 800);
}

// How long an outage lasts, and life between two: what the test is made of. Nothing is waited for.
void World::LetPass(int least_ms, int most_ms) {
  std::this_thread::sleep_for(milliseconds(Random(least_ms, most_ms)));
}

void World::DropSomeBrowsers() {
  for (int i = Random(1, 40); i > 0; --i) {
    browsers_.Drop(static_cast<size_t>(Random(0, static_cast<int>(browsers_.size()) - 1)));
  }
  Count("browsers dropped");
}

void World::SlowSomeBrowsers() {
  for (int i = Random(1, 20); i > 0; --i) {
    const auto browser = static_cast<size_t>(Random(0, static_cast<int>(browsers_.size()) - 1));
    browsers_.SetPause(browser, milliseconds(Random(0, 2) * Random(0, 100)));
  }
  Count("browsers slowed");
}

void World::KillService(int signal) {
  deployment_.service().Stop(signal);
  LetPass(0, 500);
  deployment_.StartService();
  Count(signal == SIGKILL ? "service killed" : "service stopped");
}

void World::KillGateway(int signal) {
  Program* program = &deployment_.gateway();
  const bool second = Random(0, 1) == 1;
  if (second) program = second_gateway_->program.get();
  program->Stop(signal);
  LetPass(0, 500);
  second ? second_gateway_->Start() : deployment_.StartGateway();
  Count(signal == SIGKILL ? "gateway killed" : "gateway stopped");
}

void World::StallDisk() {
  kill(deployment_.service().pid(), SIGUSR1);
  LetPass(200, 3000);
  kill(deployment_.service().pid(), SIGUSR2);
  Count("disk stalled");
}

template <class Call>
std::optional<Reason> World::Insist(Call call) {
  for (;;) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    const grpc::Status status = call(&context);
    if (status.ok()) return std::nullopt;
    const std::optional<Reason> reason = ReasonOf(FromGrpc(status));
    if (reason.has_value() && RowOf(*reason).retry != Retry::kLater) return reason;
  }
}

void World::DeleteAThread() {
  User& user = users_[static_cast<size_t>(Random(0, kUsers - 1))];
  const std::string thread = user.name + "-deleted" + std::to_string(user.deleted.size());
  user.deleted.push_back(thread);
  const auto stub = deployment_.Stub();
  for (int i = Random(1, 30); i > 0; --i) {
    v1::PublishRequest request;
    *request.mutable_event() = Thinking(user.name, thread, "e" + std::to_string(i));
    v1::PublishResponse response;
    EXPECT_EQ(Insist([&](auto* context) { return stub->Publish(context, request, &response); }),
              std::nullopt);
  }
  v1::DeleteThreadRequest request;
  request.set_user_id(user.name);
  request.set_thread_id(thread);
  v1::DeleteThreadResponse response;
  EXPECT_EQ(Insist([&](auto* context) { return stub->DeleteThread(context, request, &response); }),
            std::nullopt);
  Count("thread deleted");
}

std::map<uint64_t, std::string> World::ReadLog(const std::string& thread) {
  std::map<uint64_t, std::string> events;
  const auto stub = deployment_.Stub();
  v1::ListEventsRequest request;
  request.set_thread_id(thread);
  request.set_page_size(1000);
  v1::ListEventsResponse page;
  do {
    grpc::ClientContext context;
    const grpc::Status status = stub->ListEvents(&context, request, &page);
    EXPECT_TRUE(status.ok()) << status.error_message();
    if (!status.ok()) return events;
    EXPECT_EQ(page.missed_size(), 0) << thread;
    for (const v1::Event& event : page.events()) {
      events.emplace(event.offset(), event.event_id());
      request.mutable_after()->set_offset(event.offset());
    }
    request.mutable_after()->set_epoch(page.last().epoch());
  } while (!page.complete() && page.events_size() > 0);
  return events;
}

void World::SettleAndJudge() {
  for (size_t i = 0; i < browsers_.size(); ++i) browsers_.SetPause(i, milliseconds(0));
  for (auto& producer : producers_) producer->Stop();
  EXPECT_EQ(record_.fault(), "");
  for (const User& user : users_) {
    for (const std::string& thread : user.threads) JudgeThread(user, thread);
    for (const std::string& thread : user.deleted) JudgeDeleted(user, thread);
  }
  Audit();
}

// Whoever saw something of it was told that it is gone, and saw nothing afterwards; who still
// publishes to it is told so.
void World::JudgeDeleted(const User& user, const std::string& thread) {
  const auto stub = deployment_.Stub();
  v1::PublishRequest request;
  *request.mutable_event() = Thinking(user.name, thread, "late");
  v1::PublishResponse response;
  EXPECT_EQ(Insist([&](auto* context) { return stub->Publish(context, request, &response); }),
            Reason::kEventDropped);
  for (const size_t browser : user.browsers) {
    const auto is_told = [&] {
      const ThreadView view = browsers_.View(browser, thread);
      if (view.events.empty()) return true;
      const auto& last = view.control.back();
      // One that was away meanwhile asks for it again, and is told that it is not its user's.
      return last.contains("claim") || last.at("type") == "missed" || last.at("type") == "error";
    };
    EXPECT_TRUE(browsers_.WaitFor(std::chrono::seconds(30), is_told))
        << "browser " << browser << " was not told of the end of " << thread;
  }
}

void World::Audit() {
  const std::filesystem::path bin(CLARION_BIN_DIR);
  Program audit(bin / "service" / "ctl" / "clarionctl",
                {"audit", "--service", "127.0.0.1:" + std::to_string(deployment_.grpc_port())},
                deployment_.dir() / "audit.log");
  audit.Start();
  EXPECT_EQ(audit.Wait(), 0) << audit.log();
}

void World::JudgeThread(const User& user, const std::string& thread) {
  const auto log = ReadLog(thread);
  ASSERT_FALSE(log.empty()) << thread;
  // Accepted is kept. An event that was sent again is there once, under the offset that the answer
  // named; and nothing is there that nobody published.
  EXPECT_EQ(record_.Of(thread), log) << thread;
  const uint64_t last = log.rbegin()->first;
  EXPECT_EQ(log.size(), last) << thread << " has gaps";
  uint64_t acked = 0;
  for (const size_t browser : user.browsers) {
    acked = std::max(acked, browsers_.View(browser, thread).acked);
  }
  for (const size_t browser : user.browsers) {
    ASSERT_TRUE(browsers_.WaitForOffset(browser, thread, last, std::chrono::seconds(60)))
        << "browser " << browser << " stands at " << browsers_.View(browser, thread).last << " of "
        << last << " in " << thread;
    const ThreadView view = browsers_.View(browser, thread);
    EXPECT_EQ(view.fault, "") << "browser " << browser << " in " << thread;
    std::map<uint64_t, std::string> seen;
    for (const auto& event : view.events) {
      EXPECT_TRUE(seen.emplace(event.offset, event.event_id).second)
          << "browser " << browser << " saw " << event.offset << " of " << thread << " twice";
      // What a compacted event holds is there too: its text says so.
      const uint64_t covers = event.offset - event.first + 1;
      if (covers > 1) {
        EXPECT_EQ(event.delta.size(), covers * std::string_view("hm").size());
      }
      for (uint64_t offset = event.first; offset < event.offset; ++offset) {
        seen.emplace(offset, log.count(offset) > 0 ? log.at(offset) : "");
      }
    }
    // One that follows all threads begins with what its user has not seen; the others with 1.
    EXPECT_LE(view.begin, acked + 1) << "browser " << browser << " in " << thread;
    const std::map<uint64_t, std::string> wanted(log.lower_bound(view.begin), log.end());
    EXPECT_TRUE(seen == wanted) << "browser " << browser << " in " << thread << " holds "
                                << seen.size() << " of " << wanted.size() << " events from "
                                << view.begin;
  }
}

std::string World::Summary() const {
  std::string summary = std::to_string(record_.count()) + " events accepted";
  for (const auto& [what, times] : happened_) {
    summary += ", " + what + " " + std::to_string(times) + " times";
  }
  int connections = 0;
  for (size_t i = 0; i < browsers_.size(); ++i) connections += browsers_.connections(i);
  return summary + ", " + std::to_string(connections) + " connections made";
}

}  // namespace clarion::testing
