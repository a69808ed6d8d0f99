// Pages that a browser asks for without following the thread: for its owner alone, after a
// position, before an offset, or from the start of the last runs.
#include <algorithm>
#include <limits>
#include <utility>

#include "proto/contract/error.h"
#include "service/delivery/page_read.h"

namespace clarion::delivery {
namespace {

constexpr uint32_t kMaxLastRuns = 100;  // gateway_service.proto

// Of what is read backwards: a first guess of how many events a page takes, and how much more than
// the page is read where merging makes less of it.
constexpr uint64_t kFirstWindow = 64;
constexpr size_t kMergeFactor = 4;
constexpr size_t kMergeBytes = 8 * 1024 * 1024;

// As stored.
size_t MostBytes(const PageShape& shape) {
  const size_t bytes = kPageReadFactor * shape.max_bytes;
  return shape.compact ? std::max(bytes, std::min(kMergeFactor * bytes, kMergeBytes)) : bytes;
}
size_t MostEvents(const PageShape& shape) {
  return shape.compact ? std::max(shape.max_events, kPageReadEvents) : shape.max_events;
}

// What the next window, which ends before `end`, begins with.
Offset WindowStart(const BackwardPage& back, const PageShape& shape, Offset end) {
  uint64_t events = kFirstWindow;
  if (!back.kept.empty()) {
    const size_t each = std::max<size_t>(back.bytes / back.kept.size(), 1);
    events = std::max(events, (MostBytes(shape) - back.bytes) / each);
  }
  events = std::min<uint64_t>(events, MostEvents(shape) - back.kept.size());
  const Offset start(end.value() > events ? end.value() - events : 1);
  return std::max(start, back.floor);
}

size_t SizeOf(const EncodedEvent& event, const PageShape& shape) {
  return std::max(shape.json ? event.json().size() : 0, shape.proto ? event.proto().size() : 0);
}

// Drops the oldest until the page is as small as it must be; at least one event stays. True: some
// were dropped.
bool KeepNewest(std::vector<link::Live>& runs, const PageShape& shape) {
  size_t bytes = 0;
  size_t events = 0;
  for (size_t run = runs.size(); run-- > 0;) {
    link::Live& live = runs[run];
    for (size_t i = live.events.size(); i-- > 0;) {
      const size_t size = SizeOf(*live.events[i], shape);
      const bool room = bytes + size <= shape.max_bytes && events < shape.max_events;
      if (room || events == 0) {
        bytes += size;
        ++events;
        continue;
      }
      for (size_t dropped = 0; dropped <= i; ++dropped) {
        const uint64_t offsets = live.events[dropped]->offsets();
        live.first = Offset(live.first.value() + offsets);
        live.merged -= offsets - 1;
      }
      live.events.erase(live.events.begin(), live.events.begin() + static_cast<ptrdiff_t>(i) + 1);
      const size_t whole = live.events.empty() ? run + 1 : run;
      runs.erase(runs.begin(), runs.begin() + static_cast<ptrdiff_t>(whole));
      return true;
    }
  }
  return false;
}

}  // namespace

absl::Status Core::CheckPage(const v1::ReadPageRequest& request) {
  std::vector<FieldViolation> faults;
  if (!ValidId(request.thread_id())) faults.push_back({"thread_id", "must be an id"});
  const bool for_user = !request.user_id().empty();
  if (for_user && (!ValidId(request.user_id()) || request.user_id() == kCanaryUser)) {
    faults.push_back({"user_id", "must be a user"});
  }
  if (!for_user && request.before_offset() != 0)
    faults.push_back({"before_offset", "needs user_id"});
  if (!for_user && request.last_runs() != 0) faults.push_back({"last_runs", "needs user_id"});
  if (request.before_offset() != 0 && request.last_runs() != 0) {
    faults.push_back({"last_runs", "only one of before_offset and last_runs"});
  }
  if (request.last_runs() > kMaxLastRuns) faults.push_back({"last_runs", "at most 100"});
  return faults.empty() ? absl::OkStatus() : MakeBadRequest(faults);
}

// Nobody's, somebody else's, deleted and unknown are one answer, on one way.
void Core::BeginUserPage(const std::shared_ptr<PageRead>& read, const log::ThreadState& state) {
  if (state.owner != read->user) {
    return read->Fail(MakeError(Reason::kNotFound, "there is no such thread"));
  }
  if (read->before) return ReadBefore(read, state);
  if (read->last_runs > 0) return ReadLastRuns(read);
  Position after = read->after;
  if (after.epoch.empty()) after.epoch = state.end().epoch;
  ReadFrom(read, state, after);
}

void Core::ReadLastRuns(const std::shared_ptr<PageRead>& read) {
  log_->LastRuns(read->thread, read->last_runs, [read](absl::StatusOr<log::ThreadState> state) {
    if (!state.ok()) return read->Fail(state.status());
    if (state->owner != read->user) {
      return read->Fail(MakeError(Reason::kNotFound, "there is no such thread"));
    }
    // Fewer than were asked for: all there is.
    Position after{state->end().epoch, Offset(0)};
    if (state->runs.size() == read->last_runs) after.offset = state->runs.front().start.prev();
    read->core->ReadFrom(read, *state, after);
  });
}

void Core::ReadBefore(const std::shared_ptr<PageRead>& read, const log::ThreadState& state) {
  read->page = {.last = state.end()};
  const Offset until = std::min(read->before->prev(), state.last);
  read->back = {.floor = state.floor};
  if (until < state.floor) {
    if (until > Offset(0)) AddExpired(state.end().epoch, Offset(1), until, &read->page.missed);
    return read->Finish();
  }
  ReadWindow(read, until);
}

void Core::ReadWindow(const std::shared_ptr<PageRead>& read, Offset last) {
  BackwardPage& back = read->back;
  back.last = last;
  back.from = back.next = WindowStart(back, read->shape, last.next());
  ReadOnBackwards(read);
}

void Core::ReadOnBackwards(const std::shared_ptr<PageRead>& read) {
  log::ReadRequest request{.thread = read->thread,
                           .from = read->back.next,
                           .until = read->back.last,
                           .max_bytes = kPageReadFactor * read->shape.max_bytes,
                           .max_events = kPageReadEvents};
  log_->Read(std::move(request), [read](absl::StatusOr<log::ReadResult> result) {
    Core* const core = read->core.get();
    core->page_turns_.Work([read, result = std::move(result)]() mutable {
      read->core->OnReadBackwards(read, std::move(result));
    });
  });
}

// On a thread for pages.
void Core::OnReadBackwards(const std::shared_ptr<PageRead>& read,
                           absl::StatusOr<log::ReadResult> result) {
  if (!result.ok()) return read->Fail(result.status());
  if (result->last.epoch != read->page.last.epoch) return ReadAgain(read);
  BackwardPage& back = read->back;
  const size_t most_bytes = MostBytes(read->shape);
  read->page.last = result->last;
  back.floor = result->floor;
  // The floor has passed what was read before: it is none of the page any more.
  const auto drop_window = [&back] {
    for (const auto& read_before : back.window) back.bytes -= read_before.event->bytes().size();
    back.window.clear();
  };
  for (const log::EventRun& run : result->runs) {
    if (!back.window.empty() && back.window.back().offset.next() != run.first) drop_window();
    Offset offset = run.first;
    for (const EventPtr& event : run.events) {
      back.bytes += event->bytes().size();
      back.window.push_back({run.epoch, offset, event});
      back.next = offset = offset.next();
    }
  }
  while (back.bytes > most_bytes && back.window.size() + back.kept.size() > 1 &&
         !back.window.empty()) {
    back.bytes -= back.window.front().event->bytes().size();
    back.window.pop_front();
    back.full = true;
  }
  back.full = back.full || back.bytes >= most_bytes;
  if (!result->runs.empty() && back.next <= back.last) return ReadOnBackwards(read);
  if (!back.window.empty() && back.window.back().offset != back.last) drop_window();
  back.kept.insert(back.kept.begin(), back.window.begin(), back.window.end());
  back.window.clear();
  if (back.full || back.from <= back.floor || back.kept.size() >= MostEvents(read->shape)) {
    return read->FinishBackwards();
  }
  ReadWindow(read, back.from.prev());
}

void Core::PageRead::FinishBackwards() {
  PageShape whole = shape;
  whole.max_bytes = whole.max_events = std::numeric_limits<size_t>::max();
  events.emplace(thread, whole);
  for (size_t i = 0; i < back.kept.size();) {
    log::EventRun run{.epoch = back.kept[i].epoch, .first = back.kept[i].offset};
    for (; i < back.kept.size() && back.kept[i].epoch == run.epoch; ++i) {
      run.events.push_back(std::move(back.kept[i].event));
    }
    events->Add(run);
  }
  page.runs = events->Take();
  CountMerged(events->merged());
  const bool cut = KeepNewest(page.runs, shape) || back.full;
  // What the floor cut off is said, not what there was no room for.
  const Offset first = page.runs.empty() ? before->prev() : page.runs.front().first;
  if (!cut && back.floor > Offset(1) && first <= back.floor) {
    const Offset to = std::min(back.floor, *before).prev();
    AddExpired(page.last.epoch, Offset(1), to, &page.missed);
  }
  Answer(std::move(page));
}

}  // namespace clarion::delivery
