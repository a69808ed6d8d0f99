// Strong types for the words of the contract: ids, offsets, epochs, positions.
//
// An id is 1 to 128 bytes of printable ASCII without space (0x21 to 0x7E). Ids of events that
// begin with `_` are written by the service; the user `_clarion`, that name and no other, carries
// canaries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace clarion {

inline constexpr size_t kMaxIdBytes = 128;
inline constexpr std::string_view kCanaryUser = "_clarion";

// A string that cannot be mixed up with another kind of string. Not checked: ValidId does that
// once, where the id enters the program.
template <class Tag>
class StringId {
 public:
  StringId() = default;
  explicit StringId(std::string value) : value_(std::move(value)) {}
  explicit StringId(std::string_view value) : value_(value) {}
  explicit StringId(const char* value) : value_(value) {}

  const std::string& str() const { return value_; }
  bool empty() const { return value_.empty(); }

  friend bool operator==(const StringId&, const StringId&) = default;
  friend auto operator<=>(const StringId&, const StringId&) = default;
  template <class H>
  friend H AbslHashValue(H h, const StringId& id) {
    return H::combine(std::move(h), id.value_);
  }

 private:
  std::string value_;
};

using UserId = StringId<struct UserIdTag>;
using ThreadId = StringId<struct ThreadIdTag>;
using RunId = StringId<struct RunIdTag>;
using EventId = StringId<struct EventIdTag>;
using ConnectionId = StringId<struct ConnectionIdTag>;
using GatewayId = StringId<struct GatewayIdTag>;
// Opaque: compare for equality only.
using Epoch = StringId<struct EpochTag>;

// A place in a thread. Offsets count from 1; Offset{0} is before the first event.
class Offset {
 public:
  constexpr Offset() = default;
  constexpr explicit Offset(uint64_t value) : value_(value) {}
  constexpr uint64_t value() const { return value_; }
  constexpr Offset next() const { return Offset(value_ + 1); }
  // Offset{0} has no predecessor and stays.
  constexpr Offset prev() const { return Offset(value_ == 0 ? 0 : value_ - 1); }
  friend constexpr bool operator==(Offset, Offset) = default;
  friend constexpr auto operator<=>(Offset, Offset) = default;

 private:
  uint64_t value_ = 0;
};

// "Seen up to and including offset." The empty epoch goes with offset 0 only.
struct Position {
  Epoch epoch;
  Offset offset;
  friend bool operator==(const Position&, const Position&) = default;
};

bool ValidId(std::string_view id);
inline bool IsReservedEventId(std::string_view id) {
  return !id.empty() && id.front() == '_';
}
// Nobody signs in as this user or publishes for it.
inline bool IsReservedUser(std::string_view user) {
  return user == kCanaryUser;
}

}  // namespace clarion
