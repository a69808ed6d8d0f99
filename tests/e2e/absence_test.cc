// Browsers that were away for very long: what it takes until they are current.
#include <algorithm>
#include <chrono>
#include <cstdio>

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

// What the programs hold: bytes that wait for browsers, and pages under way.
class HeldWatch : public MetricWatch {
 public:
  explicit HeldWatch(const Deployment& deployment)
      : MetricWatch({{deployment.gateway_admin_port(), "clarion_queued_bytes"},
                     {deployment.service_admin_port(), "clarion_pages_under_way"}}) {}
  size_t queued() const { return static_cast<size_t>(most(0)); }
  double pages() const { return most(1); }
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
    HeldWatch watch(deployment);
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

TEST_P(AbsenceTest, FiveHundredThatReturnAtOnceAreServedInBoundedMemory) {
  constexpr int kBrowsers = 500;
  constexpr size_t kQueuedTotal = 64 * kMiB;
  Deployment deployment(GetParam(), {"--max-pages", "8"},
                        {"--max-connections-per-user", "1000", "--max-queued-bytes-total",
                         std::to_string(kQueuedTotal)});
  deployment.Start();
  BulkPublisher(deployment).Publish(HalfCompactable("t"));
  const size_t service_before = deployment.service().resident();
  const size_t gateway_before = deployment.gateway().resident();
  Crowd crowd(deployment.stream_port());
  HeldWatch watch(deployment);
  crowd.Join(std::vector<CrowdMember>(kBrowsers, Member(deployment)));
  // Commits go on meanwhile: one after the other, each answered.
  std::vector<double> answers;
  BulkPublisher publisher(deployment);
  for (int i = 0; i < 200; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    publisher.Publish({Thinking("ada", "other", "o" + std::to_string(i))});
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    answers.push_back(took.count());
  }
  std::sort(answers.begin(), answers.end());
  std::printf(
      "[ FIGURE   ] %s: publishing meanwhile, answered after %.1f ms (median), %.1f ms (p99)\n",
      NameOf(GetParam()).c_str(), answers[100], answers[198]);
  // By then every queue has been as full as it gets.
  ASSERT_TRUE(crowd.WaitForOffset(kEvents / 10, seconds(300))) << crowd.fault();
  watch.Stop();
  const size_t service = deployment.service().most_resident() - service_before;
  const size_t gateway = deployment.gateway().most_resident() - gateway_before;
  std::printf(
      "[ FIGURE   ] %s: %d at once: service +%zu MiB, gateway +%zu MiB, queues at most %.1f MiB, "
      "pages at most %.0f\n",
      NameOf(GetParam()).c_str(), kBrowsers, service / kMiB, gateway / kMiB,
      static_cast<double>(watch.queued()) / kMiB, watch.pages());
  EXPECT_LE(watch.pages(), 8);
  // A page for each that had nothing waiting when it was asked for may come on top of it.
  EXPECT_LE(watch.queued(), kQueuedTotal + 16 * kMiB);
  EXPECT_LE(service, 128 * kMiB);
  EXPECT_LE(gateway, 128 * kMiB);
  EXPECT_EQ(crowd.closed(), 0u);
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
