#include "service/log/recovery.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "rocksdb/write_batch.h"
#include "service/log/bytes.h"
#include "service/log/checkpoint.h"
#include "service/log/journal_record.h"

namespace clarion::log {
namespace {

// Keys of the family `default`.
constexpr std::string_view kFormatKey = "format";
constexpr std::string_view kIncarnationKey = "incarnation";
constexpr std::string_view kBootIdKey = "boot_id";
constexpr std::string_view kCleanKey = "clean";
constexpr std::string_view kJournalStartKey = "journal_start";
constexpr std::string_view kLedgerKey = "ledger";

constexpr uint64_t kFormat = 3;
// Checkpoints that recovery writes at once.
constexpr size_t kRecoveryBatchBytes = 4u << 20;

std::string EncodeNumber(uint64_t value) {
  std::string bytes;
  ByteWriter(&bytes).Varint(value);
  return bytes;
}

absl::StatusOr<std::optional<uint64_t>> GetNumber(Store& store, std::string_view key) {
  absl::StatusOr<std::optional<std::string>> bytes = store.Get(Family::kMeta, key);
  if (!bytes.ok()) return bytes.status();
  if (!*bytes) return std::nullopt;
  ByteReader in(**bytes);
  const uint64_t value = in.Varint();
  if (!in.ok())
    return absl::DataLossError(absl::StrCat("the entry ", std::string(key), " is broken"));
  return value;
}

absl::StatusOr<std::string> BootId(const EmbeddedOptions& options) {
  if (!options.boot_id.empty()) return options.boot_id;
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot_id;
  if (!std::getline(file, boot_id) || boot_id.empty()) {
    return absl::UnavailableError("the kernel's boot id cannot be read");
  }
  return boot_id;
}

absl::Status CheckFormat(Store& store) {
  absl::StatusOr<std::optional<uint64_t>> format = GetNumber(store, kFormatKey);
  if (!format.ok()) return format.status();
  if (*format && **format != kFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat("it has format ", **format, ", and this version reads format ", kFormat));
  }
  return absl::OkStatus();
}

// The journal, record by record, over the checkpoints.
class Replay {
 public:
  explicit Replay(Store& store) : store_(store) {}

  absl::Status Run() {
    absl::StatusOr<std::optional<uint64_t>> start = GetNumber(store_, kJournalStartKey);
    if (!start.ok()) return start.status();
    const uint64_t first = start->value_or(1);
    last_sequence_ = first - 1;
    if (absl::Status status = FindLedger(); !status.ok()) return status;
    absl::Status status =
        store_.Scan(Family::kJournal, "", JournalKey(first), nullptr,
                    [&](std::string_view key, std::string_view value) -> absl::StatusOr<bool> {
                      absl::Status record = OneRecord(SequenceOfKey(key), value);
                      if (!record.ok()) return record;
                      return true;
                    });
    if (!status.ok()) return status;
    return CheckWhole();
  }

  uint64_t last_sequence() const { return last_sequence_; }
  uint64_t journal_bytes() const { return journal_bytes_; }
  const Ledger& ledger() const { return ledger_; }
  // Ascending by first_sequence; complete or not.
  std::vector<RecoveredThread> TakeThreads() {
    std::vector<RecoveredThread> threads;
    for (const ThreadId& id : order_) {
      const auto entry = threads_.find(id);
      if (entry == threads_.end() || entry->second.first_sequence == 0) continue;
      if (entry->second.image->blank()) continue;
      threads.push_back({std::move(entry->second.image), entry->second.first_sequence,
                         entry->second.journal_bytes_before});
      threads_.erase(entry);
    }
    // A thread that was erased and began anew stands where it first was.
    std::sort(threads.begin(), threads.end(),
              [](const auto& a, const auto& b) { return a.first_sequence < b.first_sequence; });
    return threads;
  }

 private:
  struct Entry {
    std::unique_ptr<ThreadImage> image;
    uint64_t applied = 0;
    uint64_t first_sequence = 0;
    uint64_t journal_bytes_before = 0;
    // Records do not fit onto each other: only right if the thread is erased further on, for then
    // the checkpoint they built on is gone already.
    bool torn = false;
  };

  // As it was when the journal's beginning was given up; the last record says it anew.
  absl::Status FindLedger() {
    absl::StatusOr<std::optional<std::string>> bytes = store_.Get(Family::kMeta, kLedgerKey);
    if (!bytes.ok() || !*bytes) return bytes.status();
    ByteReader in(**bytes);
    ledger_ = ReadLedger(in);
    return in.ok() ? absl::OkStatus() : absl::DataLossError("the entry ledger is broken");
  }

  absl::Status OneRecord(uint64_t sequence, std::string_view value) {
    if (sequence != last_sequence_ + 1) {
      return absl::DataLossError(absl::StrCat("the journal lacks records after ", last_sequence_));
    }
    absl::Status status =
        ReadJournalRecord(value, ledger_, [&](const ThreadId& thread, Effects& effects) {
          return OneSection(sequence, thread, effects);
        });
    last_sequence_ = sequence;
    journal_bytes_ += value.size();
    return status;
  }

  absl::Status OneSection(uint64_t sequence, const ThreadId& thread, Effects& effects) {
    absl::StatusOr<Entry*> found = Find(thread);
    if (!found.ok()) return found.status();
    Entry& entry = **found;
    if (sequence <= entry.applied) return absl::OkStatus();
    if (effects.erased) {
      entry = Entry{std::make_unique<ThreadImage>(thread), sequence};
      return absl::OkStatus();
    }
    if (entry.first_sequence == 0) {
      entry.first_sequence = sequence;
      entry.journal_bytes_before = journal_bytes_;
      order_.push_back(thread);
    }
    const Counters& now = entry.image->counters();
    if (now.last.value() + effects.events.size() != effects.counters.last.value() ||
        effects.counters.floor < now.floor) {
      entry.torn = true;
    }
    if (entry.torn) return absl::OkStatus();
    entry.image->IndexEvents(effects);
    entry.image->Apply(effects);
    return absl::OkStatus();
  }

  absl::StatusOr<Entry*> Find(const ThreadId& thread) {
    auto [entry, inserted] = threads_.try_emplace(thread);
    if (inserted) {
      auto image = LoadThreadMeta(store_, thread, LoadRuns::kYes, nullptr, &entry->second.applied);
      if (!image.ok()) return image.status();
      entry->second.image = *std::move(image);
    }
    return &entry->second;
  }

  absl::Status CheckWhole() const {
    for (const auto& [id, entry] : threads_) {
      if (entry.torn) {
        return absl::DataLossError(
            absl::StrCat("the journal does not fit the checkpoint of thread ", id.str()));
      }
    }
    return absl::OkStatus();
  }

  Store& store_;
  uint64_t last_sequence_ = 0;
  uint64_t journal_bytes_ = 0;
  Ledger ledger_;
  absl::flat_hash_map<ThreadId, Entry> threads_;
  std::vector<ThreadId> order_;
};

// Threads of which only a part was read leave memory again: what the journal added to them goes to
// chunks.
absl::Status StoreIncomplete(Recovered& recovered, const EmbeddedOptions& options) {
  Store& store = *recovered.store;
  rocksdb::WriteBatch batch;
  std::vector<RecoveredThread> complete;
  for (RecoveredThread& thread : recovered.threads) {
    if (thread.image->complete()) {
      complete.push_back(std::move(thread));
      continue;
    }
    AddCheckpoint(store, *thread.image, recovered.last_sequence, options, batch);
    if (batch.GetDataSize() < kRecoveryBatchBytes) continue;
    if (absl::Status status = store.Write(batch, false); !status.ok()) return status;
    batch.Clear();
  }
  recovered.threads = std::move(complete);
  return store.Write(batch, false);
}

// Decides the incarnation and makes it, and all before it, durable.
absl::Status BeginIncarnation(Recovered& recovered, const EmbeddedOptions& options,
                              std::optional<uint64_t> shown) {
  Store& store = *recovered.store;
  const absl::StatusOr<std::string> boot_id = BootId(options);
  if (!boot_id.ok()) return boot_id.status();
  const auto incarnation = GetNumber(store, kIncarnationKey);
  if (!incarnation.ok()) return incarnation.status();
  const auto last_boot = store.Get(Family::kMeta, kBootIdKey);
  if (!last_boot.ok()) return last_boot.status();
  const auto clean = GetNumber(store, kCleanKey);
  if (!clean.ok()) return clean.status();

  const bool first_time = !incarnation->has_value();
  const bool machine_lasted = clean->has_value() || *last_boot == *boot_id;
  // This process knows what it has shown; another one has to expect the worst after a failed write.
  const bool lost = shown.has_value() ? recovered.last_sequence < *shown : IsDoubtful(options);
  recovered.incarnation = incarnation->value_or(0);
  if (first_time || !machine_lasted || lost) ++recovered.incarnation;

  rocksdb::WriteBatch batch;
  rocksdb::ColumnFamilyHandle* meta = store.family(Family::kMeta);
  batch.Put(meta, ToSlice(kFormatKey), EncodeNumber(kFormat));
  batch.Put(meta, ToSlice(kIncarnationKey), EncodeNumber(recovered.incarnation));
  batch.Put(meta, ToSlice(kBootIdKey), *boot_id);
  batch.Delete(meta, ToSlice(kCleanKey));
  if (absl::Status status = store.Write(batch, /*sync=*/true); !status.ok()) return status;
  ClearDoubt(options);
  return absl::OkStatus();
}

absl::Status RecoverOpened(Recovered& recovered, const EmbeddedOptions& options,
                           std::optional<uint64_t> shown) {
  Store& store = *recovered.store;
  if (absl::Status status = CheckFormat(store); !status.ok()) return status;
  Replay replay(store);
  if (absl::Status status = replay.Run(); !status.ok()) return status;
  recovered.last_sequence = replay.last_sequence();
  recovered.journal_bytes = replay.journal_bytes();
  recovered.ledger = replay.ledger();
  recovered.threads = replay.TakeThreads();
  absl::StatusOr<std::vector<PurgeEntry>> purge = ReadPurgeEntries(store);
  if (!purge.ok()) return purge.status();
  recovered.purge = *std::move(purge);
  if (absl::Status status = StoreIncomplete(recovered, options); !status.ok()) return status;
  return BeginIncarnation(recovered, options, shown);
}

}  // namespace

absl::StatusOr<Recovered> Recover(const EmbeddedOptions& options, std::optional<uint64_t> shown,
                                  std::function<void()> on_closed) {
  absl::StatusOr<std::shared_ptr<Store>> store = Store::Open(options, std::move(on_closed));
  if (!store.ok()) return store.status();
  Recovered recovered;
  recovered.store = *std::move(store);
  if (absl::Status status = RecoverOpened(recovered, options, shown); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat("the event log at ", options.path,
                                                    " cannot be opened: ", status.message()));
  }
  return recovered;
}

absl::Status MarkCleanShutdown(Store& store) {
  rocksdb::WriteBatch batch;
  batch.Put(store.family(Family::kMeta), ToSlice(kCleanKey), EncodeNumber(1));
  return store.Write(batch, /*sync=*/true);
}

void AddJournalStart(Store& store, uint64_t sequence, const Ledger& ledger,
                     rocksdb::WriteBatch& batch) {
  std::string bytes;
  ByteWriter out(&bytes);
  WriteLedger(ledger, out);
  batch.Put(store.family(Family::kMeta), ToSlice(kLedgerKey), bytes);
  batch.Put(store.family(Family::kMeta), ToSlice(kJournalStartKey), EncodeNumber(sequence));
}

}  // namespace clarion::log
