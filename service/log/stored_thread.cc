#include "service/log/stored_thread.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/contract/error.h"
#include "service/log/bytes.h"
#include "service/log/journal_record.h"

namespace clarion::log {
namespace {

constexpr uint8_t kThreadVersion = 4;

absl::Status CheckVersion(ByteReader& in, std::string_view what) {
  const uint8_t version = in.Byte();
  if (version == kThreadVersion) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(std::string(what), " of unknown version ", version));
}

absl::Status Broken(std::string_view what) {
  return absl::DataLossError(absl::StrCat(std::string(what), " is broken"));
}

}  // namespace

absl::Status Unreadable(const absl::Status& status, std::string_view operation,
                        const ThreadId& thread) {
  return MakeError(Reason::kLogUnavailable, "the event log cannot be read at the moment",
                   {.thread_id = thread.str(),
                    .operation = std::string(operation),
                    .cause = std::string(status.message())});
}

std::string EncodeMeta(const StoredMeta& meta) {
  std::string bytes;
  ByteWriter out(&bytes);
  out.Byte(kThreadVersion);
  out.Varint(meta.applied);
  out.String(meta.owner.str());
  out.Varint(meta.counters.last.value());
  out.Varint(meta.counters.floor.value());
  out.Varint(meta.counters.acknowledged.value());
  out.Varint(meta.counters.acknowledged_count);
  out.Varint(meta.counters.expired_count);
  out.Time(meta.counters.last_append);
  out.Time(meta.oldest);
  out.Time(meta.oldest_critical);
  out.Varint(meta.epochs.size());
  for (const EpochMark& mark : meta.epochs) {
    out.String(mark.epoch.str());
    out.Varint(mark.incarnation);
    out.Varint(mark.first.value());
  }
  WriteExpired(meta.expired, out);
  return bytes;
}

absl::StatusOr<StoredMeta> DecodeMeta(std::string_view bytes) {
  ByteReader in(bytes);
  if (absl::Status status = CheckVersion(in, "checkpoint"); !status.ok()) return status;
  StoredMeta meta;
  meta.applied = in.Varint();
  meta.owner = UserId(in.String());
  meta.counters.last = Offset(in.Varint());
  meta.counters.floor = Offset(in.Varint());
  meta.counters.acknowledged = Offset(in.Varint());
  meta.counters.acknowledged_count = in.Varint();
  meta.counters.expired_count = in.Varint();
  meta.counters.last_append = in.Time();
  meta.oldest = in.Time();
  meta.oldest_critical = in.Time();
  for (uint64_t n = in.Varint(); n > 0 && in.ok(); --n) {
    EpochMark& mark = meta.epochs.emplace_back();
    mark.epoch = Epoch(in.String());
    mark.incarnation = in.Varint();
    mark.first = Offset(in.Varint());
  }
  meta.expired = ReadExpired(in);
  if (!in.ok()) return Broken("checkpoint");
  return meta;
}

std::string EncodeRun(const RunRecord& run) {
  std::string bytes;
  ByteWriter out(&bytes);
  out.Byte(kThreadVersion);
  WriteRun(run, out);
  return bytes;
}

absl::StatusOr<RunRecord> DecodeRun(std::string_view bytes) {
  ByteReader in(bytes);
  if (absl::Status status = CheckVersion(in, "run"); !status.ok()) return status;
  RunRecord run = ReadRun(in);
  if (!in.ok()) return Broken("run");
  return run;
}

EncodedChunk EncodeChunk(Offset first, absl::Span<const LoggedEvent* const> events) {
  EncodedChunk chunk;
  chunk.info = {first, Offset(first.value() + events.size() - 1), 0, events.back()->accepted_at};
  for (const LoggedEvent* logged : events) chunk.info.bytes += logged->event->bytes().size();

  chunk.events.reserve(chunk.info.bytes + events.size() * 6 + 16);
  ByteWriter out(&chunk.events);
  out.Byte(kThreadVersion);
  out.Varint(first.value());
  out.Varint(events.size());
  for (const LoggedEvent* logged : events) {
    out.Varint(logged->event->json_bytes());
    out.Varint(logged->event->bytes().size());
  }
  for (const LoggedEvent* logged : events) out.Raw(logged->event->bytes());

  ByteWriter ids(&chunk.ids);
  ids.Byte(kThreadVersion);
  ids.Varint(first.value());
  ids.Varint(events.size());
  ids.Varint(chunk.info.bytes);
  for (const LoggedEvent* logged : events) {
    ids.Digest128(logged->id);
    ids.Digest128(logged->content);
    ids.Byte(logged->critical ? 1 : 0);
    ids.Time(logged->accepted_at);
  }
  return chunk;
}

absl::StatusOr<StoredIds> DecodeIds(std::string_view bytes) {
  ByteReader in(bytes);
  if (absl::Status status = CheckVersion(in, "chunk's ids"); !status.ok()) return status;
  StoredIds stored;
  stored.info.first = Offset(in.Varint());
  const uint64_t count = in.Varint();
  stored.info.last = Offset(stored.info.first.value() + count - 1);
  stored.info.bytes = in.Varint();
  if (count == 0 || count > in.left()) return Broken("chunk's ids");
  stored.ids.reserve(count);
  for (uint64_t n = count; n > 0 && in.ok(); --n) {
    StoredId& id = stored.ids.emplace_back();
    id.id = in.Digest128();
    id.content = in.Digest128();
    id.critical = in.Byte() != 0;
    id.accepted_at = in.Time();
    stored.info.last_time = id.accepted_at;
  }
  if (!in.ok()) return Broken("chunk's ids");
  return stored;
}

absl::StatusOr<bool> ReadChunk(std::string_view bytes, Offset from, Offset until,
                               const EpochTable& epochs, PageBudget& budget,
                               std::vector<EventRun>& out, Offset* next) {
  ByteReader in(bytes);
  if (absl::Status status = CheckVersion(in, "chunk"); !status.ok()) return status;
  const Offset first(in.Varint());
  const uint64_t count = in.Varint();
  if (count > in.left()) return Broken("chunk");
  std::vector<std::pair<uint64_t, uint64_t>> sizes(count);  // of the JSON, of both
  for (auto& [json, both] : sizes) {
    json = in.Varint();
    both = in.Varint();
    if (json > both) return Broken("chunk");
  }
  if (first > from) return true;  // what is wanted is in no chunk
  Offset offset = first;
  for (const auto& [json, both] : sizes) {
    const std::string_view event = in.Raw(both);
    if (!in.ok()) return Broken("chunk");
    if (offset > until) return true;
    if (offset >= from) {
      if (!budget.Take(both)) return false;
      AppendToRuns(epochs.Of(offset), offset,
                   std::make_shared<EncodedEvent>(std::string(event), json), out);
      *next = offset.next();
    }
    offset = offset.next();
  }
  return true;
}

}  // namespace clarion::log
