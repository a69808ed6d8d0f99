// The two types of events that may be merged, read from their stored bytes without parsing the
// rest, and put together again.
//
// Both encodings are ours (proto/contract/event_json_write.cc, protobuf's serializer), so fields
// stand where they are known to stand. What looks otherwise is no delta: it travels as it is.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace clarion::delivery {

// Views into the event's bytes. Strings of JSON are as they stand there, escapes and all: equal
// bytes, equal strings, and texts may be put one after the other.
struct Delta {
  // What all events of a group have in common.
  struct Key {
    std::string_view type;  // its name; `proto` has it as the payload's tag
    std::string_view run_id;
    std::string_view agent_name;
    std::string_view message_id;
    std::string_view role;  // empty for agent_thinking
    friend bool operator==(const Key&, const Key&) = default;
  };
  Key key;
  std::string_view text;
  bool is_final = false;
  // JSON: what stands before the text. Proto: before and behind the payload.
  std::string_view head;
  std::string_view tail;
};

// Nothing: another type, which is told by the first bytes, or not as our encoder writes it.
std::optional<Delta> ReadJsonDelta(std::string_view json);
std::optional<Delta> ReadProtoDelta(std::string_view proto);

// The event that stands for a group: everything of its `last` but the text.
std::string MergedJson(const Delta& last, std::string_view text);
std::string MergedProto(const Delta& last, std::string_view text);

}  // namespace clarion::delivery
