// One page that is being read: what was asked for, and what there is of it so far.
//
// One step at a time, on whatever thread the log or PageTurns brings it to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "proto/link/link.h"
#include "service/delivery/compactor.h"
#include "service/delivery/core.h"

namespace clarion::delivery {

// A page that ends at an offset instead of beginning at one. The log reads forwards: a window is
// read whole, then one that ends where it began, until there is enough.
struct BackwardPage {
  struct Kept {
    Epoch epoch;
    Offset offset;
    EventPtr event;
  };
  // The window under way, and how far it has been read.
  Offset from;
  Offset next;
  Offset last;
  std::deque<Kept> window;
  // What lies behind it.
  std::deque<Kept> kept;
  // As stored, of both.
  size_t bytes = 0;
  // The oldest of the window had to go: there is no room for more.
  bool full = false;
  Offset floor;
};

struct Core::PageRead {
  std::shared_ptr<Core> core;
  ThreadId thread;
  // Not empty: the page is read on this user's behalf, and is there for its thread's owner only.
  UserId user;
  Position after;
  std::optional<Offset> before;
  size_t last_runs = 0;
  std::optional<Offset> until;
  PageShape shape;
  link::PageCallback done;
  // The thread's, as far as it is known.
  UserId owner;
  int attempts = 0;
  // What was read so far.
  link::Page page;
  std::optional<Compactor> events;
  int reads = 0;
  BackwardPage back;

  void Fail(absl::Status status);
  void Answer(absl::StatusOr<link::Page> answer);
  // With what was read.
  void Finish();
  void FinishBackwards();
};

// Events that travel inside others, for the metric.
void CountMerged(uint64_t events);

// The floor rose above where the page should begin, after the position was resolved.
void AddExpired(const Epoch& epoch, Offset from, Offset to, std::vector<v1::Missed>* missed);

// One read of the log, for a page of so many bytes of one encoding: stored events have two.
inline constexpr size_t kPageReadFactor = 2;
inline constexpr size_t kPageReadEvents = 4'096;

}  // namespace clarion::delivery
