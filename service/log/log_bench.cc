// What the embedded log costs by itself: events a second and CPU for each, 256-byte events over
// 10,000 threads, batches of 32 and one by one.
//
//   clarion_log_bench [FOLDER]    (default: a new one under /tmp, removed at the end)
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "service/log/embedded_log.h"
#include "telemetry/runtime/thread_scheduler.h"

namespace clarion::log {
namespace {

constexpr int kThreads = 10'000;
constexpr size_t kEventBytes = 256;
// Unanswered events at a time: what keeps the commit thread busy without filling its queue.
constexpr int64_t kWindow = 8192;

double CpuSeconds(int whose) {
  rusage usage;
  getrusage(whose, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<ThreadId> ThreadIds() {
  std::vector<ThreadId> ids;
  ids.reserve(kThreads);
  for (int n = 0; n < kThreads; ++n) ids.emplace_back("thread-" + std::to_string(n));
  return ids;
}

// Appends `events` in batches of `batch`, each of one thread, round and round.
void Measure(Log& log, const std::vector<ThreadId>& threads, int64_t events, int batch,
             int64_t& next_id) {
  const auto event = std::make_shared<EncodedEvent>(std::string(kEventBytes / 2, 'j'),
                                                    std::string(kEventBytes / 2, 'p'));
  std::atomic<int64_t> unanswered = 0;
  std::atomic<int64_t> failed = 0;
  std::atomic<double> commit_thread = 0;  // CPU seconds so far: callbacks run on it
  const double begin = Seconds();
  const double cpu = CpuSeconds(RUSAGE_SELF);
  double commit_thread_before = 0;
  for (int64_t sent = 0; sent < events; sent += batch) {
    AppendRequest request;
    request.thread = threads[static_cast<size_t>(sent / batch) % threads.size()];
    request.owner = UserId("user");
    request.items.resize(static_cast<size_t>(batch));
    for (AppendItem& item : request.items) {
      item.event_id = EventId("event-" + std::to_string(next_id++));
      item.content = {1, static_cast<uint64_t>(next_id)};
      // Of its own, as in life.
      item.event = std::make_shared<EncodedEvent>(*event);
    }
    while (unanswered.load(std::memory_order_acquire) > kWindow) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    unanswered.fetch_add(batch, std::memory_order_relaxed);
    if (sent == batch) {
      while (commit_thread.load() == 0) std::this_thread::yield();
      commit_thread_before = commit_thread.load();
    }
    const bool first = sent == 0;
    const bool last = sent + batch >= events;
    log.Append(std::move(request), [&, batch, first, last](absl::StatusOr<AppendResult> result) {
      if (!result.ok()) failed.fetch_add(1, std::memory_order_relaxed);
      if (first || last) commit_thread.store(CpuSeconds(RUSAGE_THREAD), std::memory_order_relaxed);
      unanswered.fetch_sub(batch, std::memory_order_release);
    });
  }
  while (unanswered.load(std::memory_order_acquire) > 0) {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  const double seconds = Seconds() - begin;
  const double used = CpuSeconds(RUSAGE_SELF) - cpu;
  const double commit_used = commit_thread.load() - commit_thread_before;
  std::printf(
      "batches of %2d: %9.0f events/s; CPU us each: %5.2f commit thread, %5.2f all with the "
      "producer; %ld failed\n",
      batch, static_cast<double>(events) / seconds, commit_used / static_cast<double>(events) * 1e6,
      used / static_cast<double>(events) * 1e6, static_cast<long>(failed.load()));
}

int Main(int argc, char** argv) {
  std::string folder = argc > 1 ? argv[1] : "";
  if (folder.empty()) {
    std::string pattern = "/tmp/clarion-log-bench-XXXXXX";
    folder = mkdtemp(pattern.data());
  }
  const std::unique_ptr<Scheduler> scheduler = MakeThreadScheduler();
  EmbeddedOptions options;
  options.path = folder;
  options.scheduler = scheduler.get();
  absl::StatusOr<std::unique_ptr<Log>> log = OpenEmbeddedLog(options);
  if (!log.ok()) {
    std::fprintf(stderr, "%s\n", log.status().ToString().c_str());
    return 1;
  }
  const std::vector<ThreadId> threads = ThreadIds();
  int64_t next_id = 0;
  Measure(**log, threads, kThreads, 1, next_id);  // every thread opens its epoch, synced
  Measure(**log, threads, 1'000'000, 1, next_id);
  Measure(**log, threads, 3'000'000, 32, next_id);
  const double closing = Seconds();
  (*log)->Close();
  log->reset();
  std::printf("closed in %.2f s\n", Seconds() - closing);
  const double opening = Seconds();
  log = OpenEmbeddedLog(options);
  std::printf("opened in %.2f s\n", Seconds() - opening);
  if (log.ok()) log->reset();
  if (argc <= 1) std::filesystem::remove_all(folder);
  return 0;
}

}  // namespace
}  // namespace clarion::log

int main(int argc, char** argv) {
  return clarion::log::Main(argc, argv);
}
