// Pulled replay: pages of a thread's past, with what is missing said first.
#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "proto/contract/error.h"
#include "service/delivery/compactor.h"
#include "service/delivery/core.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace clarion::delivery {
namespace {

constexpr size_t kDefaultBytes = 256 * 1024;
constexpr size_t kMaxBytes = 4 * 1024 * 1024;
constexpr size_t kMaxEvents = 2'048;

// Times that a page is tried while the thread's epoch changes under it.
constexpr int kMaxAttempts = 4;

// One read of the log, for a page of so many bytes of one encoding: stored events have two. Where
// merging makes much less of it, the page reads on, but not for ever.
constexpr size_t kReadFactor = 2;
constexpr size_t kReadEvents = 4'096;
constexpr int kMaxReads = 8;

Counter& MergedCounter() {
  static Counter& counter =
      GetCounter("clarion_events_merged_total",
                 "Events that travelled inside another one of a compacted page");
  return counter;
}

// The floor rose above where the page should begin, after the position was resolved.
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

}  // namespace

struct Core::PageRead {
  std::shared_ptr<Core> core;
  ThreadId thread;
  Position after;
  std::optional<Offset> until;
  PageShape shape;
  link::PageCallback done;
  // The thread's, as far as it is known.
  UserId owner;
  int attempts = 0;
  // What was read so far.
  link::Page page;
  std::optional<Compactor> events;
  int reads = 0;

  void Fail(absl::Status status) {
    status =
        WithContext(std::move(status),
                    {.user_id = owner.str(), .thread_id = thread.str(), .operation = "ReadPage"});
    LogFailure(status);
    Answer(std::move(status));
  }
  void Answer(absl::StatusOr<link::Page> answer) {
    std::exchange(done, nullptr)(std::move(answer));
    core->page_turns_.End();
  }
  // With what was read.
  void Finish() {
    if (events.has_value()) {
      MergedCounter().Add(events->merged());
      page.runs = events->Take();
    }
    Answer(std::move(page));
  }
};

void Core::ReadPage(v1::ReadPageRequest request, link::PageCallback done) {
  auto read = std::make_shared<PageRead>();
  read->core = shared_from_this();
  read->thread = ThreadId(request.thread_id());
  read->after = {Epoch(request.after().epoch()), Offset(request.after().offset())};
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
  if (page_turns_.Begin([read] { read->core->BeginPage(read); })) return;
  absl::Status status =
      WithRetryAfter(MakeError(Reason::kBufferOverflow, "too many pages wait to be read",
                               {.thread_id = request.thread_id(), .operation = "ReadPage"}),
                     std::chrono::seconds(1));
  LogFailure(status);
  done(std::move(status));
}

void Core::BeginPage(const std::shared_ptr<PageRead>& read) {
  if (!ValidId(read->thread.str())) {
    return read->Fail(MakeBadRequest({{"thread_id", "must be an id"}}));
  }
  std::optional<log::ThreadState> state;
  bool stopped = false;
  {
    MutexLock lock(mutex_);
    stopped = stopped_;
    const Followed* thread = FindThread(read->thread);
    if (thread != nullptr) read->owner = thread->state().owner;
    // Followed: what was passed so far is as good as asking, and what comes now goes live. But an
    // earlier page may have been newer than that: before anything is called lost, the log is asked.
    if (thread != nullptr && thread->known && Seamless(thread->state(), read->after)) {
      state = thread->state();
    }
  }
  if (stopped) return read->Fail(MakeError(Reason::kNotInitialized, "the service is stopping"));
  if (state.has_value()) return ReadFrom(read, *state);
  AskStateForPage(read);
}

void Core::AskStateForPage(const std::shared_ptr<PageRead>& read) {
  log_->GetState(read->thread, [read](absl::StatusOr<log::ThreadState> state) {
    if (!state.ok()) return read->Fail(state.status());
    if (state->deleted) {
      // The subscription hears of it on its own way; until then the page is not there.
      return read->Fail(MakeError(Reason::kLogUnavailable, "the thread was deleted just now"));
    }
    read->owner = state->owner;
    read->core->ReadFrom(read, *state);
  });
}

void Core::ReadFrom(const std::shared_ptr<PageRead>& read, const log::ThreadState& state) {
  Resolution here = Resolve(state, Start::After(read->after));
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
      .max_bytes = kReadFactor * read->shape.max_bytes,
      .max_events = read->shape.compact ? kReadEvents : read->shape.max_events};
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
    // The position was judged by a numbering that is over.
    read->reads = 0;
    read->events.reset();
    if (++read->attempts < kMaxAttempts) return AskStateForPage(read);
    return read->Fail(MakeError(Reason::kLogUnavailable, "the thread's epoch keeps changing"));
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
