#include "service/log/retention.h"

#include <algorithm>

namespace clarion::log {
namespace {

// Some part of a thread that goes at once: a chunk, or one event that is in none.
struct Piece {
  Offset last;
  uint64_t bytes;
  WallTime last_time;
};

// Calls `visit` for the pieces from the floor on, oldest first, until it answers false.
template <class Visit>
void ForEachPiece(const ThreadImage& image, const Effects& staged, Visit visit) {
  const Offset floor = staged.counters.floor;
  for (const ChunkInfo& chunk : image.chunks()) {
    if (chunk.last < floor) continue;
    if (!visit(Piece{chunk.last, chunk.bytes, chunk.last_time})) return;
  }
  const Offset unspilled = std::max({image.spilled().next(), image.tail_first(), floor});
  for (Offset at = unspilled; at <= image.counters().last; at = at.next()) {
    const LoggedEvent& logged = image.TailAt(at);
    if (!visit(Piece{at, logged.event->bytes().size(), logged.accepted_at})) return;
  }
  Offset at = image.counters().last;
  for (const LoggedEvent& logged : staged.events) {
    at = at.next();
    if (at < floor) continue;
    if (!visit(Piece{at, logged.event->bytes().size(), logged.accepted_at})) return;
  }
}

uint64_t WithRoom(uint64_t limit) {
  return limit - limit / 64;
}

Offset FloorByAge(const ThreadImage& image, const Effects& staged, const RetentionLimits& limits,
                  WallTime now) {
  Offset floor = staged.counters.floor;
  ForEachPiece(image, staged, [&](const Piece& piece) {
    if (piece.last_time + limits.age > now) return false;
    floor = piece.last.next();
    return true;
  });
  return floor;
}

Offset FloorByCount(const Effects& staged, const RetentionLimits& limits) {
  const uint64_t end = staged.counters.last.value() + 1;
  const Offset floor = staged.counters.floor;
  if (end - floor.value() <= limits.max_events) return floor;
  return Offset(end - std::max<uint64_t>(WithRoom(limits.max_events), 1));
}

// The first critical event that nobody acknowledged and whose longer retention has not ended.
Offset FirstHeld(const ThreadImage& image, const Effects& staged, const RetentionLimits& limits,
                 WallTime now) {
  const Offset pending = std::max(staged.counters.acknowledged.next(), staged.counters.floor);
  for (const PendingCritical& critical : image.pending_criticals()) {
    if (critical.offset >= pending && critical.accepted_at + limits.critical_age > now) {
      return critical.offset;
    }
  }
  Offset at = image.counters().last;
  for (const LoggedEvent& logged : staged.events) {
    at = at.next();
    if (logged.critical && at >= pending && logged.accepted_at + limits.critical_age > now)
      return at;
  }
  return staged.counters.last.next();
}

// Nothing holds this up but the newest event.
Offset FloorByBytes(const ThreadImage& image, const Effects& staged,
                    const RetentionLimits& limits) {
  uint64_t kept = image.stored_bytes();
  for (const LoggedEvent& logged : staged.events) kept += logged.event->bytes().size();
  if (kept <= limits.max_bytes) return staged.counters.floor;
  kept = 0;  // exactly: the floor may have been raised in this commit
  ForEachPiece(image, staged, [&](const Piece& piece) {
    kept += piece.bytes;
    return true;
  });
  Offset floor = staged.counters.floor;
  if (kept <= limits.max_bytes) return floor;
  ForEachPiece(image, staged, [&](const Piece& piece) {
    if (kept <= WithRoom(limits.max_bytes)) return false;
    kept -= piece.bytes;
    // A chunk that holds the newest event goes up to it.
    floor = std::min(piece.last.next(), staged.counters.last);
    return true;
  });
  return floor;
}

}  // namespace

bool ExceedsLimits(const ThreadImage& image, const Effects& staged, uint64_t staged_bytes,
                   const RetentionLimits& limits) {
  const Counters& counters = staged.counters;
  return counters.last.value() + 1 - counters.floor.value() > limits.max_events ||
         image.stored_bytes() + staged_bytes > limits.max_bytes;
}

Offset RetentionFloor(const ThreadImage& image, const Effects& staged,
                      const RetentionLimits& limits, WallTime now) {
  const Offset wanted =
      std::max(FloorByAge(image, staged, limits, now), FloorByCount(staged, limits));
  const Offset allowed = std::min(wanted, FirstHeld(image, staged, limits, now));
  return std::max({allowed, FloorByBytes(image, staged, limits), staged.counters.floor});
}

bool MayExpire(const StoredMeta& meta, const RetentionLimits& limits, WallTime now) {
  // Chunks that nobody removed before the thread left memory: loading it does.
  if (meta.counters.last < meta.counters.floor) return meta.oldest != WallTime{};
  if (meta.oldest + limits.age > now) return false;
  return meta.oldest_critical == WallTime{} || meta.oldest_critical + limits.critical_age <= now ||
         meta.oldest_critical > meta.oldest;
}

}  // namespace clarion::log
