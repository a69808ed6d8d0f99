// An event as it is stored, carried over the link and sent: encoded once by the service,
// without its offset, immutable, shared by the log's tail, the link and every connection.
#pragma once

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
  EncodedEvent(std::string_view json, std::string_view proto) : json_bytes_(json.size()) {
    bytes_.reserve(json.size() + proto.size());
    bytes_.append(json).append(proto);
  }
  // `bytes`: json, then proto, as bytes() gives them.
  EncodedEvent(std::string bytes, size_t json_bytes)
      : bytes_(std::move(bytes)), json_bytes_(json_bytes) {}

  std::string_view json() const { return std::string_view(bytes_).substr(0, json_bytes_); }
  std::string_view proto() const { return std::string_view(bytes_).substr(json_bytes_); }
  const std::string& bytes() const { return bytes_; }
  size_t json_bytes() const { return json_bytes_; }

 private:
  std::string bytes_;
  size_t json_bytes_;
};

using EventPtr = std::shared_ptr<const EncodedEvent>;

}  // namespace clarion
