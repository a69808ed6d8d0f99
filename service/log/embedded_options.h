// What the embedded log can be told. Every limit has a unit and a default.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "proto/base/scheduler.h"

namespace rocksdb {
class Env;
}

namespace clarion::log {

// When events go (DESIGN section 8). An event is expired from accepted_at + age on.
struct RetentionLimits {
  std::chrono::milliseconds age = std::chrono::hours(24);
  // For critical events that nobody acknowledged; not less than `age`.
  std::chrono::milliseconds critical_age = std::chrono::hours(168);
  // Events of one thread. Held up by unacknowledged critical events, as the age is. At least 1.
  uint64_t max_events = 1'000'000;
  // Stored bytes of one thread's events: the hard limit, which nothing holds up but the newest
  // event.
  uint64_t max_bytes = 64ull << 20;
};

struct EmbeddedOptions {
  // The database's folder; made if it does not exist.
  std::string path;
  // Clock and timer. Required; outlives the log.
  Scheduler* scheduler = nullptr;
  // Where files are. Null: the operating system's. Outlives the log.
  rocksdb::Env* env = nullptr;
  // Names the time since the machine started. Empty: /proc/sys/kernel/random/boot_id.
  std::string boot_id;

  RetentionLimits retention;
  // How often ages are checked; and how many threads that are not in memory are looked at each
  // time.
  std::chrono::milliseconds retention_interval = std::chrono::seconds(10);
  size_t retention_scan_threads = 20'000;

  // How long a deleted thread's id is refused; then it may be used again.
  std::chrono::milliseconds tombstone_age = std::chrono::hours(24 * 90);
  // The bytes of what was deleted are removed from the disk after this; what is deleted meanwhile
  // goes with it. At the next check of ages, which also sees to what an earlier process left.
  std::chrono::milliseconds purge_after = std::chrono::minutes(10);

  // Open runs of one thread.
  size_t max_open_runs = 100;

  // Calls that wait for a commit: their number, and the bytes of their events. Beyond:
  // BUFFER_OVERFLOW.
  size_t max_queued_ops = 100'000;
  size_t max_queued_bytes = 64u << 20;
  // Reads that wait. Beyond: BUFFER_OVERFLOW.
  size_t max_queued_reads = 16'384;
  // One commit takes no further call once it holds so many bytes.
  size_t max_commit_bytes = 4u << 20;

  // The newest events of a thread in memory. When there are more than this, all are written as
  // chunks and the older half leaves memory.
  size_t tail_events = 512;
  size_t tail_bytes = 1u << 20;
  // Event bytes of one chunk; a chunk holds at least one event.
  size_t chunk_bytes = 128u << 10;

  // Threads in memory, and the bytes of their tails, id tables and runs. Beyond, the least recently
  // used leave.
  size_t max_threads = 200'000;
  size_t max_memory_bytes = 512u << 20;
  // Bytes of the journal that are still needed. Beyond, the threads whose records are the oldest
  // are written to chunks. Bounds the time to open as well.
  size_t max_journal_bytes = 256u << 20;

  // Threads that read from the disk.
  int disk_readers = 2;
  // How long after a failed write the disk is tried again: at first, doubled each time, and at
  // most.
  std::chrono::milliseconds reopen_interval{200};
  std::chrono::milliseconds reopen_interval_max{5'000};

  // RocksDB: cache of blocks, memory of one write buffer (the journal has up to three), in bytes.
  size_t block_cache_bytes = 64u << 20;
  size_t write_buffer_bytes = 32u << 20;
};

}  // namespace clarion::log
