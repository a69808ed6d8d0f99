#include "gateway/hub/chunk.h"

namespace clarion::gateway {

Offset NextAfter(Offset from, const std::vector<v1::Missed>& missed) {
  for (const v1::Missed& range : missed) {
    from = Offset(range.has_discard_after() ? range.discard_after() : range.to_offset()).next();
  }
  return from;
}

bool Continues(const Cursor& from, const Chunk& chunk) {
  Offset next = from.offset.next();
  for (const v1::Missed& range : chunk.missed) {
    const bool fits = range.has_discard_after() ? Offset(range.discard_after()) < next
                                                : Offset(range.from_offset()) == next &&
                                                      Offset(range.to_offset()) >= next;
    if (!fits) return false;
    next = NextAfter(next, {range});
  }
  for (const EventRun& run : chunk.runs) {
    if (run.events().empty() || run.first() != next) return false;
    next = run.last().next();
  }
  return true;
}

}  // namespace clarion::gateway
