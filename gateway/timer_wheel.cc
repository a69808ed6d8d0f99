#include "gateway/timer_wheel.h"

#include <algorithm>

namespace clarion::gateway {

void TimerWheel::Arm(Entry& entry, Time deadline) {
  entry.unlink();
  entry.deadline_ = deadline;
  // The tick after the deadline's own: when it has passed, so has the deadline.
  SlotOf(std::max(TickOf(deadline), passed_) + 1).push_back(entry);
}

void TimerWheel::Advance(Time now) {
  const int64_t current = TickOf(now);
  // After a long pause one round over all slots finds everything.
  int64_t tick = std::max(passed_, current - static_cast<int64_t>(kSlots));
  passed_ = current;
  while (tick < current) {
    List visited;
    List& slot = SlotOf(++tick);
    visited.swap(slot);
    while (!visited.empty()) {
      Entry& entry = visited.front();
      visited.pop_front();
      if (entry.deadline_ > now) {
        slot.push_back(entry);  // due in a later round
      } else {
        entry.OnTimer(now);
      }
    }
  }
}

}  // namespace clarion::gateway
