// A queue from any thread to one loop, for the carriers of the link: however much is put in while
// the loop is busy, the loop is woken once and takes it as one batch.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "boost/asio/io_context.hpp"
#include "boost/asio/post.hpp"
#include "proto/base/mutex.h"

namespace clarion::link {

// Put() from any thread; everything else on the loop. Make it with std::make_shared; after Close()
// it does not touch the loop any more, so that late producers may outlive it.
template <class T>
class LoopInbox : public std::enable_shared_from_this<LoopInbox<T>> {
 public:
  using Handler = std::function<void(std::vector<T> batch)>;

  LoopInbox(boost::asio::io_context& loop, Handler handler)
      : loop_(loop), handler_(std::move(handler)) {}

  // Dropped after Close.
  void Put(T item) {
    MutexLock lock(mutex_);
    if (closed_) return;
    items_.push_back(std::move(item));
    if (scheduled_) return;
    scheduled_ = true;
    // Under the lock: whoever closes the inbox may end the loop right after, and a post is a leaf
    // call.
    boost::asio::post(loop_, [self = this->shared_from_this()] { self->Drain(); });
  }

  // No call of the handler follows; what waits is dropped. May be called inside the handler.
  void Close() {
    std::vector<T> dropped;
    MutexLock lock(mutex_);
    closed_ = true;
    dropped.swap(items_);
  }

 private:
  void Drain() {
    std::vector<T> batch;
    {
      MutexLock lock(mutex_);
      scheduled_ = false;
      if (closed_) return;
      batch.swap(items_);
    }
    if (!batch.empty()) handler_(std::move(batch));
  }

  boost::asio::io_context& loop_;
  const Handler handler_;
  Mutex mutex_;
  std::vector<T> items_ ABSL_GUARDED_BY(mutex_);
  bool scheduled_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace clarion::link
