#include "service/log/purge.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "rocksdb/db.h"
#include "service/log/bytes.h"

namespace clarion::log {
namespace {

// In the family `default`.
constexpr std::string_view kPurgePrefix = "purge ";
// More threads than this at once are taken as one range from the first to the last.
constexpr size_t kMaxRanges = 64;

std::string KeyOf(uint64_t sequence) {
  return std::string(kPurgePrefix) + JournalKey(sequence);
}

// From `begin` to before `end`.
struct Range {
  std::string begin;
  std::string end;
};

std::vector<Range> Drawn(std::vector<Range> ranges) {
  if (ranges.size() <= kMaxRanges) return ranges;
  Range whole = ranges.front();
  for (Range& range : ranges) {
    whole.begin = std::min(whole.begin, range.begin);
    whole.end = std::max(whole.end, range.end);
  }
  return {std::move(whole)};
}

absl::Status Compact(Store& store, Family family, const std::vector<Range>& ranges) {
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  for (const Range& range : ranges) {
    const rocksdb::Slice begin(range.begin);
    const rocksdb::Slice end(range.end);
    absl::Status status =
        FromRocks(store.db().CompactRange(options, store.family(family), &begin, &end));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Tables in memory to files: the write-ahead logs that hold what was written so far go with them.
absl::Status FlushAll(Store& store) {
  std::vector<rocksdb::ColumnFamilyHandle*> all;
  all.reserve(kFamilyNames.size());
  for (size_t i = 0; i < kFamilyNames.size(); ++i) all.push_back(store.family(Family(i)));
  return FromRocks(store.db().Flush({}, all));
}

// A merge keeps what a snapshot may still ask for.
absl::Status CheckNoOlderReader(Store& store, uint64_t sequence) {
  uint64_t oldest = 0;
  store.db().GetIntProperty(rocksdb::DB::Properties::kOldestSnapshotSequence, &oldest);
  if (oldest == 0 || oldest >= sequence) return absl::OkStatus();
  return absl::UnavailableError("a read that began before is under way");
}

}  // namespace

void AddPurgeEntry(Store& store, const PurgeEntry& entry, rocksdb::WriteBatch& batch) {
  std::string bytes;
  ByteWriter out(&bytes);
  out.String(entry.thread.str());
  out.String(entry.owner.str());
  batch.Put(store.family(Family::kMeta), KeyOf(entry.sequence), bytes);
}

absl::StatusOr<std::vector<PurgeEntry>> ReadPurgeEntries(Store& store) {
  std::vector<PurgeEntry> entries;
  absl::Status status =
      store.Scan(Family::kMeta, kPurgePrefix, kPurgePrefix, nullptr,
                 [&](std::string_view key, std::string_view value) -> absl::StatusOr<bool> {
                   ByteReader in(value);
                   PurgeEntry& entry = entries.emplace_back();
                   entry.sequence = SequenceOfKey(key.substr(kPurgePrefix.size()));
                   entry.thread = ThreadId(in.String());
                   entry.owner = UserId(in.String());
                   if (!in.ok()) return absl::DataLossError("a purge entry is broken");
                   return true;
                 });
  if (!status.ok()) return status;
  return entries;
}

absl::Status Purge(Store& store, uint64_t journal_start, const std::vector<PurgeEntry>& entries) {
  if (entries.empty()) return absl::OkStatus();
  rocksdb::DB& db = store.db();
  const std::string journal_end = JournalKey(journal_start);
  absl::Status status =
      FromRocks(db.DeleteRange({}, store.family(Family::kJournal), JournalKey(0), journal_end));
  if (!status.ok()) return status;
  const uint64_t sequence = db.GetLatestSequenceNumber();
  status = FlushAll(store);
  if (!status.ok()) return status;
  status = CheckNoOlderReader(store, sequence);
  if (!status.ok()) return status;

  std::vector<Range> threads;
  std::vector<Range> by_offset;
  std::vector<Range> owners;
  for (const PurgeEntry& entry : entries) {
    threads.push_back({entry.thread.str(), entry.thread.str() + '\0'});
    by_offset.push_back({ThreadPrefix(entry.thread), entry.thread.str() + '\1'});
    const std::string owner = OwnerKey(entry.owner, entry.thread);
    owners.push_back({owner, owner + '\0'});
  }
  threads = Drawn(std::move(threads));
  by_offset = Drawn(std::move(by_offset));
  owners = Drawn(std::move(owners));
  const std::array<std::pair<Family, const std::vector<Range>*>, 5> parts = {{
      {Family::kChunks, &by_offset},
      {Family::kIds, &by_offset},
      {Family::kRuns, &by_offset},
      {Family::kThreads, &threads},
      {Family::kOwners, &owners},
  }};
  for (const auto& [family, ranges] : parts) {
    status = Compact(store, family, *ranges);
    if (!status.ok()) return status;
  }
  status = Compact(store, Family::kJournal, {{JournalKey(0), journal_end}});
  if (!status.ok()) return status;

  // Last the entries themselves, which name the threads.
  for (const PurgeEntry& entry : entries) {
    status = FromRocks(db.Delete({}, store.family(Family::kMeta), KeyOf(entry.sequence)));
    if (!status.ok()) return status;
  }
  status = FromRocks(db.Flush({}, store.family(Family::kMeta)));
  if (!status.ok()) return status;
  return Compact(store, Family::kMeta,
                 {{KeyOf(entries.front().sequence), KeyOf(entries.back().sequence + 1)}});
}

}  // namespace clarion::log
