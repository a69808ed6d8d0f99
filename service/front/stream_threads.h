// The order of one PublishStream: what waits, what is under way and what is stopped, by thread.
//
// No gRPC, no log, no lock: the stream asks what to append next and says what became of it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "clarion/v1/event_service.pb.h"
#include "proto/contract/ids.h"
#include "proto/contract/reason.h"
#include "service/log/log.h"

namespace clarion::front {

// A batch under way; complete when `open` is 0. One result for each event, in order.
struct StreamBatch {
  v1::PublishStreamRequest request;
  v1::PublishStreamResponse results;
  size_t open = 0;
  size_t bytes = 0;
};

// An event's place in its batch. The batch stays where it is until it is complete.
struct StreamTicket {
  StreamBatch* batch = nullptr;
  int index = 0;
  bool critical = false;
  const v1::Event& event() const { return batch->request.events(index).event(); }
  v1::PublishResult* result() const { return batch->results.mutable_results(index); }
  void Close() const { --batch->open; }
};

// What stopped a thread.
struct StreamStop {
  EventId refused;
  Reason reason;
};

// An append and the places its results go to.
struct StreamAppend {
  log::AppendRequest request;
  std::vector<StreamTicket> tickets;
};

class StreamThreads {
 public:
  // An event that is fit for the log. Nothing if it waits for its turn; otherwise what stopped its
  // thread.
  std::optional<StreamStop> Offer(const ThreadId& thread, const UserId& owner, log::AppendItem item,
                                  StreamTicket ticket);
  // The thread's next append, if it may begin now. It ends at a run's start, the only item that the
  // log refuses for now by itself, so that nothing behind such an item is ever under way with it.
  std::optional<StreamAppend> Next(const ThreadId& thread);
  // The append is answered.
  void Answered(const ThreadId& thread);
  // Stops the thread; what waited there is returned: it is refused.
  std::vector<StreamTicket> Stop(const ThreadId& thread, StreamStop stop);
  // Lifts the stop that `refused` put; no effect otherwise.
  void Resume(const ThreadId& thread, const EventId& refused);

  size_t stopped() const { return stopped_; }

 private:
  struct Waiting {
    UserId owner;
    log::AppendItem item;
    StreamTicket ticket;
  };
  struct Queue {
    bool under_way = false;
    std::optional<StreamStop> stop;
    std::vector<Waiting> waiting;
  };
  void DropIfIdle(const ThreadId& thread);

  // Threads with something under way, waiting or stopped; no others.
  absl::flat_hash_map<ThreadId, Queue> queues_;
  size_t stopped_ = 0;
};

}  // namespace clarion::front
