#include "service/delivery/compactor.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

namespace clarion::delivery {

bool Compactor::Add(const log::EventRun& run) {
  if (runs_.empty() || runs_.back().epoch != run.epoch) {
    EndGroup();
    runs_.push_back({.thread = thread_, .epoch = run.epoch, .first = run.first});
  }
  next_ = run.first;
  for (const EventPtr& event : run.events) {
    if (!AddEvent(event)) {
      EndGroup();
      if (runs_.back().events.empty()) runs_.pop_back();
      return false;
    }
    next_ = next_->next();
  }
  return true;
}

bool Compactor::AddEvent(const EventPtr& event) {
  std::optional<Delta> json;
  std::optional<Delta> proto;
  bool delta = shape_.compact;
  if (delta && shape_.json) delta = (json = ReadJsonDelta(event->json())).has_value();
  if (delta && shape_.proto) delta = (proto = ReadProtoDelta(event->proto())).has_value();

  if (delta && Joins(json, proto)) {
    const size_t text = std::max(json ? json->text.size() : 0, proto ? proto->text.size() : 0);
    if (!HasRoom(text, 0)) return false;
    Grow(event, json, proto);
    if ((json ? json : proto)->is_final) EndGroup();
    return true;
  }
  if (!HasRoom(SizeOf(*event), 1)) return false;
  EndGroup();
  if (!delta || (json ? json : proto)->is_final) {
    Push(event);
    return true;
  }
  group_.first = group_.last = event;
  group_.json = json;
  group_.proto = proto;
  group_.offsets = 1;
  return true;
}

bool Compactor::Joins(const std::optional<Delta>& json, const std::optional<Delta>& proto) const {
  if (group_.offsets == 0 || group_.offsets == std::numeric_limits<uint32_t>::max()) return false;
  return (!json || json->key == group_.json->key) && (!proto || proto->key == group_.proto->key);
}

// The key stays that of the first: the same bytes, in an event that is kept.
void Compactor::Grow(const EventPtr& event, const std::optional<Delta>& json,
                     const std::optional<Delta>& proto) {
  const auto grow = [&](std::optional<Delta>& last, const std::optional<Delta>& next,
                        std::string& text) {
    if (!next) return;
    if (group_.offsets == 1) text.append(last->text);
    text.append(next->text);
    const Delta::Key key = last->key;
    last = next;
    last->key = key;
  };
  grow(group_.json, json, group_.json_text);
  grow(group_.proto, proto, group_.proto_text);
  group_.last = event;
  ++group_.offsets;
}

void Compactor::EndGroup() {
  if (group_.offsets == 0) return;
  Group group = std::exchange(group_, Group());
  if (group.offsets == 1) return Push(std::move(group.last));
  const std::string json = group.json ? MergedJson(*group.json, group.json_text) : std::string();
  const std::string proto =
      group.proto ? MergedProto(*group.proto, group.proto_text) : std::string();
  merged_ += group.offsets - 1;
  runs_.back().merged += group.offsets - 1;
  Push(std::make_shared<const EncodedEvent>(json, proto, group.offsets));
}

void Compactor::Push(EventPtr event) {
  runs_.back().events.push_back(std::move(event));
}

size_t Compactor::SizeOf(const EncodedEvent& event) const {
  return std::max(shape_.json ? event.json().size() : 0, shape_.proto ? event.proto().size() : 0);
}

// Takes the room, too. The first always fits.
bool Compactor::HasRoom(size_t bytes, size_t events) {
  const bool first = events_ == 0;
  if (!first && (bytes_ + bytes > shape_.max_bytes || events_ + events > shape_.max_events)) {
    return false;
  }
  bytes_ += bytes;
  events_ += events;
  return true;
}

std::vector<link::Live> Compactor::Take() {
  EndGroup();
  return std::move(runs_);
}

}  // namespace clarion::delivery
