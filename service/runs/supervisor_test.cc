// Leases, with a clock that is turned by hand and a real log.
#include "service/runs/supervisor.h"

#include <map>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/contract/json_text.h"
#include "service/runs/run_protocol.h"
#include "service/runs/start_run.h"
#include "tests/contract/log_embedded_testing.h"

namespace clarion::runs {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class SupervisorTest : public testing::Test {
 protected:
  SupervisorTest() : log_(Options()), intake_({}, nullptr, &log_.clock()) { Supervise(); }
  ~SupervisorTest() override { Leave(); }

  static log::EmbeddedOptions Options() { return {}; }
  void Supervise() {
    supervisor_ = Supervisor::Create({.lease = seconds(10)}, {log_.log(), &intake_, 4096},
                                     &log_.clock(), &gate_);
    log_.log()->WatchRuns(supervisor_.get());
    supervisor_->Start();
    gate_.WaitUntilEmpty();
  }
  void Leave() {
    supervisor_->Stop();
    gate_.WaitUntilEmpty();
    log_.log()->WatchRuns(nullptr);
    supervisor_.reset();
  }
  // As after `kill -9` and a start.
  void Restart() {
    Leave();
    log_.Reopen();
    Supervise();
  }
  // In steps, each of which the log has time to answer.
  void Pass(milliseconds time) {
    constexpr milliseconds kStep{100};
    for (milliseconds passed{0}; passed < time; passed += kStep) {
      log_.clock().Advance(std::min(kStep, time - passed));
      gate_.WaitUntilEmpty();
    }
  }

  v1::Event Event(const std::string& run = "r") {
    v1::Event event;
    event.set_event_id("e" + std::to_string(++made_));
    event.set_user_id("ada");
    event.set_thread_id("t");
    event.set_run_id(run);
    event.set_agent_name("agent");
    return event;
  }
  log::AppendOutcome Say(v1::Event event, const log::Digest& fence = {}, milliseconds lease = {}) {
    auto item = intake_.MakeItem(&event, {});
    item->fence = fence;
    if (lease.count() > 0)
      item->run_data = EncodeRunFacts({.producer_token = std::string(32, 'a'), .lease = lease});
    log::AppendRequest request;
    request.thread = ThreadId("t");
    request.owner = UserId("ada");
    request.items.push_back(*std::move(item));
    request.run_rules = log::RunRules::kStrict;
    auto result = log::Await<log::AppendResult>([&](log::Log::Callback<log::AppendResult> done) {
      log_.log()->Append(std::move(request), std::move(done));
    });
    return result->items.front().outcome;
  }
  void Begin(const std::string& run = "r", const std::string& parent = "",
             milliseconds lease = {}) {
    v1::Event event = Event(run);
    event.mutable_agent_started();
    if (!parent.empty()) event.mutable_agent_started()->set_parent_run_id(parent);
    ASSERT_EQ(Say(event, {}, lease), log::AppendOutcome::kAppended);
  }
  log::AppendOutcome Text(const std::string& text, const std::string& run = "r",
                          const log::Digest& fence = {}) {
    v1::Event event = Event(run);
    v1::AgentMessageDelta& delta = *event.mutable_agent_message_delta();
    delta.set_message_id("m");
    delta.set_role("assistant");
    delta.set_delta(text);
    return Say(event, fence);
  }
  log::AppendOutcome Complete(v1::RunOutcome outcome, const std::string& run = "r",
                              int64_t expires_at = 0) {
    v1::Event event = Event(run);
    event.mutable_agent_completed()->set_outcome(outcome);
    if (outcome == v1::RUN_OUTCOME_INTERRUPTED) {
      v1::Interrupt& interrupt = *event.mutable_agent_completed()->add_interrupts();
      interrupt.set_id("i");
      if (expires_at != 0) interrupt.mutable_expires_at()->set_seconds(expires_at);
    }
    return Say(event);
  }
  bool Renew(const std::string& run = "r") {
    return supervisor_->Renew(ThreadId("t"), *log::LogClient(log_.log()).Run("t", run)).has_value();
  }
  int64_t WallSeconds() {
    return std::chrono::duration_cast<seconds>(log_.clock().wall_now().time_since_epoch()).count();
  }
  std::vector<v1::Event> Events() {
    std::vector<v1::Event> events;
    const auto page = log::LogClient(log_.log()).Read({.thread = ThreadId("t"), .from = Offset(1)});
    for (const log::EventRun& run : page->runs) {
      for (const EventPtr& stored : run.events) {
        events.emplace_back().ParseFromString(std::string(stored->proto()));
      }
    }
    return events;
  }
  // "run type", of what the service appended.
  std::vector<std::string> Ended() {
    std::vector<std::string> types;
    for (const v1::Event& event : Events()) {
      if (event.event_id()[0] != '_') continue;
      types.push_back(
          event.run_id() + " " +
          std::string(v1::Event::descriptor()->FindFieldByNumber(event.payload_case())->name()));
    }
    return types;
  }
  static std::vector<std::string> Lost(const std::string& run) {
    return {run + " partial_result_preserved", run + " agent_error", run + " resource_cleanup"};
  }

  log::EmbeddedUnderTest log_;
  Intake intake_;
  Gate gate_;
  std::shared_ptr<Supervisor> supervisor_;
  int made_ = 0;
};

TEST_F(SupervisorTest, ARunThatFallsSilentIsEndedWithWhatItHadProduced) {
  Begin();
  Text("Hello ");
  v1::Event tool = Event();
  tool.mutable_tool_executing()->set_tool_call_id("c");
  tool.mutable_tool_executing()->set_tool_name("search");
  tool.mutable_tool_executing()->set_arguments("{}");
  Say(tool);
  Pass(seconds(3));
  Text("you");
  Pass(milliseconds(9'900));
  EXPECT_THAT(Ended(), IsEmpty());
  Pass(milliseconds(200));
  ASSERT_EQ(Ended(), Lost("r"));
  const std::vector<v1::Event> events = Events();
  const v1::PartialResultPreserved& preserved = events[4].partial_result_preserved();
  EXPECT_EQ(
      preserved.result(),
      R"({"tools":[],"messages":[{"message_id":"m","role":"assistant","text":"Hello you"}],"truncated":false})");
  EXPECT_EQ(preserved.from_offset(), 1u);
  EXPECT_EQ(preserved.to_offset(), 4u);
  EXPECT_EQ(events[5].agent_error().error_type(), "agent_lost");
  EXPECT_TRUE(events[5].agent_error().synthetic());
  EXPECT_THAT(events[5].agent_error().failure().suggested_action(), HasSubstr("Try again"));
  EXPECT_THAT(events[6].resource_cleanup().resources(),
              ElementsAre("run lease", "tool call search"));
  EXPECT_EQ(supervisor_->size(), 0u);
  Pass(seconds(60));
  EXPECT_EQ(Ended().size(), 3u);
}

TEST_F(SupervisorTest, ARevivedProducerIsFenced) {
  const log::Digest fence = log::Digest::Of("token");
  v1::Event start = Event();
  start.mutable_agent_started();
  Say(start, fence);
  EXPECT_EQ(Text("a", "r", fence), log::AppendOutcome::kAppended);
  Pass(seconds(11));
  EXPECT_EQ(Text("b", "r", fence), log::AppendOutcome::kFenced);
  EXPECT_EQ(Text("b"), log::AppendOutcome::kRunProtocol)
      << "one that has no token hears that it ended";
}

TEST_F(SupervisorTest, RenewalKeepsAQuietRun) {
  Begin();
  for (int n = 0; n < 10; ++n) {
    Pass(seconds(8));
    EXPECT_TRUE(Renew());
  }
  EXPECT_THAT(Ended(), IsEmpty());
  Pass(milliseconds(10'100));
  EXPECT_EQ(Ended(), Lost("r"));
}

TEST_F(SupervisorTest, ARunHasTheLeaseItWasStartedWith) {
  Begin("long", "", seconds(60));
  Begin("short", "", seconds(2));
  Pass(milliseconds(2'100));
  EXPECT_EQ(Ended(), Lost("short"));
  Restart();
  Pass(seconds(59));
  EXPECT_EQ(Ended().size(), 3u);
  Pass(seconds(2));
  EXPECT_EQ(Ended().size(), 6u);
}

TEST_F(SupervisorTest, AfterAStartEveryLeaseBeginsInFull) {
  Begin("r");
  Begin("q");
  Complete(v1::RUN_OUTCOME_SUCCESS, "q");
  Pass(seconds(9));
  Restart();
  EXPECT_EQ(supervisor_->size(), 1u);
  Pass(milliseconds(9'900));
  EXPECT_THAT(Ended(), IsEmpty());
  Pass(milliseconds(200));
  EXPECT_EQ(Ended(), Lost("r"));
  Restart();
  Pass(seconds(30));
  EXPECT_EQ(Ended().size(), 3u) << "never two ends";
}

TEST_F(SupervisorTest, ARunThatWaitsForSomebodyHasNoLease) {
  Begin("forever");
  Begin("until");
  Complete(v1::RUN_OUTCOME_INTERRUPTED, "forever");
  Complete(v1::RUN_OUTCOME_INTERRUPTED, "until", WallSeconds() + 60);
  Pass(seconds(59));
  Restart();
  EXPECT_THAT(Ended(), IsEmpty());
  Pass(seconds(10));
  EXPECT_THAT(Ended(), IsEmpty()) << "its interrupts expired, and a lease began";
  Pass(seconds(2));
  EXPECT_EQ(Ended(), Lost("until"));
  Pass(seconds(1'000));
  Text("on", "forever");
  Pass(milliseconds(9'900));
  EXPECT_EQ(Ended().size(), 3u);
  Pass(milliseconds(200));
  EXPECT_EQ(Ended().size(), 6u) << "it went on, and fell silent";
}

TEST_F(SupervisorTest, AParentsEndEndsItsChildren) {
  Begin("parent");
  Begin("child", "parent");
  Begin("grandchild", "child");
  Complete(v1::RUN_OUTCOME_SUCCESS, "parent");
  Pass(milliseconds(500));
  EXPECT_THAT(Ended(), ElementsAre("child agent_completed", "grandchild agent_completed"));
  EXPECT_EQ(Events()[4].agent_completed().outcome(), v1::RUN_OUTCOME_CANCELLED);
  EXPECT_EQ(supervisor_->size(), 0u);
}

TEST_F(SupervisorTest, AlsoIfTheServiceWasKilledBetweenTheTwo) {
  Begin("parent");
  Begin("child", "parent");
  Begin("orphan", "unknown");
  supervisor_->Stop();
  Complete(v1::RUN_OUTCOME_SUCCESS, "parent");
  Restart();
  Pass(milliseconds(500));
  EXPECT_THAT(Ended(), ElementsAre("child agent_completed"));
  Pass(seconds(11));
  EXPECT_EQ(Ended().size(), 4u) << "a parent that nobody knows ends nothing";
}

TEST_F(SupervisorTest, WhatIsTooLongIsCutAndSaidSo) {
  Begin();
  for (int n = 0; n < 100; ++n) Text(std::string(100, 'x') + "\n");
  Pass(milliseconds(10'100));
  const v1::Event preserved = Events()[101];
  ASSERT_TRUE(preserved.has_partial_result_preserved());
  const std::string& json = preserved.partial_result_preserved().result();
  EXPECT_LE(json.size(), 4096u);
  EXPECT_GE(json.size(), 3000u);
  EXPECT_THAT(json, HasSubstr(R"("truncated":true)"));
  EXPECT_TRUE(ValidJsonText(json, kMaxJsonDepth));
}

// Random lives against what the leases are to be.
TEST_F(SupervisorTest, RandomRunsEndWhenTheirLeaseIsOverAndOnlyThen) {
  struct Reference {
    milliseconds heard{0};
    bool open = true;
    bool forever = false;
    milliseconds until{0};  // suspended
  };
  std::mt19937_64 random(20261123);
  std::map<std::string, Reference> runs;
  milliseconds now{0};
  const milliseconds lease = seconds(10);
  int started = 0;
  for (int step = 0; step < 3'000; ++step) {
    const auto any_open = [&]() -> Reference* {
      for (auto& [name, run] : runs) {
        if (run.open && random() % 2 == 0) return &run;
      }
      return nullptr;
    };
    const auto name_of = [&](const Reference* wanted) {
      for (auto& [name, run] : runs) {
        if (&run == wanted) return name;
      }
      return std::string();
    };
    const size_t open = static_cast<size_t>(
        std::count_if(runs.begin(), runs.end(), [](const auto& run) { return run.second.open; }));
    Reference* const run = any_open();
    switch (random() % 9) {
      case 0:
        if (open >= 3) break;
        Begin("r" + std::to_string(++started));
        runs["r" + std::to_string(started)] = {.heard = now};
        break;
      case 1:
      case 2:
        if (run == nullptr) break;
        ASSERT_EQ(Text("x", name_of(run)), log::AppendOutcome::kAppended) << "step " << step;
        *run = {.heard = now};
        break;
      case 3:
        if (run == nullptr) break;
        ASSERT_TRUE(Renew(name_of(run)));
        run->heard = now;
        break;
      case 4:
        if (run == nullptr || random() % 2 == 0) break;
        Complete(v1::RUN_OUTCOME_SUCCESS, name_of(run));
        run->open = false;
        break;
      case 5: {
        if (run == nullptr || random() % 3 != 0) break;
        const bool forever = random() % 2 == 0;
        const int64_t expires = WallSeconds() + 5 + static_cast<int64_t>(random() % 20);
        Complete(v1::RUN_OUTCOME_INTERRUPTED, name_of(run), forever ? 0 : expires);
        run->heard = now;
        run->forever = forever;
        run->until = forever ? milliseconds(0) : now + seconds(expires - WallSeconds());
        break;
      }
      case 6:
        if (random() % 10 != 0) break;
        Restart();
        for (auto& [name, other] : runs) other.heard = std::max(other.heard, now);
        break;
      default: {
        const milliseconds by = seconds(1 + random() % 5);
        Pass(by + milliseconds(200));
        now += by + milliseconds(200);
        std::vector<std::string> lost;
        for (auto& [name, other] : runs) {
          if (!other.open || other.forever) continue;
          const milliseconds over = now - (std::max(other.heard, other.until) + lease);
          // Just about: either may be.
          if (std::abs(over.count()) <= 200) {
            other.open = log::LogClient(log_.log()).Run("t", name)->end == Offset{};
            continue;
          }
          if (over.count() > 0) other.open = false;
        }
        for (const auto& [name, other] : runs) {
          const auto kept = log::LogClient(log_.log()).Run("t", name);
          if (!kept) continue;
          ASSERT_EQ(kept->end == Offset{}, other.open) << name << " in step " << step;
        }
        if (runs.size() > 40) {
          std::erase_if(runs, [](const auto& entry) { return !entry.second.open; });
        }
      }
    }
  }
}

}  // namespace
}  // namespace clarion::runs
