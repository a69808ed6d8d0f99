// Deadlines of many connections on one timer: a hashed wheel, one per loop.
//
// Coarse on purpose: an entry fires up to two ticks late, never early. Arming and disarming cost a
// few pointers, which is what per-connection timers would not.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "boost/intrusive/list.hpp"

namespace clarion::gateway {

// On the loop's thread only.
class TimerWheel {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::milliseconds kTick{50};

  // Something with at most one deadline at a time. Destroying it disarms it.
  class Entry : public boost::intrusive::list_base_hook<
                    boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
   public:
    Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

    bool armed() const { return is_linked(); }
    void Disarm() { unlink(); }

   protected:
    ~Entry() = default;

   private:
    friend class TimerWheel;
    // The deadline has passed; disarmed. May arm this or any other entry, and destroy any.
    virtual void OnTimer(Time now) = 0;
    Time deadline_;
  };

  explicit TimerWheel(Time now) : passed_(TickOf(now)) {}
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  // Replaces the entry's deadline.
  void Arm(Entry& entry, Time deadline);
  // Fires what is due. Call once per tick; missed calls are made up for.
  void Advance(Time now);

 private:
  using List = boost::intrusive::list<Entry, boost::intrusive::constant_time_size<false>>;
  static constexpr size_t kSlots = 512;

  static int64_t TickOf(Time time) { return time.time_since_epoch() / kTick; }
  List& SlotOf(int64_t tick) { return slots_[static_cast<size_t>(tick) % kSlots]; }

  std::array<List, kSlots> slots_;
  int64_t passed_;  // every entry due in this tick or before has fired
};

}  // namespace clarion::gateway
