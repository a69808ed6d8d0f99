#include "service/log/journal_record.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/log/bytes.h"

namespace clarion::log {
namespace {

constexpr uint8_t kRecordVersion = 4;

enum SectionFlag : uint8_t {
  kHasOwner = 1,
  kHasEpoch = 2,
  kHasEvents = 4,
  kHasRuns = 8,
  kFloorDeleted = 16,
  kErased = 32,
  kHasExpired = 64,
};

uint8_t FlagsOf(const Effects& effects) {
  uint8_t flags = 0;
  if (effects.owner) flags |= kHasOwner;
  if (effects.epoch) flags |= kHasEpoch;
  if (!effects.events.empty()) flags |= kHasEvents;
  if (!effects.runs.empty()) flags |= kHasRuns;
  if (effects.floor_reason == FloorReason::kDeleted) flags |= kFloorDeleted;
  if (effects.erased) flags |= kErased;
  if (!effects.expired.empty()) flags |= kHasExpired;
  return flags;
}

void WriteEvent(const LoggedEvent& logged, ByteWriter& out) {
  out.Byte(logged.critical ? 1 : 0);
  out.Digest128(logged.id);
  out.Digest128(logged.content);
  out.Time(logged.accepted_at);
  out.Varint(logged.run.value());
  out.Varint(logged.event->json_bytes());
  out.String(logged.event->bytes());
}

LoggedEvent ReadEvent(ByteReader& in) {
  LoggedEvent logged;
  logged.critical = in.Byte() != 0;
  logged.id = in.Digest128();
  logged.content = in.Digest128();
  logged.accepted_at = in.Time();
  logged.run = Offset(in.Varint());
  const size_t json_bytes = in.Varint();
  const std::string_view bytes = in.String();
  if (json_bytes > bytes.size()) in.Fail();
  logged.event =
      std::make_shared<EncodedEvent>(std::string(bytes), std::min(json_bytes, bytes.size()));
  return logged;
}

void ReadSection(uint8_t flags, ByteReader& in, Effects& effects) {
  Counters& counters = effects.counters;
  counters.last = Offset(in.Varint());
  counters.floor = Offset(in.Varint());
  counters.acknowledged = Offset(in.Varint());
  counters.acknowledged_count = in.Varint();
  counters.expired_count = in.Varint();
  counters.last_append = in.Time();
  if (flags & kFloorDeleted) effects.floor_reason = FloorReason::kDeleted;
  if (flags & kHasOwner) effects.owner = UserId(in.String());
  if (flags & kHasEpoch) {
    EpochMark& mark = effects.epoch.emplace();
    mark.epoch = Epoch(in.String());
    mark.incarnation = in.Varint();
    mark.first = Offset(in.Varint());
  }
  if (flags & kHasEvents) {
    for (uint64_t n = in.Varint(); n > 0 && in.ok(); --n) effects.events.push_back(ReadEvent(in));
  }
  if (flags & kHasRuns) {
    for (uint64_t n = in.Varint(); n > 0 && in.ok(); --n) effects.runs.push_back(ReadRun(in));
  }
  if (flags & kHasExpired) effects.expired = ReadExpired(in);
}

}  // namespace

void WriteLedger(const Ledger& ledger, ByteWriter& out) {
  for (const LedgerCounts* counts : {&ledger.total, &ledger.deleted_threads}) {
    out.Varint(counts->accepted);
    out.Varint(counts->acknowledged);
    out.Varint(counts->expired);
  }
}

Ledger ReadLedger(ByteReader& in) {
  Ledger ledger;
  for (LedgerCounts* counts : {&ledger.total, &ledger.deleted_threads}) {
    counts->accepted = in.Varint();
    counts->acknowledged = in.Varint();
    counts->expired = in.Varint();
  }
  return ledger;
}

void WriteExpired(const std::vector<ExpiredRange>& ranges, ByteWriter& out) {
  out.Varint(ranges.size());
  for (const ExpiredRange& range : ranges) {
    out.String(range.epoch.str());
    out.Varint(range.from.value());
    out.Varint(range.to.value());
    out.Varint(range.count);
    out.Byte(range.reason == FloorReason::kDeleted ? 1 : 0);
    out.Time(range.at);
  }
}

std::vector<ExpiredRange> ReadExpired(ByteReader& in) {
  std::vector<ExpiredRange> ranges;
  for (uint64_t n = in.Varint(); n > 0 && in.ok(); --n) {
    ExpiredRange& range = ranges.emplace_back();
    range.epoch = Epoch(in.String());
    range.from = Offset(in.Varint());
    range.to = Offset(in.Varint());
    range.count = in.Varint();
    range.reason = in.Byte() != 0 ? FloorReason::kDeleted : FloorReason::kExpired;
    range.at = in.Time();
  }
  return ranges;
}

void WriteRun(const RunRecord& run, ByteWriter& out) {
  out.String(run.run_id.str());
  out.String(run.agent_name);
  out.String(run.data);
  out.Digest128(run.fence);
  out.String(run.parent.str());
  out.Varint(run.start.value());
  out.Varint(run.end.value());
  out.Varint(run.last.value());
  out.Time(run.last_at);
  out.Byte(run.outcome);
  out.Byte(run.suspended ? 1 : 0);
  out.Time(run.suspended_until);
  out.Varint(run.open.size());
  for (const OpenPart& part : run.open) {
    out.Byte(static_cast<uint8_t>(part.kind));
    out.String(part.name);
    out.String(part.tool_name);
  }
}

RunRecord ReadRun(ByteReader& in) {
  RunRecord run;
  run.run_id = RunId(in.String());
  run.agent_name = in.String();
  run.data = in.String();
  run.fence = in.Digest128();
  run.parent = RunId(in.String());
  run.start = Offset(in.Varint());
  run.end = Offset(in.Varint());
  run.last = Offset(in.Varint());
  run.last_at = in.Time();
  run.outcome = in.Byte();
  run.suspended = in.Byte() != 0;
  run.suspended_until = in.Time();
  for (uint64_t n = in.Varint(); n > 0 && in.ok(); --n) {
    OpenPart& part = run.open.emplace_back();
    part.kind = in.Byte() == 0 ? OpenPart::Kind::kTool : OpenPart::Kind::kStep;
    part.name = in.String();
    part.tool_name = in.String();
  }
  return run;
}

void JournalRecordWriter::Begin(const Ledger& ledger) {
  bytes_.clear();
  sections_ = 0;
  ByteWriter out(&bytes_);
  out.Byte(kRecordVersion);
  WriteLedger(ledger, out);
}

void JournalRecordWriter::Add(const ThreadId& thread, const Effects& effects) {
  ++sections_;
  ByteWriter out(&bytes_);
  out.String(thread.str());
  out.Byte(FlagsOf(effects));
  if (effects.erased) return;
  const Counters& counters = effects.counters;
  out.Varint(counters.last.value());
  out.Varint(counters.floor.value());
  out.Varint(counters.acknowledged.value());
  out.Varint(counters.acknowledged_count);
  out.Varint(counters.expired_count);
  out.Time(counters.last_append);
  if (effects.owner) out.String(effects.owner->str());
  if (effects.epoch) {
    out.String(effects.epoch->epoch.str());
    out.Varint(effects.epoch->incarnation);
    out.Varint(effects.epoch->first.value());
  }
  if (!effects.events.empty()) {
    out.Varint(effects.events.size());
    for (const LoggedEvent& logged : effects.events) WriteEvent(logged, out);
  }
  if (!effects.runs.empty()) {
    out.Varint(effects.runs.size());
    for (const RunRecord& run : effects.runs) WriteRun(run, out);
  }
  if (!effects.expired.empty()) WriteExpired(effects.expired, out);
}

absl::Status ReadJournalRecord(
    std::string_view bytes, Ledger& ledger,
    const std::function<absl::Status(const ThreadId& thread, Effects& effects)>& section) {
  ByteReader in(bytes);
  if (const uint8_t version = in.Byte(); version != kRecordVersion) {
    return absl::DataLossError(absl::StrCat("journal record of unknown version ", version));
  }
  ledger = ReadLedger(in);
  Effects effects;
  while (!in.done()) {
    effects.Clear();
    const ThreadId thread(in.String());
    const uint8_t flags = in.Byte();
    effects.erased = (flags & kErased) != 0;
    if (!effects.erased) ReadSection(flags, in, effects);
    if (!in.ok()) break;
    if (absl::Status status = section(thread, effects); !status.ok()) return status;
  }
  return in.ok() ? absl::OkStatus() : absl::DataLossError("journal record is cut short");
}

}  // namespace clarion::log
