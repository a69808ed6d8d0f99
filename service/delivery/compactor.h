// Makes a page out of what was read of a thread: consecutive deltas of one message become one event
// (History in position.proto says what it is), everything else travels as it is stored.
//
// A group ends with its message (is_final), with its epoch, before any other event, and where the
// page ends: the next page begins with what is left of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proto/contract/ids.h"
#include "proto/link/link.h"
#include "service/delivery/delta.h"
#include "service/log/log.h"

namespace clarion::delivery {

struct PageShape {
  // Of one encoding, and events that travel; at least one event does.
  size_t max_bytes = 256 * 1024;
  size_t max_events = 2'048;
  // What merged events are made in; at least one of both.
  bool json = true;
  bool proto = true;
  // False: every event as it is.
  bool compact = true;
};

// Used by one thread at a time.
class Compactor {
 public:
  Compactor(const ThreadId& thread, const PageShape& shape) : thread_(thread), shape_(shape) {}

  // Takes the events of `run`, which goes on where the one before ended, as far as there is room.
  // False: the page is full.
  bool Add(const log::EventRun& run);
  // Bytes of one encoding so far.
  size_t bytes() const { return bytes_; }
  // The first offset that was not taken; none before the first event.
  std::optional<Offset> next() const { return next_; }
  // Events of the log that travel inside others.
  uint64_t merged() const { return merged_; }
  // The page; nothing follows.
  std::vector<link::Live> Take();

 private:
  // The events that will travel as one; usually a single one.
  struct Group {
    EventPtr first;  // keeps `json`, `proto` of the first alive: they hold the key
    EventPtr last;
    std::optional<Delta> json;  // of the last one, with the first one's key
    std::optional<Delta> proto;
    std::string json_text;  // of more than one
    std::string proto_text;
    uint32_t offsets = 0;
  };

  bool AddEvent(const EventPtr& event);
  bool Joins(const std::optional<Delta>& json, const std::optional<Delta>& proto) const;
  void Grow(const EventPtr& event, const std::optional<Delta>& json,
            const std::optional<Delta>& proto);
  void EndGroup();
  void Push(EventPtr event);
  size_t SizeOf(const EncodedEvent& event) const;
  bool HasRoom(size_t bytes, size_t events);

  const ThreadId thread_;
  const PageShape shape_;
  std::vector<link::Live> runs_;
  Group group_;  // offsets 0: none is open
  size_t bytes_ = 0;
  size_t events_ = 0;
  uint64_t merged_ = 0;
  std::optional<Offset> next_;
};

}  // namespace clarion::delivery
