// Delivery over the real embedded log: gateways that come and go, and lag, while producers publish.
#include <atomic>
#include <filesystem>
#include <future>
#include <random>
#include <thread>

#include "service/delivery/delivery_fixture.h"
#include "service/log/embedded_log.h"
#include "telemetry/runtime/thread_scheduler.h"

namespace clarion::delivery {
namespace {

constexpr int kThreads = 4;
constexpr int kEvents = 500;

ThreadId ThreadOf(int n) {
  return ThreadId(absl::StrCat("t", n));
}

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "delivery-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A browser behind a gateway: reads every thread from its start, attaches anew now and then.
class Reader {
 public:
  Reader(Delivery& delivery, std::string id, uint64_t seed)
      : delivery_(delivery), id_(std::move(id)), random_(seed) {
    Attach();
  }

  // Until it has every event of every thread.
  void ReadAll() {
    while (!complete()) {
      auto said = gateway_->carrier().Take();
      if (!said.has_value()) {
        std::this_thread::yield();
        continue;
      }
      TakeIn(*said);
      if (random_() % 200 == 0) Attach();
      gateway_->carrier().set_live_room(random_() % 8 == 0 ? 0 : 100);
    }
  }
  const std::vector<std::string>& texts(int n) const { return texts_[n]; }

 private:
  bool complete() const {
    for (int n = 0; n < kThreads; ++n) {
      if (texts_[n].size() < kEvents) return false;
    }
    return true;
  }

  void Attach() {
    gateway_ = std::make_unique<TestGateway>(delivery_, id_);
    gateway_->Open(id_ + "-c", "ann");
    for (int n = 0; n < kThreads; ++n) {
      gateway_->SubscribeAfter(id_ + "-c", static_cast<uint64_t>(n) + 1, ThreadOf(n).str(), At(n),
                               /*restored=*/epochs_[n] != "");
    }
  }
  v1::Position At(int n) const { return PositionOf(epochs_[n], texts_[n].size()); }

  void TakeIn(const link::ToGateway& said) {
    if (const auto* live = std::get_if<link::Live>(&said)) {
      return Add(std::stoi(live->thread.str().substr(1)), *live);
    }
    const auto& message = std::get<v1::ServiceMessage>(said);
    if (message.has_started()) {
      if (message.started().claim()) return;
      const int n = static_cast<int>(message.started().subscription_id()) - 1;
      EXPECT_EQ(message.started().from_offset(), texts_[n].size() + 1);
      Pull(n, message.started().last().offset());
    } else if (message.has_lagging()) {
      const int n = std::stoi(message.lagging().thread_id().substr(1));
      gateway_->carrier().set_live_room(100);
      Pull(n, 0);
      gateway_->Follow(ThreadOf(n).str(), At(n));
    }
  }

  // To `until`, or to the end of the log.
  void Pull(int n, uint64_t until) {
    for (;;) {
      v1::ReadPageRequest request;
      request.set_thread_id(ThreadOf(n).str());
      *request.mutable_after() = At(n);
      request.set_until_offset(until);
      request.set_max_bytes(100);
      std::promise<absl::StatusOr<link::Page>> promise;
      delivery_.ReadPage(
          request, [&](absl::StatusOr<link::Page> page) { promise.set_value(std::move(page)); });
      const absl::StatusOr<link::Page> page = promise.get_future().get();
      ASSERT_TRUE(page.ok()) << page.status();
      EXPECT_TRUE(page->missed.empty());
      for (const link::Live& run : page->runs) Add(n, run);
      if (page->runs.empty()) return;
    }
  }

  // What it has already, a page was faster than: no repeat. A gap fails.
  void Add(int n, const link::Live& run) {
    ASSERT_LE(run.first.value(), texts_[n].size() + 1) << "gap in t" << n;
    for (uint64_t o = texts_[n].size() + 1; o <= run.last().value(); ++o) {
      texts_[n].emplace_back(run.events[o - run.first.value()]->json());
    }
    epochs_[n] = run.epoch.str();
  }

  Delivery& delivery_;
  const std::string id_;
  std::mt19937_64 random_;
  std::unique_ptr<TestGateway> gateway_;
  std::vector<std::string> texts_[kThreads];
  std::string epochs_[kThreads];
};

TEST(DeliveryEmbeddedTest, EveryReaderHasEveryEventInOrder) {
  const Folder folder;
  const auto scheduler = MakeThreadScheduler();
  log::EmbeddedOptions options;
  options.path = folder.path() + "/log";
  options.scheduler = scheduler.get();
  options.tail_events = 16;  // so that pages come from the disk too
  options.tail_bytes = 4000;
  options.chunk_bytes = 1000;
  auto log = log::OpenEmbeddedLog(options);
  ASSERT_TRUE(log.ok()) << log.status();
  auto delivery = Delivery::Create({.service_id = "s", .pages_at_once = 2, .page_threads = 1},
                                   log->get(), scheduler.get());

  std::vector<std::thread> producers;
  producers.reserve(2);
  for (int p = 0; p < 2; ++p) {
    producers.emplace_back([&, p] {
      for (int i = 0; i < kEvents; ++i) {
        for (int n = p; n < kThreads; n += 2) {
          const std::string text = absl::StrCat("event ", i);
          log::AppendRequest request{.thread = ThreadOf(n), .owner = UserId("ann")};
          request.items.push_back({.event_id = EventId(absl::StrCat("e", i)),
                                   .content = log::Digest::Of(text),
                                   .event = std::make_shared<EncodedEvent>(text, ""),
                                   .run_id = RunId("r")});
          std::promise<bool> appended;
          (*log)->Append(request, [&](absl::StatusOr<log::AppendResult> result) {
            appended.set_value(result.ok() &&
                               result->items[0].outcome == log::AppendOutcome::kAppended);
          });
          EXPECT_TRUE(appended.get_future().get());
        }
      }
    });
  }
  std::vector<std::unique_ptr<Reader>> readers;
  readers.reserve(2);
  for (int r = 0; r < 2; ++r) {
    readers.push_back(std::make_unique<Reader>(*delivery, absl::StrCat("g", r), r));
  }
  std::vector<std::thread> reading;
  reading.reserve(readers.size());
  for (auto& reader : readers) reading.emplace_back([&reader] { reader->ReadAll(); });
  for (std::thread& thread : producers) thread.join();
  for (std::thread& thread : reading) thread.join();
  delivery->Stop();
  (*log)->Close();
  for (auto& reader : readers) {
    for (int n = 0; n < kThreads; ++n) {
      ASSERT_EQ(reader->texts(n).size(), static_cast<size_t>(kEvents));
      for (int i = 0; i < kEvents; ++i) {
        ASSERT_EQ(reader->texts(n)[static_cast<size_t>(i)], absl::StrCat("event ", i));
      }
    }
  }
}

}  // namespace
}  // namespace clarion::delivery
