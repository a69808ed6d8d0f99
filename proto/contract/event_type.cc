#include "proto/contract/event_type.h"

#include <cstddef>

namespace clarion {
namespace {

constexpr size_t kFirst = v1::Event::kAgentStarted;

constexpr bool EventTypesInOrder() {
  for (size_t i = 0; i < kEventTypes.size(); ++i) {
    if (static_cast<size_t>(kEventTypes[i].payload) != kFirst + i) return false;
  }
  return true;
}
static_assert(EventTypesInOrder(), "one row for each field of Event.payload, in their order");
static_assert(kFirst + kEventTypes.size() - 1 == v1::Event::kCustom, "every payload has a row");

}  // namespace

const EventTypeRow* TypeOf(v1::Event::PayloadCase payload) {
  const size_t index = static_cast<size_t>(payload) - kFirst;  // wraps below the first
  return index < kEventTypes.size() ? &kEventTypes[index] : nullptr;
}

const EventTypeRow* TypeNamed(std::string_view name) {
  for (const EventTypeRow& row : kEventTypes) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

}  // namespace clarion
