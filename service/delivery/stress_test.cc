// Everything at once from several threads; for ThreadSanitizer, and for what must hold in the end.
#include <array>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "service/delivery/delivery_fixture.h"

namespace clarion::delivery {
namespace {

class ReceiptWatcherForNobody : public ReceiptWatcher {
 public:
  void OnReceipt(const Receipt&) override {}
};

class CountingWatcher : public ConnectionWatcher {
 public:
  void OnChange(const v1::Connection&, bool) override {
    EXPECT_FALSE(inside_.exchange(true)) << "two calls at a time";
    ++changes;
    inside_ = false;
  }
  std::atomic<int> changes = 0;

 private:
  std::atomic<bool> inside_ = false;
};

// What comes on one attachment must be contiguous for each thread, beginning with the first answer.
// Subscription n follows the thread t(n % 4).
class StreamCheck {
 public:
  // Reads what there is; how many subscriptions have been answered by now.
  int Read(FakeAttachment& carrier) {
    while (auto said = carrier.Take()) {
      if (const auto* live = std::get_if<link::Live>(&*said)) {
        OnLive(*live);
      } else if (const auto& message = std::get<v1::ServiceMessage>(*said); message.has_started()) {
        OnStarted(message.started());
      }
    }
    return answered_;
  }

 private:
  void OnLive(const link::Live& live) {
    const auto found = at_.find(live.thread);
    ASSERT_TRUE(found != at_.end()) << "live before any answer";
    EXPECT_EQ(live.first, found->second.next());
    found->second = live.last();
  }
  void OnStarted(const v1::SubscriptionStarted& started) {
    ++answered_;
    EXPECT_FALSE(started.claim());
    const Offset last(started.last().offset());
    const auto [found, first] =
        at_.emplace(ThreadId(absl::StrCat("t", started.subscription_id() % 4)), last);
    EXPECT_EQ(found->second, last);
  }

  std::map<ThreadId, Offset> at_;
  int answered_ = 0;
};

// Two threads on which the log answers.
class LogThreads {
 public:
  explicit LogThreads(FakeLog* log) : log_(log) {
    for (std::thread& thread : threads_) {
      thread = std::thread([this] {
        while (!stop_) {
          if (!log_->Step()) std::this_thread::yield();
        }
      });
    }
  }
  // Everything is answered then.
  void Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    log_->RunAll();
  }

 private:
  FakeLog* const log_;
  std::atomic<bool> stop_ = false;
  std::array<std::thread, 2> threads_;
};

TEST(DeliveryStressTest, AttachSubscribeAppendWatchAndWaitFromManyThreads) {
  FakeLog log;
  ManualScheduler scheduler;
  auto delivery = Delivery::Create({.service_id = "s", .pages_at_once = 2, .page_threads = 1}, &log,
                                   &scheduler);
  for (int t = 0; t < 4; ++t) log.GiveTo(ThreadId(absl::StrCat("t", t)), UserId("ann"));
  log.RunAll();

  LogThreads engine(&log);
  std::vector<std::thread> workers;
  workers.reserve(4);
  for (int g = 0; g < 2; ++g) {
    workers.emplace_back([&, g] {
      for (int round = 0; round < 20; ++round) {
        TestGateway gateway(*delivery, absl::StrCat("g", g));
        const std::string connection = absl::StrCat("g", g, "-c");
        gateway.Open(connection, "ann");
        for (uint64_t id = 1; id <= 40; ++id) {
          gateway.Subscribe(connection, id, absl::StrCat("t", id % 4));
          gateway.Confirm(id);
          if (id % 3 == 0) gateway.Ack(id, PositionOf("e1", 1), 1);
        }
        StreamCheck check;
        while (check.Read(gateway.carrier()) < 40) std::this_thread::yield();
        gateway.Detach();
      }
    });
  }
  workers.emplace_back([&] {
    for (int i = 0; i < 800; ++i) {
      log.AppendText(ThreadId(absl::StrCat("t", i % 4)), UserId("ann"), absl::StrCat("event", i));
    }
  });
  auto watcher = std::make_shared<CountingWatcher>();
  std::atomic<int> answers = 0;
  workers.emplace_back([&] {
    for (int i = 0; i < 200; ++i) {
      auto watch = delivery->WatchConnections(UserId("ann"), ThreadId(), watcher);
      const auto wanted = i % 2 == 0 ? v1::READINESS_SUBSCRIBED : v1::READINESS_VERIFIED;
      auto waiting = delivery->AwaitReady(UserId("ann"), ThreadId(absl::StrCat("t", i % 4)), wanted,
                                          std::chrono::seconds(1),
                                          [&](const absl::StatusOr<ReadyState>&) { ++answers; });
      auto receipt = delivery->AwaitReceipt(
          ThreadId(absl::StrCat("t", i % 4)), {Epoch("e1"), Offset(static_cast<uint64_t>(i) + 1)},
          i % 2 == 0 ? v1::WAIT_FOR_SENT : v1::WAIT_FOR_ACKNOWLEDGED,
          std::chrono::milliseconds(300), [](v1::WaitOutcome) {});
      auto receipts = delivery->WatchReceipts(ThreadId(absl::StrCat("t", i % 4)),
                                              std::make_shared<ReceiptWatcherForNobody>());
      delivery->BindThread(UserId("ann"), ThreadId("t0"), std::chrono::seconds(1), [](auto) {});
      delivery->GetConnections(UserId("ann"), ThreadId(), true);
      delivery->GetConnections(UserId(), ThreadId("t1"), false);
      delivery->Subscriptions(ThreadId("t2"));
      v1::ReadPageRequest page;
      page.set_thread_id(absl::StrCat("t", i % 4));
      delivery->ReadPage(page, [](absl::StatusOr<link::Page>) {});
      delivery->Gateways();
      scheduler.Advance(std::chrono::milliseconds(100));
    }
  });
  for (std::thread& worker : workers) worker.join();
  engine.Stop();  // what is asked is answered: only then nothing needs to be followed
  delivery->Stop();
  log.RunAll();
  EXPECT_EQ(log.followed(), 0u);
  EXPECT_EQ(delivery->Subscriptions(ThreadId("t0")), 0u);
  EXPECT_LE(answers, 200);
}

// The same connections poll by two gateways, which take them from each other, while leases end.
TEST(DeliveryStressTest, PollsBeginEndAndAreTakenOverFromManyThreads) {
  FakeLog log;
  ManualScheduler scheduler;
  auto delivery = Delivery::Create({.service_id = "s", .resting_connections = 2}, &log, &scheduler);
  for (int t = 0; t < 3; ++t) log.GiveTo(ThreadId(absl::StrCat("t", t)), UserId("ann"));
  log.RunAll();
  LogThreads engine(&log);
  std::vector<std::thread> workers;
  workers.reserve(3);
  for (int g = 0; g < 2; ++g) {
    workers.emplace_back([&, g] {
      auto gateway = std::make_unique<TestGateway>(*delivery, absl::StrCat("g", g));
      uint64_t id = 0;
      for (int round = 0; round < 400; ++round) {
        const std::string connection = absl::StrCat("c", round % 3);
        gateway->Poll(connection, "ann");
        for (int t = 0; t < 4; ++t) {  // the last is a claim
          gateway->SubscribeAfter(connection, ++id, absl::StrCat("t", t), PositionOf("", 0));
          if (t % 2 == 0) gateway->Confirm(id);
          gateway->Ack(id, PositionOf("e1", 1), 0);
        }
        gateway->Heard();
        if (round % 5 != 0) gateway->Rest(connection, round % 3);
        if (round % 40 != 0) continue;
        gateway->Detach();
        gateway = std::make_unique<TestGateway>(*delivery, absl::StrCat("g", g));
      }
      gateway->Detach();
    });
  }
  workers.emplace_back([&] {
    for (int i = 0; i < 300; ++i) {
      log.AppendText(ThreadId(absl::StrCat("t", i % 3)), UserId("ann"), absl::StrCat("event", i));
      delivery->BindThread(UserId("ann"), ThreadId("t0"), std::chrono::seconds(1), [](auto) {});
      v1::AskRequest request;
      request.mutable_pass_frames()->set_connection_id(absl::StrCat("c", i % 3));
      request.mutable_pass_frames()->set_user_id("ann");
      request.mutable_pass_frames()->set_sequence(1);
      delivery->Ask(request, [](const absl::StatusOr<v1::AskResponse>&) {});
      v1::ReadPageRequest page;
      page.set_thread_id("t1");
      page.set_user_id("ann");
      page.set_before_offset(50);
      delivery->ReadPage(page, [](const absl::StatusOr<link::Page>&) {});
      delivery->GetConnections(UserId("ann"), ThreadId(), true);
      scheduler.Advance(std::chrono::milliseconds(100));
    }
  });
  for (std::thread& worker : workers) worker.join();
  scheduler.Advance(std::chrono::minutes(5));  // all leases end
  engine.Stop();  // what is asked is answered: only then nothing needs to be followed
  delivery->Stop();
  log.RunAll();
  EXPECT_EQ(log.followed(), 0u);
  EXPECT_EQ(delivery->Subscriptions(ThreadId("t0")), 0u);
}

TEST(DeliveryStressTest, ACancelledCallbackNeverBeginsAfterwards) {
  FakeLog log;
  ManualScheduler scheduler;
  auto delivery = Delivery::Create({.service_id = "s"}, &log, &scheduler);
  for (int i = 0; i < 500; ++i) {
    auto alive = std::make_unique<std::atomic<int>>(0);
    auto waiting = delivery->AwaitReady(
        UserId("ann"), ThreadId("t"), v1::READINESS_SUBSCRIBED, std::chrono::seconds(1),
        [raw = alive.get()](const absl::StatusOr<ReadyState>&) { ++*raw; });
    std::thread clock([&] { scheduler.Advance(std::chrono::seconds(1)); });
    waiting.reset();
    alive.reset();  // a callback from here on would touch freed memory
    clock.join();
  }
  delivery->Stop();
}

}  // namespace
}  // namespace clarion::delivery
