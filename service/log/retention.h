// Where a thread's floor should be by age, count and bytes (DESIGN section 8, "Retention").
#pragma once

#include "service/log/effects.h"
#include "service/log/embedded_options.h"
#include "service/log/thread_image.h"

namespace clarion::log {

// The floor that `image`, with `staged` on top, should have; at least staged.counters.floor, at
// most L+1. By age, events in chunks go by the chunk. A limit that is exceeded is kept with some
// room, so that the floor does not move with every event.
Offset RetentionFloor(const ThreadImage& image, const Effects& staged,
                      const RetentionLimits& limits, WallTime now);

// Whether the count or the bytes are over their limit: cheap, for every append.
bool ExceedsLimits(const ThreadImage& image, const Effects& staged, uint64_t staged_bytes,
                   const RetentionLimits& limits);

// Whether a thread with this checkpoint may have something to remove: if not, it need not be
// loaded.
bool MayExpire(const StoredMeta& meta, const RetentionLimits& limits, WallTime now);

}  // namespace clarion::log
