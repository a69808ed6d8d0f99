// What the service is told of events that reached browsers' sockets (EventsSent): of each thread
// the range that was written to the connection that got furthest.
//
// A thread is looked at some time after something of it was queued, and again as long as a
// connection has not taken all that waits for it: every 200 ms, and from 1 ms on where the service
// awaits an event. Nothing is done for each event but to set a flag.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "boost/smart_ptr/intrusive_ptr.hpp"
#include "gateway/hub/feed.h"
#include "gateway/hub/hub.h"
#include "proto/contract/ids.h"
#include "proto/link/link.h"

namespace clarion::gateway {

class Subscription;

// On the loop only.
class SentReports {
 public:
  SentReports(const HubOptions& options, link::Link* link) : options_(options), link_(link) {}
  ~SentReports() { *alive_ = false; }

  // Something of the feed was queued for a connection; it is not noted yet.
  void Add(Feed& feed);
  // What waits to be written of it now is the last of it that counts.
  void Mark(Subscription& subscription);
  // Says at once what of these was written: they end, or go on elsewhere.
  void Report(const std::vector<Subscription*>& subscriptions);
  // Somebody waits until the feed's events up to `offset` were sent: it is said again.
  void Await(Feed& feed, Offset offset);

 private:
  using Delay = std::chrono::milliseconds;
  static constexpr Delay kAwaited{1};
  static constexpr Delay kUsual{200};

  void Arm(Delay delay);
  void Run(Delay delay);
  struct Moved {
    boost::intrusive_ptr<Feed> feed;
    Offset from;
  };
  void Say(const std::vector<Moved>& moved);

  const HubOptions& options_;
  link::Link* const link_;
  // False when this is gone; timers look here.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::vector<boost::intrusive_ptr<Feed>> noted_;
  // Of the timer that counts; 0: none.
  Delay armed_{0};
  uint64_t timer_ = 0;
};

}  // namespace clarion::gateway
