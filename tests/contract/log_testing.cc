#include "tests/contract/log_testing.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace clarion::log {

std::string TextOf(std::string_view id) {
  return absl::StrCat("text of ", absl::string_view(id.data(), id.size()));
}

AppendItem Item(std::string_view id, const ItemOptions& options) {
  AppendItem item;
  const std::string text = options.text.empty() ? TextOf(id) : options.text;
  item.event_id = EventId(id);
  item.content = Digest::Of(options.run + "/" + text);
  item.event = std::make_shared<EncodedEvent>(text, text);
  item.run_id = RunId(options.run);
  item.run_step = options.effect;
  item.agent_name = "agent";
  item.run_data = options.run_data;
  item.fence = options.fence;
  item.critical = options.critical;
  return item;
}

AppendItem Critical(std::string_view id) {
  return Item(id, {.critical = true});
}
AppendItem Start(std::string_view id, std::string_view run, std::string_view data) {
  return Item(id,
              {.effect = RunStep::kStart, .run = std::string(run), .run_data = std::string(data)});
}
AppendItem End(std::string_view id, std::string_view run) {
  return Item(id, {.critical = true, .effect = RunStep::kStop, .run = std::string(run)});
}

std::vector<AppendItem> Items(std::initializer_list<std::string_view> ids) {
  std::vector<AppendItem> items;
  for (const std::string_view id : ids) items.push_back(Item(id));
  return items;
}

absl::StatusOr<AppendResult> LogClient::Append(std::string_view thread, std::string_view owner,
                                               std::vector<AppendItem> items,
                                               bool stop_at_refusal) {
  return Await<AppendResult>([&](Log::Callback<AppendResult> done) {
    log_->Append({ThreadId(thread), UserId(owner), std::move(items), stop_at_refusal},
                 std::move(done));
  });
}

uint64_t LogClient::Add(std::string_view thread, std::string_view owner,
                        std::initializer_list<std::string_view> ids) {
  const absl::StatusOr<AppendResult> result = Append(thread, owner, Items(ids));
  if (!result.ok()) {
    ADD_FAILURE() << result.status();
    return 0;
  }
  for (const AppendedItem& item : result->items) {
    EXPECT_EQ(item.outcome, AppendOutcome::kAppended);
  }
  return result->items.back().offset.value();
}

absl::StatusOr<ReadResult> LogClient::Read(ReadRequest request) {
  return Await<ReadResult>(
      [&](Log::Callback<ReadResult> done) { log_->Read(std::move(request), std::move(done)); });
}

std::vector<std::string> LogClient::ReadAll(std::string_view thread, uint64_t from,
                                            size_t page_events) {
  std::vector<std::string> all;
  for (Offset next(from);;) {
    const absl::StatusOr<ReadResult> page =
        Read({.thread = ThreadId(thread), .from = next, .max_events = page_events});
    if (!page.ok()) {
      ADD_FAILURE() << page.status();
      return all;
    }
    if (page->runs.empty()) return all;
    for (std::string& text : Texts(page->runs)) all.push_back(std::move(text));
    next = page->runs.back().last().next();
  }
}

ThreadState LogClient::State(std::string_view thread) {
  absl::StatusOr<ThreadState> state = Await<ThreadState>(
      [&](Log::Callback<ThreadState> done) { log_->GetState(ThreadId(thread), std::move(done)); });
  EXPECT_TRUE(state.ok()) << state.status();
  return state.ok() ? *std::move(state) : ThreadState{};
}

std::optional<RunRecord> LogClient::Run(std::string_view thread, std::string_view run) {
  const absl::StatusOr<ThreadState> state =
      Await<ThreadState>([&](Log::Callback<ThreadState> done) {
        log_->FindRun(ThreadId(thread), RunId(run), std::move(done));
      });
  EXPECT_TRUE(state.ok()) << state.status();
  if (!state.ok() || state->runs.empty()) return std::nullopt;
  EXPECT_EQ(state->runs.size(), 1u);
  EXPECT_EQ(state->runs[0].run_id, RunId(run));
  return state->runs[0];
}

std::vector<std::string> LogClient::LastRuns(std::string_view thread, size_t count) {
  const absl::StatusOr<ThreadState> state =
      Await<ThreadState>([&](Log::Callback<ThreadState> done) {
        log_->LastRuns(ThreadId(thread), count, std::move(done));
      });
  EXPECT_TRUE(state.ok()) << state.status();
  std::vector<std::string> ids;
  if (!state.ok()) return ids;
  for (const RunRecord& run : state->runs) ids.push_back(run.run_id.str());
  return ids;
}

absl::StatusOr<FoundEvent> LogClient::Find(std::string_view thread, std::string_view event_id) {
  return Await<FoundEvent>([&](Log::Callback<FoundEvent> done) {
    log_->Find(ThreadId(thread), EventId(event_id), std::move(done));
  });
}

absl::StatusOr<ThreadState> LogClient::Follow(std::string_view thread, Follower* follower) {
  return Await<ThreadState>([&](Log::Callback<ThreadState> done) {
    log_->Follow(ThreadId(thread), follower, std::move(done));
  });
}

void LogClient::Unfollow(std::string_view thread, Follower* follower) {
  auto promise = std::make_shared<std::promise<void>>();
  log_->Unfollow(ThreadId(thread), follower, [promise] { promise->set_value(); });
  promise->get_future().get();
}

absl::StatusOr<bool> LogClient::Assign(std::string_view thread, std::string_view owner) {
  return Await<bool>([&](Log::Callback<bool> done) {
    log_->Assign(ThreadId(thread), UserId(owner), std::move(done));
  });
}

absl::StatusOr<AckResult> LogClient::Ack(std::string_view thread, std::string_view user,
                                         Position position) {
  return Await<AckResult>([&](Log::Callback<AckResult> done) {
    log_->Ack(ThreadId(thread), UserId(user), position, std::move(done));
  });
}

absl::StatusOr<AckResult> LogClient::Ack(std::string_view thread, std::string_view user,
                                         uint64_t offset) {
  return Ack(thread, user, Position{State(thread).end().epoch, Offset(offset)});
}

absl::StatusOr<Offset> LogClient::RaiseFloor(std::string_view thread, uint64_t floor,
                                             FloorReason reason) {
  return Await<Offset>([&](Log::Callback<Offset> done) {
    log_->RaiseFloor(ThreadId(thread), Offset(floor), reason, std::move(done));
  });
}

absl::StatusOr<bool> LogClient::Erase(std::string_view thread) {
  return Await<bool>(
      [&](Log::Callback<bool> done) { log_->Erase(ThreadId(thread), std::move(done)); });
}

absl::StatusOr<DeletedThread> LogClient::Delete(std::string_view thread, std::string_view user) {
  return Await<DeletedThread>([&](Log::Callback<DeletedThread> done) {
    log_->Delete(ThreadId(thread), UserId(user), std::move(done));
  });
}

Ledger LogClient::TheLedger() {
  const absl::StatusOr<Ledger> ledger =
      Await<Ledger>([&](Log::Callback<Ledger> done) { log_->GetLedger(std::move(done)); });
  EXPECT_TRUE(ledger.ok()) << ledger.status();
  return ledger.value_or(Ledger{});
}

absl::StatusOr<std::vector<std::string>> LogClient::ListIds(std::string_view owner,
                                                            std::string_view after, size_t limit) {
  const absl::StatusOr<std::vector<ThreadId>> page =
      Await<std::vector<ThreadId>>([&](Log::Callback<std::vector<ThreadId>> done) {
        log_->ListThreadIds(UserId(owner), ThreadId(after), limit, std::move(done));
      });
  if (!page.ok()) return page.status();
  std::vector<std::string> ids;
  for (const ThreadId& thread : *page) ids.push_back(thread.str());
  return ids;
}

absl::StatusOr<ThreadPage> LogClient::List(std::string_view owner, std::string page_token,
                                           size_t page_size) {
  return Await<ThreadPage>([&](Log::Callback<ThreadPage> done) {
    log_->ListThreads(UserId(owner), std::move(page_token), page_size, std::move(done));
  });
}

std::vector<std::string> RangesOf(const ThreadState& state) {
  std::vector<std::string> ranges;
  ranges.reserve(state.expired.size());
  for (const ExpiredRange& range : state.expired) {
    ranges.push_back(absl::StrCat(range.from.value(), "-", range.to.value(), " ", range.count,
                                  range.reason == FloorReason::kDeleted ? " deleted" : " expired"));
  }
  return ranges;
}

std::vector<AppendOutcome> Outcomes(const AppendResult& result) {
  std::vector<AppendOutcome> outcomes;
  outcomes.reserve(result.items.size());
  for (const AppendedItem& item : result.items) outcomes.push_back(item.outcome);
  return outcomes;
}

std::vector<uint64_t> Offsets(const AppendResult& result) {
  std::vector<uint64_t> offsets;
  offsets.reserve(result.items.size());
  for (const AppendedItem& item : result.items) offsets.push_back(item.offset.value());
  return offsets;
}

std::vector<std::string> Texts(const std::vector<EventRun>& runs) {
  std::vector<std::string> texts;
  for (const EventRun& run : runs) {
    uint64_t offset = run.first.value();
    for (const EventPtr& event : run.events) {
      texts.push_back(absl::StrCat(offset++, ":",
                                   absl::string_view(event->json().data(), event->json().size())));
    }
  }
  return texts;
}

void RecordingOwners::OnThreadOwned(const ThreadId& thread, const UserId& owner) {
  MutexLock lock(mutex_);
  owned_.push_back(absl::StrCat(thread.str(), " ", owner.str()));
  changed_.NotifyAll();
}

std::vector<std::string> RecordingOwners::owned() const {
  MutexLock lock(mutex_);
  return owned_;
}

void RecordingOwners::WaitFor(size_t count) const {
  MutexLock lock(mutex_);
  while (owned_.size() < count) changed_.Wait(mutex_);
}

void RecordingFollower::OnAppended(const ThreadId&, const EventRun& run) {
  std::string call = "appended";
  MutexLock lock(mutex_);
  for (const std::string& text : Texts({run})) {
    absl::StrAppend(&call, " ", text);
    events_.push_back(text);
  }
  calls_.push_back(std::move(call));
  changed_.NotifyAll();
}

void RecordingFollower::OnFloorRaised(const ThreadId&, Offset floor, FloorReason reason) {
  Add(absl::StrCat("floor ", floor.value(),
                   reason == FloorReason::kExpired ? " expired" : " deleted"));
}
void RecordingFollower::OnAcknowledged(const ThreadId&, Offset acknowledged) {
  Add(absl::StrCat("acked ", acknowledged.value()));
}
void RecordingFollower::OnDeleted(const ThreadId&, Offset last) {
  Add(absl::StrCat("deleted ", last.value()));
}
void RecordingFollower::OnInterrupted(const ThreadId&) {
  Add("interrupted");
}

void RecordingFollower::Add(std::string call) {
  MutexLock lock(mutex_);
  calls_.push_back(std::move(call));
  changed_.NotifyAll();
}

std::vector<std::string> RecordingFollower::calls() const {
  MutexLock lock(mutex_);
  return calls_;
}

std::vector<std::string> RecordingFollower::events() const {
  MutexLock lock(mutex_);
  return events_;
}

void RecordingFollower::WaitFor(std::string_view call) const {
  MutexLock lock(mutex_);
  while (std::find(calls_.begin(), calls_.end(), call) == calls_.end()) changed_.Wait(mutex_);
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "clarion-log-XXXXXX").string();
  path_ = mkdtemp(pattern.data());
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace clarion::log
