// Random threads, replayed compacted and in full from every position: whoever folds the events must
// come to the same.
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/manual_scheduler.h"
#include "proto/contract/event_json.h"
#include "service/delivery/delivery.h"
#include "service/delivery/fake_log.h"
#include "telemetry/log.h"

namespace clarion::delivery {
namespace {

const ThreadId kThread("t");

// One event as a client sees it.
struct Seen {
  uint64_t first = 0;
  uint64_t last = 0;
  v1::Event event;
};

// What a page shows: messages as far as they go without an interruption, and everything else in its
// place. An offset is taken of what is no delta.
std::vector<std::string> Fold(const std::vector<Seen>& events) {
  std::vector<std::string> shown;
  std::string open;  // the message that goes on
  for (const Seen& seen : events) {
    const v1::Event& e = seen.event;
    std::string key, text;
    bool is_final = false;
    if (e.has_agent_thinking()) {
      key = absl::StrCat("thinking ", e.run_id(), " ", e.agent_name(), " ",
                         e.agent_thinking().message_id(), ": ");
      text = e.agent_thinking().delta();
      is_final = e.agent_thinking().is_final();
    } else if (e.has_agent_message_delta()) {
      key = absl::StrCat("message ", e.run_id(), " ", e.agent_name(), " ",
                         e.agent_message_delta().message_id(), " ", e.agent_message_delta().role(),
                         ": ");
      text = e.agent_message_delta().delta();
      is_final = e.agent_message_delta().is_final();
    } else {
      shown.push_back(absl::StrCat(seen.last, " ", e.event_id(), " ", e.ShortDebugString()));
      open.clear();
      continue;
    }
    if (open != key) shown.push_back(key);
    shown.back() += text;
    if (is_final) absl::StrAppend(&shown.back(), " ended at ", seen.last, " by ", e.event_id());
    open = is_final ? "" : key;
  }
  return shown;
}

class Thread {
 public:
  explicit Thread(uint64_t seed) : random_(seed), log_(seed) {
    delivery_ = Delivery::Create({.service_id = "s"}, &log_, &scheduler_);
    for (int i = 0; i < 80; ++i) Publish();
    log_.RunAll();
  }
  ~Thread() {
    delivery_->Stop();
    log_.RunAll();
  }

  log::ThreadState State() { return log_.StateOf(kThread); }
  // Everything after `offset`, in pages of random size.
  std::vector<Seen> Replay(uint64_t offset, bool compact, bool json, uint64_t until = 0) {
    std::vector<Seen> seen;
    std::string epoch = State().end().epoch.str();
    const uint64_t end = until == 0 ? State().last.value() : until;
    while (offset < end) {
      const link::Page page = ReadPage(epoch, offset, compact, json, until);
      EXPECT_TRUE(page.missed.empty());
      EXPECT_FALSE(page.runs.empty());
      if (page.runs.empty()) return seen;
      size_t count = 0;
      for (const link::Live& run : page.runs) {
        EXPECT_EQ(run.first.value(), offset + 1);
        EXPECT_EQ(run.epoch.str(), EpochAt(run.first));
        for (const EventPtr& event : run.events) {
          seen.push_back({offset + 1, offset + event->offsets(), Decode(*event, json)});
          offset += event->offsets();
          ++count;
          EXPECT_TRUE(compact || event->offsets() == 1);
        }
        EXPECT_EQ(run.last().value(), offset);
        EXPECT_EQ(run.epoch.str(), EpochAt(run.last())) << "merged over the end of an epoch";
      }
      EXPECT_LE(count, most_events_);
    }
    EXPECT_EQ(offset, end);
    return seen;
  }

  // Everything older than `before`, from the newest page to the oldest.
  std::vector<Seen> ReplayBackwards(uint64_t before, bool compact, bool json) {
    std::vector<Seen> seen;
    while (before > 1) {
      const link::Page page = ReadPageBefore(before, compact, json);
      EXPECT_TRUE(page.missed.empty());
      EXPECT_FALSE(page.runs.empty());
      if (page.runs.empty()) return seen;
      std::vector<Seen> of_page;
      uint64_t next = page.runs.front().first.value();
      const uint64_t first = next;
      for (const link::Live& run : page.runs) {
        EXPECT_EQ(run.first.value(), next);
        EXPECT_EQ(run.epoch.str(), EpochAt(run.first));
        EXPECT_EQ(run.epoch.str(), EpochAt(run.last()));
        for (const EventPtr& event : run.events) {
          of_page.push_back({next, next + event->offsets() - 1, Decode(*event, json)});
          next += event->offsets();
        }
        EXPECT_EQ(run.last().next().value(), next);
      }
      EXPECT_EQ(next, before) << "it ends where the page asked for does";
      EXPECT_LE(of_page.size(), most_events_);
      seen.insert(seen.begin(), of_page.begin(), of_page.end());
      before = first;
    }
    return seen;
  }

 private:
  void Publish() {
    if (random_() % 20 == 0) {
      log_.NewEpoch(kThread);
      return;
    }
    v1::Event event;
    const std::string id = absl::StrCat("e", ++made_);
    event.set_event_id(id);
    event.set_user_id("u");
    event.set_thread_id(kThread.str());
    // What is written goes on for a while.
    if (random_() % 5 == 0) run_ = absl::StrCat("r", random_() % 3);
    if (random_() % 5 == 0) message_ = absl::StrCat("m\"", random_() % 2);
    event.set_run_id(run_);
    event.set_agent_name(absl::StrCat("agent of ", run_));
    event.mutable_accepted_at()->set_seconds(1'795'184'570 + made_);
    if (random_() % 3 == 0)
      event.mutable_trace_context()->set_traceparent(absl::StrCat("tp", made_));
    Fill(event);
    std::string json;
    EXPECT_TRUE(AppendEventJson(event, &json));
    log::AppendRequest request{.thread = kThread, .owner = UserId("u")};
    request.items.push_back(
        {.event_id = EventId(id),
         .event = std::make_shared<EncodedEvent>(json, event.SerializeAsString()),
         .run_id = RunId(run_)});
    log_.Append(std::move(request), [](absl::StatusOr<log::AppendResult>) {});
  }
  void Fill(v1::Event& event) {
    const std::string text = absl::StrCat("\"", made_, "\\\n");
    switch (random_() % 12) {
      case 0:
        event.mutable_agent_started();
        return;
      case 1:
        event.mutable_tool_progress()->set_tool_call_id("c");
        return;
      case 2:
        event.mutable_agent_error()->set_error_type("internal");
        event.mutable_agent_error()->mutable_failure();
        return;
      case 3:
      case 4:
        event.mutable_agent_thinking()->set_message_id(message_);
        event.mutable_agent_thinking()->set_delta(text);
        event.mutable_agent_thinking()->set_is_final(random_() % 8 == 0);
        return;
      default:
        event.mutable_agent_message_delta()->set_message_id(message_);
        event.mutable_agent_message_delta()->set_role(random_() % 20 == 0 ? "tool" : "assistant");
        event.mutable_agent_message_delta()->set_delta(text);
        event.mutable_agent_message_delta()->set_is_final(random_() % 8 == 0);
    }
  }

  link::Page ReadPage(const std::string& epoch, uint64_t offset, bool compact, bool json,
                      uint64_t until) {
    most_events_ = 1 + random_() % 20;
    v1::ReadPageRequest request;
    request.set_thread_id(kThread.str());
    request.mutable_after()->set_epoch(epoch);
    request.mutable_after()->set_offset(offset);
    request.set_until_offset(until);
    request.set_max_bytes(1 + static_cast<uint32_t>(random_() % 4'000));
    request.set_max_events(static_cast<uint32_t>(most_events_));
    request.set_want_json(json);
    request.set_want_proto(!json);
    request.set_compact(compact);
    return ReadPage(request);
  }
  link::Page ReadPageBefore(uint64_t before, bool compact, bool json) {
    most_events_ = 1 + random_() % 20;
    v1::ReadPageRequest request;
    request.set_thread_id(kThread.str());
    request.set_user_id("u");
    request.set_before_offset(before);
    request.set_max_bytes(1 + static_cast<uint32_t>(random_() % 4'000));
    request.set_max_events(static_cast<uint32_t>(most_events_));
    request.set_want_json(json);
    request.set_want_proto(!json);
    request.set_compact(compact);
    return ReadPage(request);
  }
  link::Page ReadPage(const v1::ReadPageRequest& request) {
    std::optional<absl::StatusOr<link::Page>> answer;
    delivery_->ReadPage(request,
                        [&](absl::StatusOr<link::Page> page) { answer = std::move(page); });
    for (int i = 0; i < 100 && !answer.has_value(); ++i) log_.RunReaders(kThread);
    EXPECT_TRUE(answer.has_value() && answer->ok());
    return answer.has_value() && answer->ok() ? **answer : link::Page();
  }
  static v1::Event Decode(const EncodedEvent& stored, bool json) {
    v1::Event event;
    if (json) {
      const auto read = EventFromJson(absl::StrCat("{\"offset\":1,", std::string(stored.json())));
      EXPECT_TRUE(read.ok()) << read.status();
      if (read.ok()) event = *read;
      event.clear_offset();
    } else {
      EXPECT_TRUE(event.ParseFromString(std::string(stored.proto())));
    }
    return event;
  }
  std::string EpochAt(Offset offset) {
    std::string epoch;
    for (const log::EpochRecord& record : State().epochs) {
      if (record.first <= offset) epoch = record.epoch.str();
    }
    return epoch;
  }

  std::mt19937_64 random_;
  ManualScheduler scheduler_;
  FakeLog log_;
  std::unique_ptr<Delivery> delivery_;
  int made_ = 0;
  size_t most_events_ = 0;
  std::string run_ = "r0";
  std::string message_ = "m0";
};

TEST(CompactionPropertyTest, ACompactedReplayFoldsToTheFullOneFromEveryPosition) {
  InitLog({.program = "test", .least = Severity::kError});
  size_t merged = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Thread thread(seed);
    const std::vector<Seen> full = thread.Replay(0, /*compact=*/false, /*json=*/true);
    ASSERT_EQ(full.size(), thread.State().last.value());
    for (uint64_t after = 0; after < full.size(); ++after) {
      SCOPED_TRACE(absl::StrCat("after ", after));
      const bool json = after % 2 == 0;
      const std::vector<Seen> compacted = thread.Replay(after, /*compact=*/true, json);
      ASSERT_EQ(Fold(compacted), Fold({full.begin() + static_cast<ptrdiff_t>(after), full.end()}));
      merged += full.size() - after - compacted.size();
    }
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(merged, 10'000u) << "this test tests nothing";
}

TEST(CompactionPropertyTest, PagesReadBackwardsFoldToTheFullReplayBeforeEveryOffset) {
  InitLog({.program = "test", .least = Severity::kError});
  size_t merged = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Thread thread(seed);
    const std::vector<Seen> full = thread.Replay(0, /*compact=*/false, /*json=*/true);
    for (uint64_t before = 1; before <= full.size() + 1; ++before) {
      SCOPED_TRACE(absl::StrCat("before ", before));
      const bool json = before % 2 == 0;
      const bool compact = before % 3 != 0;
      const std::vector<Seen> pages = thread.ReplayBackwards(before, compact, json);
      ASSERT_EQ(Fold(pages),
                Fold({full.begin(), full.begin() + static_cast<ptrdiff_t>(before) - 1}));
      if (compact) merged += before - 1 - pages.size();
    }
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(merged, 1'000u) << "this test tests nothing";
}

TEST(CompactionPropertyTest, APageThatEndsSomewhereHoldsNothingOfWhatIsBeyond) {
  InitLog({.program = "test", .least = Severity::kError});
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Thread thread(seed);
    const std::vector<Seen> full = thread.Replay(0, false, true);
    for (uint64_t until = 1; until <= full.size(); ++until) {
      const std::vector<Seen> compacted = thread.Replay(0, true, until % 2 == 0, until);
      ASSERT_EQ(Fold(compacted),
                Fold({full.begin(), full.begin() + static_cast<ptrdiff_t>(until)}));
    }
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace clarion::delivery
