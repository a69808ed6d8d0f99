// Pulled replay: pages of a thread's past, with what is missing said first.
#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "proto/contract/error.h"
#include "service/delivery/page_read.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace clarion::delivery {
namespace {

constexpr size_t kDefaultBytes = 256 * 1024;
constexpr size_t kMaxBytes = 4 * 1024 * 1024;
constexpr size_t kMaxEvents = 2'048;

// Times that a page is tried while the thread's epoch changes under it.
constexpr int kMaxAttempts = 4;

// Where merging makes much less of one read, the page reads on, but not for ever.
constexpr int kMaxReads = 8;

Counter& MergedCounter() {
  static Counter& counter =
      GetCounter("clarion_events_merged_total",
                 "Events that travelled inside another one of a compacted page");
  return counter;
}

}  // namespace

void AddExpired(const Epoch& epoch, Offset from, Offset to, std::vector<v1::Missed>* missed) {
  if (!missed->empty() && missed->back().reason() == v1::MISSED_REASON_EXPIRED) {
    missed->back().set_to_offset(to.value());
    return;
  }
  v1::Missed expired;
  expired.set_epoch(epoch.str());
  expired.set_from_offset(from.value());
  expired.set_to_offset(to.value());
  expired.set_reason(v1::MISSED_REASON_EXPIRED);
  missed->push_back(std::move(expired));
}

void CountMerged(uint64_t events) {
  MergedCounter().Add(events);
}

void Core::PageRead::Fail(absl::Status status) {
  status = WithContext(std::move(status), {.user_id = (user.empty() ? owner : user).str(),
                                           .thread_id = thread.str(),
                                           .operation = "ReadPage"});
  LogFailure(status);
  Answer(std::move(status));
}

void Core::PageRead::Answer(absl::StatusOr<link::Page> answer) {
  std::exchange(done, nullptr)(std::move(answer));
  core->page_turns_.End();
}

void Core::PageRead::Finish() {
  if (events.has_value()) {
    CountMerged(events->merged());
    page.runs = events->Take();
  }
  Answer(std::move(page));
}

void Core::ReadAgain(const std::shared_ptr<PageRead>& read) {
  read->reads = 0;
  read->events.reset();
  if (++read->attempts < kMaxAttempts) return AskStateForPage(read);
  read->Fail(MakeError(Reason::kLogUnavailable, "the thread's epoch keeps changing"));
}

void Core::ReadPage(v1::ReadPageRequest request, link::PageCallback done) {
  auto read = std::make_shared<PageRead>();
  read->core = shared_from_this();
  read->thread = ThreadId(request.thread_id());
  read->after = {Epoch(request.after().epoch()), Offset(request.after().offset())};
  read->user = UserId(request.user_id());
  if (request.before_offset() != 0) read->before = Offset(request.before_offset());
  read->last_runs = request.last_runs();
  if (request.until_offset() != 0) read->until = Offset(request.until_offset());
  const bool any = !request.want_json() && !request.want_proto();
  read->shape = {
      .max_bytes = request.max_bytes() == 0 ? kDefaultBytes
                                            : std::min<size_t>(request.max_bytes(), kMaxBytes),
      .max_events = request.max_events() == 0 ? kMaxEvents
                                              : std::min<size_t>(request.max_events(), kMaxEvents),
      .json = any || request.want_json(),
      .proto = any || request.want_proto(),
      .compact = request.compact()};
  read->done = done;
  if (absl::Status status = CheckPage(request); !status.ok()) {
    status = WithContext(
        status,
        {.user_id = request.user_id(), .thread_id = request.thread_id(), .operation = "ReadPage"});
    LogFailure(status);
    return done(std::move(status));
  }
  if (page_turns_.Begin([read] { read->core->BeginPage(read); })) return;
  absl::Status status =
      WithRetryAfter(MakeError(Reason::kBufferOverflow, "too many pages wait to be read",
                               {.thread_id = request.thread_id(), .operation = "ReadPage"}),
                     std::chrono::seconds(1));
  LogFailure(status);
  done(std::move(status));
}

void Core::BeginPage(const std::shared_ptr<PageRead>& read) {
  std::optional<log::ThreadState> state;
  bool stopped = false;
  {
    MutexLock lock(mutex_);
    stopped = stopped_;
    const Followed* thread = FindThread(read->thread);
    if (thread != nullptr) read->owner = thread->state().owner;
    // Followed: what was passed so far is as good as asking, and what comes now goes live. But an
    // earlier page may have been newer than that: before anything is called lost, the log is asked.
    // Who does not say that he follows it is answered the same way whether anybody does or not.
    const bool here = read->user.empty() && thread != nullptr && thread->known;
    if (here && Seamless(thread->state(), read->after)) {
      state = thread->state();
    }
  }
  if (stopped) return read->Fail(MakeError(Reason::kNotInitialized, "the service is stopping"));
  if (state.has_value()) return ReadFrom(read, *state, read->after);
  AskStateForPage(read);
}

void Core::AskStateForPage(const std::shared_ptr<PageRead>& read) {
  log_->GetState(read->thread, [read](absl::StatusOr<log::ThreadState> state) {
    if (!state.ok()) return read->Fail(state.status());
    if (!read->user.empty()) return read->core->BeginUserPage(read, *state);
    if (state->deleted) {
      // The subscription hears of it on its own way; until then the page is not there.
      return read->Fail(MakeError(Reason::kLogUnavailable, "the thread was deleted just now"));
    }
    read->owner = state->owner;
    read->core->ReadFrom(read, *state, read->after);
  });
}

void Core::ReadFrom(const std::shared_ptr<PageRead>& read, const log::ThreadState& state,
                    const Position& after) {
  Resolution here = Resolve(state, Start::After(after));
  read->page = {.missed = std::move(here.missed), .last = state.end()};
  const bool nothing = here.from > state.last || (read->until && here.from > *read->until);
  if (nothing) return read->Finish();
  read->events.emplace(read->thread, read->shape);
  ReadOn(read, here.from);
}

void Core::ReadOn(const std::shared_ptr<PageRead>& read, Offset from) {
  log::ReadRequest request{
      .thread = read->thread,
      .from = from,
      .until = read->until,
      .max_bytes = kPageReadFactor * read->shape.max_bytes,
      .max_events = read->shape.compact ? kPageReadEvents : read->shape.max_events};
  log_->Read(std::move(request), [read, from](absl::StatusOr<log::ReadResult> result) {
    Core* const core = read->core.get();
    core->page_turns_.Work([read, from, result = std::move(result)]() mutable {
      read->core->OnPageRead(read, from, std::move(result));
    });
  });
}

// On a thread for pages.
void Core::OnPageRead(const std::shared_ptr<PageRead>& read, Offset from,
                      absl::StatusOr<log::ReadResult> result) {
  const bool first = read->reads++ == 0;
  // A later read that does not go on where the one before ended is left to the next page.
  if (!first &&
      (!result.ok() || result->last.epoch != read->page.last.epoch || result->floor > from)) {
    return read->Finish();
  }
  if (!result.ok()) return read->Fail(result.status());
  if (result->last.epoch != read->page.last.epoch) {
    return ReadAgain(read);  // the position was judged by a numbering that is over
  }
  if (result->floor > from) {
    AddExpired(read->page.last.epoch, from, result->floor.prev(), &read->page.missed);
  }
  read->page.last = result->last;
  Compactor& events = *read->events;
  for (const log::EventRun& run : result->runs) {
    if (!events.Add(run)) return read->Finish();
  }
  const Offset end = std::min(result->last.offset, read->until.value_or(result->last.offset));
  const bool more = events.next().has_value() && *events.next() <= end && read->shape.compact &&
                    events.bytes() < read->shape.max_bytes / 2 && read->reads < kMaxReads;
  if (!more) return read->Finish();
  ReadOn(read, *events.next());
}

}  // namespace clarion::delivery
