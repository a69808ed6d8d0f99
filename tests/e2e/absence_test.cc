// Browsers that were away for very long: what it takes until they are current.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/support/browser.h"
#include "tests/e2e/support/crowd.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"

namespace clarion::testing {
namespace {

using std::chrono::seconds;

constexpr int kEvents = 100'000;
// Half of them deltas of messages, so many to a message; the others stand between messages.
constexpr int kMessage = 40;
constexpr size_t kMiB = 1024 * 1024;

v1::Event Progress(const std::string& thread, int number) {
  v1::Event event = Thinking("ada", thread, "e" + std::to_string(number));
  event.mutable_tool_progress()->set_tool_call_id("call");
  event.mutable_tool_progress()->set_progress(number);
  return event;
}

std::vector<v1::Event> HalfCompactable(const std::string& thread) {
  std::vector<v1::Event> events;
  events.reserve(kEvents);
  for (int i = 0; i < kEvents; ++i) {
    const int place = i % (2 * kMessage);
    if (place >= kMessage) {
      events.push_back(Progress(thread, i));
      continue;
    }
    events.push_back(Thinking("ada", thread, "e" + std::to_string(i), "and a few words "));
    events.back().mutable_agent_thinking()->set_message_id("m" + std::to_string(i / kMessage));
    events.back().mutable_agent_thinking()->set_is_final(place == kMessage - 1);
  }
  return events;
}

// Asks the programs again and again what they hold; the most of each.
class Watch {
 public:
  explicit Watch(Deployment& deployment)
      : thread_([this, &deployment] {
          while (!stop_) {
            const auto most = [](double& so_far, double now) { so_far = std::max(so_far, now); };
            most(queued_, MetricValue(deployment.gateway_admin_port(), "clarion_queued_bytes"));
            most(pages_, MetricValue(deployment.service_admin_port(), "clarion_pages_under_way"));
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
          }
        }) {}
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  ~Watch() { Stop(); }
  // After Stop().
  size_t queued() const { return static_cast<size_t>(queued_); }
  double pages() const { return pages_; }

 private:
  std::atomic<bool> stop_{false};
  double queued_ = 0;
  double pages_ = 0;
  std::thread thread_;
};

class AbsenceTest : public ::testing::TestWithParam<Form> {
 protected:
  CrowdMember Member(const Deployment& deployment) {
    return {.token = deployment.Token("ada"), .thread = "t"};
  }
  double Pages(const Deployment& deployment) {
    return MetricValue(deployment.gateway_admin_port(), "clarion_replay_pages_total");
  }
};

TEST_P(AbsenceTest, ABrowserAbsentForAHundredThousandEventsIsCurrentInFewPages) {
  Deployment deployment(GetParam());
  deployment.Start();
  BulkPublisher(deployment).Publish(HalfCompactable("t"));
  for (const char* history : {"compacted", "full"}) {
    const double pages_before = Pages(deployment);
    Crowd crowd(deployment.stream_port());
    Watch watch(deployment);
    CrowdMember member = Member(deployment);
    member.history = history;
    const auto begin = std::chrono::steady_clock::now();
    crowd.Join({member});
    ASSERT_TRUE(crowd.WaitForOffset(kEvents, seconds(60))) << crowd.fault();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    watch.Stop();
    const double pages = Pages(deployment) - pages_before;
    std::printf(
        "[ FIGURE   ] %s, %s: current after %d events in %.3f s, %.0f pages, %llu frames, %.1f "
        "MiB\n",
        NameOf(GetParam()).c_str(), history, kEvents, took.count(), pages,
        static_cast<unsigned long long>(crowd.frames()), static_cast<double>(crowd.bytes()) / kMiB);
    EXPECT_LE(watch.queued(), 1 * kMiB);
    EXPECT_LE(watch.pages(), 2) << "one, and one whose answer is being handed over";
    if (history == std::string("full")) {
      EXPECT_EQ(crowd.frames(), static_cast<uint64_t>(kEvents));
      continue;
    }
    EXPECT_LE(pages, 100);
    // Each message once, and once more where a page ends in its midst.
    EXPECT_LE(crowd.frames(), kEvents / 2 + kEvents / 2 / kMessage + static_cast<uint64_t>(pages));
  }
}

// What browsers see is the same, whatever travels.
TEST_P(AbsenceTest, ACompactedReplayJoinsLiveEventsWithoutGapOrRepeat) {
  Deployment deployment(GetParam());
  deployment.Start();
  BulkPublisher publisher(deployment);
  std::vector<v1::Event> events = HalfCompactable("t");
  events.resize(20'000);
  publisher.Publish({events.begin(), events.begin() + 10'000});
  Browsers browsers;
  std::vector<size_t> opened;
  for (const char* history : {"compacted", "full"}) {
    BrowserOptions options;
    options.port = deployment.stream_port();
    options.token = [&] { return deployment.Token("ada"); };
    options.threads = {"t"};
    options.history = history;
    opened.push_back(browsers.Open(std::move(options)));
  }
  publisher.Publish({events.begin() + 10'000, events.end()});
  std::vector<std::string> texts;
  for (const size_t browser : opened) {
    ASSERT_TRUE(browsers.WaitForOffset(browser, "t", events.size()));
    const ThreadView view = browsers.View(browser, "t");
    EXPECT_EQ(view.fault, "");
    std::string& text = texts.emplace_back();
    for (const ThreadView::Seen& seen : view.events) {
      text += seen.type == "agent_thinking" ? seen.delta : "[" + seen.event_id + "]";
    }
  }
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_LT(browsers.View(opened[0], "t").events.size(), events.size());
}

INSTANTIATE_TEST_SUITE_P(Forms, AbsenceTest,
                         ::testing::Values(Form::kOneProcess, Form::kTwoProcesses),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace clarion::testing
