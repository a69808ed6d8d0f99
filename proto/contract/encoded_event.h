// An event as it is stored, carried over the link and sent: encoded once by the service,
// without its offset, immutable, shared by the log's tail, the link and every connection. In a
// compacted page one may stand for several consecutive events of the log.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace clarion {

class EncodedEvent {
 public:
  // `json`: the browser's object after `{"offset":N,`, that is `"type":…}`.
  // `proto`: clarion.v1.Event without `offset`. On a gateway one of both may be empty.
  // `offsets`: how many it covers, at least 1; above 1 it is a compacted event.
  EncodedEvent(std::string_view json, std::string_view proto, uint32_t offsets = 1)
      : json_bytes_(static_cast<uint32_t>(json.size())), offsets_(offsets) {
    bytes_.reserve(json.size() + proto.size());
    bytes_.append(json).append(proto);
  }
  // `bytes`: json, then proto, as bytes() gives them.
  EncodedEvent(std::string bytes, size_t json_bytes, uint32_t offsets = 1)
      : bytes_(std::move(bytes)),
        json_bytes_(static_cast<uint32_t>(json_bytes)),
        offsets_(offsets) {}

  std::string_view json() const { return std::string_view(bytes_).substr(0, json_bytes_); }
  std::string_view proto() const { return std::string_view(bytes_).substr(json_bytes_); }
  const std::string& bytes() const { return bytes_; }
  size_t json_bytes() const { return json_bytes_; }
  uint32_t offsets() const { return offsets_; }

 private:
  // Events are far below 4 GiB, and kept by the million.
  std::string bytes_;
  uint32_t json_bytes_;
  uint32_t offsets_ = 1;
};

using EventPtr = std::shared_ptr<const EncodedEvent>;

}  // namespace clarion
