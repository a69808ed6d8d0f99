// Sending the connections of a loop away: no more per second than may come back elsewhere, those
// that follow an open run last.
#pragma once

#include <chrono>
#include <cstdint>

#include "gateway/connection/context.h"

namespace clarion::gateway {

struct DrainPlan {
  std::chrono::steady_clock::time_point begin;
  // Whoever is left by then is sent away at once, and told to come back later, one after the other.
  std::chrono::steady_clock::time_point end;
  double per_second = 1;
};

// On the loop's thread only. A connection that ends by itself leaves the lists by itself.
class Drain {
 public:
  // Whoever was told goes back to `connections`, until it has gone.
  Drain(const DrainPlan& plan, ConnectionList& connections)
      : plan_(plan), gone_(connections), told_until_(plan.begin) {
    waiting_.swap(connections);
  }

  // Sends away those whose turn it is.
  void Advance(std::chrono::steady_clock::time_point now);
  // Everybody was told.
  bool done() const { return waiting_.empty() && busy_.empty(); }

 private:
  ConnectionListHook* Next();
  void SendAway(ConnectionListHook& connection, std::chrono::milliseconds later);

  const DrainPlan plan_;
  ConnectionList& gone_;
  ConnectionList waiting_;
  // Of those that waited: with an open run.
  ConnectionList busy_;
  // The time up to which connections were sent away.
  std::chrono::steady_clock::time_point told_until_;
};

}  // namespace clarion::gateway
