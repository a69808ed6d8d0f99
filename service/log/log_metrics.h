// What the embedded log counts.
#pragma once

#include "telemetry/metrics.h"

namespace clarion::log {

struct LogMetrics {
  Counter& commits = GetCounter("clarion_log_commits_total", "Groups of calls committed");
  Counter& synced_commits =
      GetCounter("clarion_log_synced_commits_total", "Commits that waited for stable storage");
  Counter& failed_commits = GetCounter("clarion_log_failed_commits_total", "Commits that failed");
  Counter& reopened =
      GetCounter("clarion_log_reopened_total", "Times the database was opened again");
  // --- The ledger; canaries of wiring checks left out.
  Gauge& events_acknowledged = EventsIn("acknowledged");
  Gauge& events_pending = EventsIn("pending");
  Gauge& events_expired = EventsIn("expired");
  Counter& accepted =
      GetCounter("clarion_events_accepted_total", "Events accepted for the first time");
  Counter& duplicates =
      GetCounter("clarion_events_duplicate_total", "Events that had been accepted before");
  Counter& acknowledged =
      GetCounter("clarion_events_acknowledged_total", "Events that their user acknowledged");
  Counter& expired = Expired("expired");
  Counter& deleted = Expired("deleted");

  // --- The engine.
  Counter& event_bytes = GetCounter("clarion_log_event_bytes_total",
                                    "Bytes of events appended, those of wiring checks too");
  Counter& overflows =
      GetCounter("clarion_log_overflows_total", "Calls refused because a queue was full");
  Counter& spills = GetCounter("clarion_log_spills_total", "Threads whose events went to chunks");
  Counter& loads = GetCounter("clarion_log_loads_total", "Threads read back into memory");
  Counter& evictions = GetCounter("clarion_log_evictions_total", "Threads that left memory");
  Counter& failed_trims = GetCounter("clarion_log_failed_trims_total",
                                     "Times the journal's space could not be given back");
  Counter& unreadable_checkpoints =
      GetCounter("clarion_log_unreadable_checkpoints_total",
                 "Checkpoints that retention met and could not read, each time it did");
  Counter& disk_reads = GetCounter("clarion_log_disk_reads_total", "Reads that went to the disk");
  Gauge& threads = GetGauge("clarion_log_threads", "Threads in memory");
  Gauge& memory_bytes = GetGauge("clarion_log_memory_bytes", "Memory of the threads in memory");
  Gauge& journal_bytes =
      GetGauge("clarion_log_journal_bytes", "Journal that was not given back yet");
  Counter& purged = GetCounter("clarion_log_purged_threads_total",
                               "Deleted threads whose bytes are gone from the disk");
  Counter& failed_purges = GetCounter("clarion_log_failed_purges_total",
                                      "Times they could not be removed; it is tried again");
  Gauge& purge_pending = GetGauge("clarion_log_purge_pending_threads",
                                  "Deleted threads whose bytes may still be on the disk");
  Gauge& incarnation = GetGauge("clarion_log_incarnation", "Incarnation of the log");

 private:
  static Gauge& EventsIn(const char* state) {
    return GetGauge("clarion_events", "All events ever accepted, by what became of them",
                    {{"state", state}});
  }
  static Counter& Expired(const char* reason) {
    return GetCounter("clarion_events_expired_total",
                      "Events that went before anybody acknowledged them", {{"reason", reason}});
  }
};

}  // namespace clarion::log
