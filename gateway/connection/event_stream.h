// A connection over text/event-stream: one HTTP response that goes on. What the page says later
// comes on requests of its own, numbered, through any gateway (Subscriber::Pass).
//
// What the page answers to pings nobody hears: a peer that is gone is found out by its TCP, which
// gets 2.5 heartbeats to take what was sent, or as long as it may take nothing, if that is longer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "gateway/connection/page_request.h"
#include "gateway/connection/stream_connection.h"

namespace clarion::gateway {

// On the loop's thread only.
class EventStream final : public StreamConnection {
 public:
  struct Request {
    // Checked by the connection; empty: the first message is `connect`.
    std::string token;
    PageRequest page;
    // Not empty: the request was none; what is wrong with it.
    std::string problem;
    // The gateway stops: nobody is let in any more.
    bool draining = false;
    // The page's origin, if it is another than ours and allowed: empty otherwise.
    std::string allow_origin;
  };
  // The response begins with its header, or is an error and the end. `on_end`: see WebSocket.
  static void Start(ConnectionContext& context, Socket socket, Request request,
                    std::function<void()> on_end);
  ~EventStream() override {
    LeaveHub();  // which looks at the stream
    ReportCutOff();
  }

  // Numbers count from 1. One that was passed before has no effect and is answered the same; of one
  // that comes too early the sender is told which is next.
  Passed Pass(uint64_t sequence, std::string_view frames) override;

 private:
  EventStream(ConnectionContext& context, Socket socket, std::string allow_origin,
              std::function<void()> on_end);

  static Awaitable<void> Run(std::shared_ptr<EventStream> self, std::unique_ptr<Request> request);
  void Begin(const Request& request);

  FrameStream& stream() override { return stream_; }
  bool answers_pings() const override { return false; }
  void OnAdmitted() override;
  FramesPtr LastWords(const CloseRow& row, std::string_view message,
                      uint32_t retry_after_ms) override;
  void OnBeastClose(uint16_t) override {}  // no Beast on top of this stream

  FrameStream stream_;
  const std::string allow_origin_;
  uint64_t next_sequence_ = 1;
  bool begun_ = false;  // the header was queued
};

}  // namespace clarion::gateway
