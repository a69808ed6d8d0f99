#include "gateway/drain.h"

#include <algorithm>

#include "gateway/timer_wheel.h"
#include "proto/contract/close_code.h"

namespace clarion::gateway {

void Drain::Advance(std::chrono::steady_clock::time_point now) {
  using std::chrono::duration_cast;
  using std::chrono::steady_clock;
  const auto each =
      duration_cast<steady_clock::duration>(std::chrono::duration<double>(1.0 / plan_.per_second));
  const bool last = now >= plan_.end;
  // Time in which the loop did not turn is lost: who made up for it would come back all at once.
  constexpr steady_clock::duration kLate = TimerWheel::kTick * 3 / 2;
  told_until_ = std::max(told_until_, now - std::max(each, kLate));
  while (last || told_until_ + each <= now) {
    ConnectionListHook* const connection = Next();
    if (connection == nullptr) return;
    told_until_ += each;
    // Those of one tick come back one after the other as well.
    const auto comes_back = told_until_ + TimerWheel::kTick;
    const auto later = comes_back > now ? comes_back - now : steady_clock::duration::zero();
    SendAway(*connection, duration_cast<std::chrono::milliseconds>(later));
  }
}

ConnectionListHook* Drain::Next() {
  while (!waiting_.empty()) {
    ConnectionListHook& connection = waiting_.front();
    if (!connection.FollowsOpenRun()) return &connection;
    waiting_.pop_front();
    busy_.push_back(connection);
  }
  return busy_.empty() ? nullptr : &busy_.front();
}

void Drain::SendAway(ConnectionListHook& connection, std::chrono::milliseconds later) {
  connection.unlink();
  gone_.push_back(connection);
  connection.GoAway(RowOf(CloseCode::kGoingAway).retry_after_ms +
                    static_cast<uint32_t>(later.count()));
}

}  // namespace clarion::gateway
