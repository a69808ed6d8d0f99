// What a page sends as the body of a POST: messages, and what goes with them on transports without
// a standing socket.
//
//   /v1/stream            one message, a list of them, or {messages}
//   /v1/connections/ID    {sequence, messages}
//   /v1/poll              {connection_id, messages, positions, all, history, wait}
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "clarion/v1/stream.pb.h"
#include "gateway/connection/client_frame.h"

namespace clarion::gateway {

inline constexpr size_t kMaxMessagesAtOnce = 1'000;

struct PageRequest {
  // Each kValid or kInvalid.
  std::vector<ClientMessage> messages;
  // Of messages that are passed on to a connection: 1, 2, 3 …
  uint64_t sequence = 0;
  // A poll's. Empty: its first.
  std::string connection_id;
  // Where it stands in the threads that it follows.
  std::vector<v1::ThreadPosition> positions;
  // It follows all threads of the user.
  bool all = false;
  // Replays are not to be compacted.
  bool full = false;
  // How long to wait for something to say.
  std::optional<std::chrono::milliseconds> wait;
};

enum class PageRequestKind { kStream, kPass, kPoll };

// Empty: `request` is what `body` says. Otherwise what is wrong, for developers. Fields that are
// not of this kind are refused by name.
std::string ParsePageRequest(PageRequestKind kind, std::string_view body, PageRequest& request);

}  // namespace clarion::gateway
