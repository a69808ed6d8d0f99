// Limits of the contract that more than one part of it holds.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace clarion {

// Integers stay exact in JavaScript.
inline constexpr uint64_t kMaxInteger = (1ull << 53) - 1;

// How long a page's request waits for something to say, at most.
inline constexpr std::chrono::seconds kLongestWait{60};

// Positions that a page names at a time (Subscribe.positions of stream.proto, and a poll's). A page
// that polls follows no more threads by {all}: of further ones it could not say where it stands.
inline constexpr size_t kMaxPositions = 1'024;

}  // namespace clarion
