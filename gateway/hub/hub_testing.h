// For tests of the hub: a thread's log as a plain value, and a judge that watches one subscription
// from the outside, knowing nothing of joins and feeds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "clarion/v1/gateway_service.pb.h"
#include "clarion/v1/stream.pb.h"
#include "proto/contract/encoded_event.h"
#include "proto/contract/ids.h"
#include "proto/link/link.h"

namespace clarion::gateway {

// One version of a thread's log. Copy it to keep what it was.
class LogModel {
 public:
  // `events_made` counts over all versions: no two events are ever the same.
  void Append(int* events_made, size_t padding = 0) {
    if (epochs_.empty() || turned_) {
      epochs_.emplace_back(absl::StrCat("e", ++epoch_number_), last() + 1);
      turned_ = false;
    }
    const std::string id = absl::StrCat("v", ++*events_made);
    v1::Event event;
    event.set_event_id(id);
    const std::string json =
        absl::StrCat("\"event_id\":\"", id, "\",\"pad\":\"", std::string(padding, ' '), "\"}");
    event.set_agent_name(std::string(padding, ' '));
    events_.push_back(std::make_shared<EncodedEvent>(json, event.SerializeAsString()));
  }
  // The log loses its newest `n` (never below the floor) and opens a new epoch with the next event.
  void RollBack(size_t n) {
    while (n-- > 0 && last() >= floor_ && last() > 0) events_.pop_back();
    while (!epochs_.empty() && epochs_.back().second > last()) epochs_.pop_back();
    turned_ = !epochs_.empty() || epoch_number_ > 0;
  }
  void RaiseFloor(uint64_t floor) { floor_ = std::max(floor_, std::min(floor, last() + 1)); }

  uint64_t last() const { return events_.size(); }
  uint64_t floor() const { return floor_; }
  const std::string& epoch() const {
    static const std::string none;
    return epochs_.empty() ? none : epochs_.back().first;
  }
  Position end() const { return {Epoch(epoch()), Offset(last())}; }
  const EventPtr& at(uint64_t offset) const { return events_[offset - 1]; }
  std::string id_at(uint64_t offset) const {
    v1::Event event;
    event.ParseFromString(std::string(at(offset)->proto()));
    return event.event_id();
  }
  const std::string& epoch_at(uint64_t offset) const {
    size_t i = epochs_.size() - 1;
    while (i > 0 && epochs_[i].second > offset) --i;
    return epochs_[i].first;
  }

  // What whoever stands at `after` must be told before going on, and where that is.
  std::vector<v1::Missed> MissedAfter(const Position& after, uint64_t* from) const {
    std::vector<v1::Missed> missed;
    uint64_t keep = after.offset.value();
    if (const uint64_t survives = LastSurviving(after.epoch.str()); keep > survives) {
      missed.push_back(Range(survives + 1, keep, v1::MISSED_REASON_LOG_ROLLED_BACK));
      missed.back().set_discard_after(survives);
      keep = survives;
    }
    if (keep + 1 < floor_) {
      missed.push_back(Range(keep + 1, floor_ - 1, v1::MISSED_REASON_EXPIRED));
      keep = floor_ - 1;
    }
    *from = keep + 1;
    return missed;
  }
  enum class Shape { kFull, kCompacted };
  link::Page Read(const Position& after, size_t max_events, Shape shape = Shape::kFull) const {
    link::Page page;
    uint64_t next = 0;
    page.missed = MissedAfter(after, &next);
    page.last = end();
    for (; next <= last() && max_events > 0; ++next, --max_events) {
      if (page.runs.empty() || page.runs.back().epoch.str() != epoch_at(next)) {
        page.runs.push_back({.epoch = Epoch(epoch_at(next)), .first = Offset(next)});
      }
      const uint64_t first = next;
      while (shape == Shape::kCompacted && Merges(next)) ++next;
      const auto more = static_cast<uint32_t>(next - first);
      const EventPtr& event = at(next);
      page.runs.back().merged += more;
      page.runs.back().events.push_back(
          more == 0 ? event
                    : std::make_shared<EncodedEvent>(event->json(), event->proto(), 1 + more));
    }
    return page;
  }

 private:
  // Compacted, it travels inside the one after it: two of three do.
  bool Merges(uint64_t offset) const {
    return offset % 3 != 0 && offset < last() && epoch_at(offset) == epoch_at(offset + 1);
  }
  uint64_t LastSurviving(const std::string& epoch) const {
    for (size_t i = 0; i < epochs_.size(); ++i) {
      if (epochs_[i].first == epoch)
        return i + 1 < epochs_.size() ? epochs_[i + 1].second - 1 : last();
    }
    return 0;
  }
  v1::Missed Range(uint64_t from, uint64_t to, v1::MissedReason reason) const {
    v1::Missed missed;
    missed.set_epoch(epoch());
    missed.set_from_offset(from);
    missed.set_to_offset(to);
    missed.set_reason(reason);
    return missed;
  }

  std::vector<std::pair<std::string, uint64_t>> epochs_;
  std::vector<EventPtr> events_;
  uint64_t floor_ = 1;
  int epoch_number_ = 0;
  bool turned_ = false;
};

// Watches what one subscription is sent. Every mistake is said once, in mistake().
class Judge {
 public:
  // The page asks (again): the next `subscribed` may begin anywhere.
  void Asked() { asked_ = true; }

  void Subscribed(const std::string& epoch, uint64_t from, uint64_t last, bool missed) {
    if (expects_missed_) Wrong("subscribed where missed was announced");
    if (owes_caught_up_ && !asked_ && told_ && last_ <= next_ - 1) Wrong("no caught_up");
    if (asked_) {
      seen_.clear();
      start_ = next_ = from;
      gaps_.clear();
    } else if (!missed && from != next_) {
      Wrong(absl::StrCat("subscribed from ", from, " instead of ", next_));
    }
    announced_from_ = from;
    expects_missed_ = missed;
    // Asked anew, what is missing lies before the first offset that is sent.
    fresh_ = std::exchange(asked_, false);
    told_ = true;
    epoch_ = epoch;
    last_ = last;
    owes_caught_up_ = true;
  }
  void Missed(uint64_t from, uint64_t to, std::optional<uint64_t> discard_after) {
    if (!told_) Wrong("missed before subscribed");
    expects_missed_ = false;
    if (fresh_ && (discard_after.has_value() || to < announced_from_)) return;
    fresh_ = false;
    if (discard_after.has_value()) {
      if (*discard_after >= next_) Wrong("discard_after what was not seen");
      while (!seen_.empty() && seen_.back().first > *discard_after) seen_.pop_back();
      next_ = *discard_after + 1;
    } else {
      if (from != next_) Wrong(absl::StrCat("missed from ", from, " instead of ", next_));
      gaps_.emplace_back(from, to);
      next_ = to + 1;
    }
  }
  // `first`: the first offset that it covers.
  void Event(uint64_t offset, const std::string& id, uint64_t first) {
    if (!told_) Wrong("an event before subscribed");
    if (expects_missed_) Wrong("an event before the missed that was announced");
    if (fresh_ && first != announced_from_) Wrong("the first event is not the announced one");
    fresh_ = false;
    if (first != next_) Wrong(absl::StrCat("event ", first, " instead of ", next_));
    if (first > offset) Wrong("an event that ends before it begins");
    next_ = offset + 1;
    seen_.emplace_back(offset, id);
  }
  void CaughtUp(uint64_t offset) {
    if (!owes_caught_up_) Wrong("caught_up twice");
    if (offset != next_ - 1) Wrong("caught_up names an offset that is not the last sent");
    if (offset < last_) Wrong("caught_up too early");
    owes_caught_up_ = false;
  }

  // Nothing is under way any more: the view must be that of `log`.
  void AtRest(const LogModel& log) {
    if (!told_) return Wrong("never subscribed");
    if (owes_caught_up_) Wrong("no caught_up at the end");
    if (next_ != log.last() + 1)
      Wrong(absl::StrCat("stands at ", next_ - 1, " instead of ", log.last()));
    if (epoch_ != log.epoch())
      Wrong(absl::StrCat("was told epoch ", epoch_, " instead of ", log.epoch()));
    for (const auto& [offset, id] : seen_) {
      if (offset > log.last() || log.id_at(offset) != id)
        Wrong(absl::StrCat("holds a wrong event at ", offset));
    }
    for (const auto& [from, to] : gaps_) {
      if (to >= log.floor()) Wrong("was told missing what is there");
    }
  }

  bool told() const { return told_; }
  uint64_t next() const { return next_; }
  const std::string& mistake() const { return mistake_; }

 private:
  void Wrong(std::string what) {
    if (mistake_.empty()) mistake_ = std::move(what);
  }

  bool asked_ = true;
  bool told_ = false;
  bool fresh_ = false;
  bool expects_missed_ = false;
  bool owes_caught_up_ = false;
  uint64_t start_ = 1;
  uint64_t next_ = 1;
  uint64_t announced_from_ = 1;
  uint64_t last_ = 0;
  std::string epoch_;
  std::vector<std::pair<uint64_t, std::string>> seen_;
  std::vector<std::pair<uint64_t, uint64_t>> gaps_;
  std::string mistake_;
};

}  // namespace clarion::gateway
