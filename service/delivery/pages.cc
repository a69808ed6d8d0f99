// Pulled replay: pages of a thread's past, with what is missing said first.
#include <algorithm>
#include <utility>

#include "proto/contract/error.h"
#include "service/delivery/core.h"
#include "telemetry/log.h"

namespace clarion::delivery {
namespace {

constexpr size_t kDefaultBytes = 256 * 1024;
constexpr size_t kMaxBytes = 4 * 1024 * 1024;

// Times that a page is tried while the thread's epoch changes under it.
constexpr int kMaxAttempts = 4;

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
  size_t max_bytes = kDefaultBytes;
  link::PageCallback done;
  // The thread's, as far as it is known.
  UserId owner;
  int attempts = 0;

  void Fail(absl::Status status) {
    status =
        WithContext(std::move(status),
                    {.user_id = owner.str(), .thread_id = thread.str(), .operation = "ReadPage"});
    LogFailure(status);
    done(std::move(status));
  }
};

void Core::ReadPage(v1::ReadPageRequest request, link::PageCallback done) {
  auto read = std::make_shared<PageRead>();
  read->core = shared_from_this();
  read->thread = ThreadId(request.thread_id());
  read->after = {Epoch(request.after().epoch()), Offset(request.after().offset())};
  if (request.until_offset() != 0) read->until = Offset(request.until_offset());
  if (request.max_bytes() != 0) read->max_bytes = std::min<size_t>(request.max_bytes(), kMaxBytes);
  read->done = std::move(done);
  if (!ValidId(request.thread_id())) {
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
  link::Page page{.missed = std::move(here.missed), .last = state.end()};
  const bool nothing = here.from > state.last || (read->until && here.from > *read->until);
  if (nothing) return read->done(std::move(page));
  log::ReadRequest request{.thread = read->thread,
                           .from = here.from,
                           .until = read->until,
                           .max_bytes = read->max_bytes};
  log_->Read(std::move(request), [read, page = std::move(page), from = here.from](
                                     absl::StatusOr<log::ReadResult> result) mutable {
    if (!result.ok()) return read->Fail(result.status());
    if (result->last.epoch != page.last.epoch) {
      // The position was judged by a numbering that is over.
      if (++read->attempts < kMaxAttempts) return read->core->AskStateForPage(read);
      return read->Fail(MakeError(Reason::kLogUnavailable, "the thread's epoch keeps changing"));
    }
    if (result->floor > from) {
      AddExpired(page.last.epoch, from, result->floor.prev(), &page.missed);
    }
    page.last = result->last;
    for (log::EventRun& run : result->runs) {
      page.runs.push_back({.thread = read->thread,
                           .epoch = std::move(run.epoch),
                           .first = run.first,
                           .events = std::move(run.events)});
    }
    read->done(std::move(page));
  });
}

}  // namespace clarion::delivery
