// A position as the hub keeps it by the ten thousand: 16 bytes, the epoch's name shared.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "boost/smart_ptr/intrusive_ptr.hpp"
#include "boost/smart_ptr/intrusive_ref_counter.hpp"
#include "clarion/v1/position.pb.h"
#include "proto/contract/ids.h"

namespace clarion::gateway {

// The name of an epoch, shared within one loop: the reference count is not atomic.
class SharedEpoch {
 public:
  SharedEpoch() = default;  // the empty epoch, of a thread without events
  explicit SharedEpoch(std::string_view name) : name_(name.empty() ? nullptr : new Name(name)) {}

  std::string_view str() const { return name_ == nullptr ? std::string_view() : name_->value; }
  // A cheap comparison for those that share the name, which is nearly all.
  friend bool operator==(const SharedEpoch& a, const SharedEpoch& b) {
    return a.name_ == b.name_ || a.str() == b.str();
  }

 private:
  struct Name : boost::intrusive_ref_counter<Name, boost::thread_unsafe_counter> {
    explicit Name(std::string_view v) : value(v) {}
    const std::string value;
  };
  boost::intrusive_ptr<const Name> name_;
};

// "Everything up to and including `offset` was sent."
struct Cursor {
  SharedEpoch epoch;
  Offset offset;

  friend bool operator==(const Cursor& a, const Cursor& b) {
    return a.offset == b.offset && a.epoch == b.epoch;
  }
  v1::Position ToProto() const {
    v1::Position position;
    position.set_epoch(std::string(epoch.str()));
    position.set_offset(offset.value());
    return position;
  }
};

}  // namespace clarion::gateway
