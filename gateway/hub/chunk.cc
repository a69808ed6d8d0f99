#include "gateway/hub/chunk.h"

#include <algorithm>

namespace clarion::gateway {

std::optional<size_t> EventRun::IndexOf(Offset offset) const {
  size_t index = offset.value() - first_.value();
  if (merged_ > 0) {
    index = 0;
    for (uint64_t at = first_.value(); at < offset.value() && index < events_.size(); ++index) {
      at += events_[index]->offsets();
      if (at > offset.value()) return std::nullopt;
    }
  }
  if (index > events_.size() || offset > last().next()) return std::nullopt;
  return index;
}

bool Chunk::compacted() const {
  return std::any_of(runs.begin(), runs.end(), [](const EventRun& run) { return run.compacted(); });
}

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
