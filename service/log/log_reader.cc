#include "service/log/log_reader.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "proto/contract/error.h"
#include "service/log/stored_thread.h"
#include "service/log/thread_selection.h"

namespace clarion::log {
namespace {

// How often a read begins anew because the floor passed it or the thread moved between memory and
// disk.
constexpr int kAttempts = 16;

absl::Status Overflow(std::string_view operation, const ThreadId& thread) {
  return WithRetryAfter(MakeError(Reason::kBufferOverflow, "too many reads wait for the event log",
                                  {.thread_id = thread.str(), .operation = std::string(operation)}),
                        std::chrono::seconds(1));
}

absl::Status NoSuchEvent(const ThreadId& thread) {
  return MakeError(Reason::kNotFound, "the thread does not keep such an event",
                   {.thread_id = thread.str(), .operation = "Find"});
}

template <class T>
absl::StatusOr<T> OrUnreadable(absl::StatusOr<T> result, std::string_view operation,
                               const ThreadId& thread) {
  if (result.ok() || result.status().code() == absl::StatusCode::kNotFound) return result;
  return Unreadable(result.status(), operation, thread);
}

FoundEvent FoundIn(const ThreadImage& image, Offset offset) {
  const LoggedEvent& logged = image.TailAt(offset);
  return {image.EpochOf(offset).epoch, offset, logged.event, logged.critical, logged.accepted_at,
          logged.committed_at};
}

}  // namespace

struct LogReader::View {
  Offset floor;
  Position last;
  // In memory from here on; beyond `last` if the thread is not in memory.
  Offset tail_first;
  std::vector<EpochMark> epochs;
  // Since the look; null: no need for the disk.
  std::unique_ptr<StoreSnapshot> snapshot;

  static View Of(const ThreadImage& image, Offset tail_first) {
    View view;
    view.floor = image.counters().floor;
    view.last.offset = image.counters().last;
    if (!image.epochs().empty()) view.last.epoch = image.epochs().back().epoch;
    view.tail_first = tail_first;
    view.epochs = image.epochs();
    return view;
  }
};

bool LogReader::OnMemory(std::function<void()> task) {
  return engine_.memory.TryPost(task, engine_.options.max_queued_reads);
}

bool LogReader::OnDisk(std::function<void()> task) {
  engine_.metrics.disk_reads.Add();
  return engine_.disk.TryPost(task, engine_.options.max_queued_reads);
}

template <class T>
void LogReader::RefuseLater(Log::Callback<T> done, std::string_view operation,
                            const ThreadId& thread) {
  engine_.metrics.overflows.Add();
  engine_.memory.Post(
      [done = std::move(done), status = Overflow(operation, thread)] { done(status); });
}

// --- Read.

void LogReader::Read(ReadRequest request, Log::Callback<ReadResult> done) {
  const ThreadId thread = request.thread;
  const bool queued = OnMemory([this, request = std::move(request), done] {
    ReadResult result;
    if (ReadFromTail(request, result)) {
      done(std::move(result));
      return;
    }
    const bool on_disk = OnDisk([this, request, done] {
      done(OrUnreadable(ReadFromDisk(request), "Read", request.thread));
    });
    if (!on_disk) done(Overflow("Read", request.thread));
  });
  if (!queued) RefuseLater(std::move(done), "Read", thread);
}

bool LogReader::ReadFromTail(const ReadRequest& request, ReadResult& result) const {
  const std::shared_ptr<ThreadLog> thread = engine_.threads.Find(request.thread);
  if (thread == nullptr) return false;
  MutexLock lock(thread->mutex);
  if (thread->image == nullptr) return false;
  const ThreadImage& image = *thread->image;
  const View view = View::Of(image, image.tail_first());
  const Offset from = std::max(request.from, view.floor);
  const Offset until = std::min(request.until.value_or(view.last.offset), view.last.offset);
  result.floor = view.floor;
  result.last = view.last;
  if (from > until) return true;
  if (from < view.tail_first) return false;
  PageBudget budget{request.max_bytes, request.max_events};
  image.ReadTail(from, until, budget, result.runs);
  return true;
}

absl::StatusOr<ReadResult> LogReader::ReadFromDisk(const ReadRequest& request) const {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    ReadResult result;
    absl::StatusOr<bool> whole = TryReadFromDisk(request, result);
    if (!whole.ok()) return whole.status();
    if (*whole) return result;
  }
  return absl::DataLossError(
      "events above the floor are not in the chunks, or they moved each time it was read");
}

// False: the thread changed its place or its floor meanwhile, or events are really missing.
absl::StatusOr<bool> LogReader::TryReadFromDisk(const ReadRequest& request,
                                                ReadResult& result) const {
  absl::StatusOr<std::shared_ptr<Store>> store = OpenStore();
  if (!store.ok()) return store.status();
  absl::StatusOr<View> view = Look(request.thread, *store);
  if (!view.ok()) return view.status();
  result.floor = view->floor;
  result.last = view->last;
  Offset next = std::max(request.from, view->floor);
  const Offset until = std::min(request.until.value_or(view->last.offset), view->last.offset);
  PageBudget budget{request.max_bytes, request.max_events};

  // Chunks first.
  const Offset chunks_end = std::min(until, view->tail_first.prev());
  bool room = true;
  if (next <= chunks_end) {
    const EpochTable epochs(std::move(view->epochs));
    absl::Status status =
        (*store)->Scan(Family::kChunks, ThreadPrefix(request.thread),
                       OffsetKey(request.thread, next), view->snapshot->get(),
                       [&](std::string_view, std::string_view value) -> absl::StatusOr<bool> {
                         const Offset wanted = next;
                         absl::StatusOr<bool> more = ReadChunk(value, wanted, chunks_end, epochs,
                                                               budget, result.runs, &next);
                         if (!more.ok()) return more.status();
                         room = *more;
                         // No progress: there is a gap before this chunk.
                         return room && next > wanted && next <= chunks_end;
                       });
    if (!status.ok()) return status;
    if (room && next <= chunks_end) return false;
  }
  if (!room || next > until) return true;

  // Then the tail, if the thread has one still that goes on from here.
  const std::shared_ptr<ThreadLog> thread = engine_.threads.Find(request.thread);
  if (thread == nullptr) return !result.runs.empty();
  MutexLock lock(thread->mutex);
  if (thread->image == nullptr || next < thread->image->tail_first() ||
      until > thread->image->counters().last) {
    return !result.runs.empty();
  }
  thread->image->ReadTail(next, until, budget, result.runs);
  return true;
}

absl::StatusOr<LogReader::View> LogReader::Look(const ThreadId& id,
                                                const std::shared_ptr<Store>& store) const {
  const std::shared_ptr<ThreadLog> thread = engine_.threads.Find(id);
  std::optional<View> view;
  if (thread != nullptr) {
    MutexLock lock(thread->mutex);
    if (thread->image != nullptr) view = View::Of(*thread->image, thread->image->tail_first());
  }
  auto snapshot = std::make_unique<StoreSnapshot>(store);
  if (!view) {
    // Not in memory when the snapshot was taken or just before: its checkpoint is how it was then.
    uint64_t applied = 0;
    auto image = LoadThreadMeta(*store, id, LoadRuns::kNo, snapshot->get(), &applied);
    if (!image.ok()) return image.status();
    view = View::Of(**image, (*image)->counters().last.next());
  }
  view->snapshot = std::move(snapshot);
  return *std::move(view);
}

// --- GetState, FindRun, LastRuns.

namespace {

ThreadState StateWith(const ThreadImage& image, const LogReader::Runs& runs) {
  ThreadState state = image.State();
  if (runs.last > 0) state.runs = image.LastRuns(runs.last);
  if (runs.one.empty()) return state;
  const RunRecord* found = image.FindRun(runs.one);
  if (found != nullptr) state.runs.push_back(*found);
  return state;
}

ThreadState StateWithOpenRuns(const ThreadImage& image) {
  ThreadState state = image.State();
  state.runs = image.OpenRuns();
  return state;
}

}  // namespace

void LogReader::GetState(ThreadId id, Runs runs, Log::Callback<ThreadState> done) {
  const bool queued = OnMemory([this, id, runs, done] {
    if (const auto thread = engine_.threads.Find(id); thread != nullptr) {
      std::optional<ThreadState> state;
      {
        MutexLock lock(thread->mutex);
        if (thread->image != nullptr) state = StateWith(*thread->image, runs);
      }
      if (state) {
        done(*std::move(state));
        return;
      }
    }
    const bool on_disk = OnDisk([this, id, runs, done] {
      const auto image = ImageFromDisk(id, runs.none() ? LoadRuns::kNo : LoadRuns::kYes);
      if (image.ok()) {
        done(StateWith(**image, runs));
      } else {
        done(Unreadable(image.status(), "GetState", id));
      }
    });
    if (!on_disk) done(Overflow("GetState", id));
  });
  if (!queued) RefuseLater(std::move(done), "GetState", id);
}

absl::StatusOr<std::unique_ptr<ThreadImage>> LogReader::ImageFromDisk(const ThreadId& thread,
                                                                      LoadRuns runs) const {
  absl::StatusOr<std::shared_ptr<Store>> store = OpenStore();
  if (!store.ok()) return store.status();
  const StoreSnapshot snapshot(*store);
  uint64_t applied = 0;
  return LoadThreadMeta(**store, thread, runs, snapshot.get(), &applied);
}

void LogReader::GetLedger(Log::Callback<Ledger> done) {
  const bool queued = OnMemory([this, done] { done(engine_.ledger.now()); });
  if (!queued) RefuseLater(std::move(done), "GetLedger", {});
}

// --- Find.

void LogReader::Find(ThreadId id, EventId event_id, Log::Callback<FoundEvent> done) {
  const Digest digest = Digest::Of(event_id.str());
  const bool queued = OnMemory([this, id, digest, done] {
    std::optional<Offset> at;
    if (const auto thread = engine_.threads.Find(id); thread != nullptr) {
      bool known = false;
      std::optional<FoundEvent> found;
      {
        MutexLock lock(thread->mutex);
        if (thread->image != nullptr) {
          const IdSlot* slot = thread->image->FindId(digest);
          known = slot == nullptr || slot->offset >= thread->image->tail_first();
          if (slot != nullptr) at = slot->offset;
          if (known && slot != nullptr) found = FoundIn(*thread->image, slot->offset);
        }
      }
      if (known) {
        done(found ? absl::StatusOr<FoundEvent>(*std::move(found)) : NoSuchEvent(id));
        return;
      }
    }
    const bool on_disk = OnDisk([this, id, digest, at, done] {
      done(OrUnreadable(FindOnDisk(id, digest, at), "Find", id));
    });
    if (!on_disk) done(Overflow("Find", id));
  });
  if (!queued) RefuseLater(std::move(done), "Find", id);
}

absl::StatusOr<FoundEvent> LogReader::FindOnDisk(const ThreadId& thread, const Digest& id,
                                                 std::optional<Offset> at) const {
  absl::StatusOr<std::shared_ptr<Store>> store = OpenStore();
  if (!store.ok()) return store.status();
  absl::StatusOr<View> view = Look(thread, *store);
  if (!view.ok()) return view.status();
  FoundEvent found;
  const Offset from = std::max(at.value_or(view->floor), view->floor);
  absl::Status status = (*store)->Scan(
      Family::kIds, ThreadPrefix(thread), OffsetKey(thread, from), view->snapshot->get(),
      [&](std::string_view, std::string_view value) -> absl::StatusOr<bool> {
        const absl::StatusOr<StoredIds> stored = DecodeIds(value);
        if (!stored.ok()) return stored.status();
        Offset offset = stored->info.first;
        for (const StoredId& candidate : stored->ids) {
          if (candidate.id == id && offset >= from) {
            found.offset = offset;
            found.critical = candidate.critical;
            found.accepted_at = candidate.accepted_at;
          }
          offset = offset.next();
        }
        return !at.has_value();
      });
  if (!status.ok()) return status;
  if (found.offset == Offset{}) return NoSuchEvent(thread);
  absl::StatusOr<ReadResult> read = ReadFromDisk(
      {.thread = thread, .from = found.offset, .until = found.offset, .max_events = 1});
  if (!read.ok()) return read.status();
  if (read->runs.empty()) return NoSuchEvent(thread);  // the floor passed it just now
  found.epoch = read->runs.front().epoch;
  found.event = read->runs.front().events.front();
  return found;
}

// --- ListThreadIds.

void LogReader::ListThreadIds(UserId owner, ThreadId after, size_t limit,
                              Log::Callback<std::vector<ThreadId>> done) {
  const bool queued =
      OnDisk([this, owner = std::move(owner), after = std::move(after), limit, done] {
        done(OrUnreadable(ListIds(owner, after, limit), "ListThreadIds", {}));
      });
  if (!queued) RefuseLater(std::move(done), "ListThreadIds", {});
}

absl::StatusOr<std::vector<ThreadId>> LogReader::ListIds(const UserId& owner, const ThreadId& after,
                                                         size_t limit) const {
  absl::StatusOr<std::shared_ptr<Store>> store = OpenStore();
  if (!store.ok()) return store.status();
  limit = std::max<size_t>(limit, 1);
  std::vector<ThreadId> threads;
  absl::Status status =
      (*store)->Scan(Family::kOwners, OwnerPrefix(owner), OwnerKey(owner, after), nullptr,
                     [&](std::string_view key, std::string_view) -> absl::StatusOr<bool> {
                       ThreadId thread = ThreadOfOwnerKey(key);
                       if (thread != after) threads.push_back(std::move(thread));
                       return threads.size() < limit;
                     });
  if (!status.ok()) return status;
  return threads;
}

// --- ListThreads.

void LogReader::ListThreads(UserId owner, std::string page_token, size_t page_size,
                            Log::Callback<ThreadPage> done) {
  const bool queued = OnDisk([this, owner, page_token = std::move(page_token), page_size, done] {
    absl::StatusOr<ThreadPage> page = List(owner, page_token, page_size);
    if (page.status().code() == absl::StatusCode::kInvalidArgument) {
      done(MakeBadRequest({{"page_token", std::string(page.status().message())}},
                          {.user_id = owner.str(), .operation = "ListThreads"}));
    } else {
      done(OrUnreadable(std::move(page), "ListThreads", {}));
    }
  });
  if (!queued) RefuseLater(std::move(done), "ListThreads", {});
}

absl::StatusOr<ThreadPage> LogReader::List(const UserId& owner, std::string_view page_token,
                                           size_t page_size) const {
  absl::StatusOr<std::shared_ptr<Store>> store = OpenStore();
  if (!store.ok()) return store.status();
  page_size = std::max<size_t>(page_size, 1);
  const auto last_append = [&](const ThreadId& thread) { return LastAppend(**store, thread); };
  const absl::StatusOr<ThreadSelection> selected =
      owner.empty() ? SelectAny(**store, page_token, page_size)
                    : SelectRecent(**store, owner, page_token, page_size, last_append);
  if (!selected.ok()) return selected.status();
  ThreadPage page;
  page.next_page_token = selected->next_page_token;
  for (const ThreadId& thread : selected->threads) {
    absl::StatusOr<ThreadState> state = ListedState(thread);
    if (!state.ok()) return state.status();
    page.threads.push_back(*std::move(state));
  }
  return page;
}

absl::StatusOr<WallTime> LogReader::LastAppend(Store& store, const ThreadId& id) const {
  if (const auto thread = engine_.threads.Find(id); thread != nullptr) {
    MutexLock lock(thread->mutex);
    if (thread->image != nullptr) return thread->image->counters().last_append;
  }
  absl::StatusOr<std::optional<std::string>> bytes = store.Get(Family::kThreads, id.str());
  if (!bytes.ok()) return bytes.status();
  if (!*bytes) return WallTime{};
  absl::StatusOr<StoredMeta> meta = DecodeMeta(**bytes);
  if (!meta.ok()) return meta.status();
  return meta->counters.last_append;
}

absl::StatusOr<ThreadState> LogReader::ListedState(const ThreadId& id) const {
  if (const auto thread = engine_.threads.Find(id); thread != nullptr) {
    MutexLock lock(thread->mutex);
    if (thread->image != nullptr) return StateWithOpenRuns(*thread->image);
  }
  const auto image = ImageFromDisk(id, LoadRuns::kYes);
  if (!image.ok()) return image.status();
  return StateWithOpenRuns(**image);
}

absl::StatusOr<std::shared_ptr<Store>> LogReader::OpenStore() const {
  std::shared_ptr<Store> store = engine_.store.get();
  if (store == nullptr) return absl::UnavailableError("the database is being opened again");
  return store;
}

}  // namespace clarion::log
