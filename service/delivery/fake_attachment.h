// A carrier's end for tests: keeps what the service says until the test takes it.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "proto/base/mutex.h"
#include "proto/link/link.h"

namespace clarion::delivery {

class FakeAttachment final : public link::Attachment {
 public:
  bool SendLive(link::Live live) override {
    MutexLock lock(mutex_);
    if (live_room_ == 0) return false;
    --live_room_;
    queue_.emplace_back(std::move(live));
    return true;
  }
  void SendControl(v1::ServiceMessage message) override {
    MutexLock lock(mutex_);
    queue_.emplace_back(std::move(message));
  }
  void Close(absl::Status status) override {
    MutexLock lock(mutex_);
    if (!closed_.has_value()) closed_ = std::move(status);
  }

  std::string peer() const override { return "ipv4:192.0.2.1:1"; }

  // How many more Live it takes.
  void set_live_room(size_t room) {
    MutexLock lock(mutex_);
    live_room_ = room;
  }
  std::optional<absl::Status> closed() const {
    MutexLock lock(mutex_);
    return closed_;
  }
  std::optional<link::ToGateway> Take() {
    MutexLock lock(mutex_);
    if (queue_.empty()) return std::nullopt;
    link::ToGateway message = std::move(queue_.front());
    queue_.pop_front();
    return message;
  }
  std::vector<link::ToGateway> TakeAll() {
    MutexLock lock(mutex_);
    std::vector<link::ToGateway> all(std::make_move_iterator(queue_.begin()),
                                     std::make_move_iterator(queue_.end()));
    queue_.clear();
    return all;
  }

 private:
  mutable Mutex mutex_;
  size_t live_room_ ABSL_GUARDED_BY(mutex_) = 1'000'000;
  std::deque<link::ToGateway> queue_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace clarion::delivery
