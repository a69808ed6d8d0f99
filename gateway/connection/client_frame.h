// What a page sends: one message of either subprotocol into a checked v1::ClientFrame.
//
// Everything is untrusted. Fields and values that are not served are refused by name, never
// ignored: a page that is newer than this gateway learns so.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "clarion/v1/stream.pb.h"
#include "gateway/frames.h"

namespace clarion::gateway {

// The version of the protocol that is spoken: `connect` and `connected` carry it.
inline constexpr uint32_t kProtocol = 1;

struct ClientMessage {
  enum class Verdict {
    kValid,
    kInvalid,     // understood and refused: CONTEXT_INVALID, the connection stays
    kUnreadable,  // no frame at all: 4400
  };
  Verdict verdict = Verdict::kUnreadable;
  // kValid: every field keeps the limits of stream.proto. kInvalid: `id`, if it was readable, and
  // as much else as was.
  v1::ClientFrame frame;
  // Otherwise: what is wrong, for developers.
  std::string problem;
};

// JSON at most 32 levels deep.
ClientMessage ParseClientMessage(Encoding encoding, std::string_view bytes);

// A readable message, its fields' limits checked.
ClientMessage Checked(ClientMessage message);

}  // namespace clarion::gateway
