// A connection with a standing socket: its queue, what is done when that grows, pings, and how it
// is closed so that the page can read why.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/connection/connection.h"
#include "gateway/connection/frame_stream.h"
#include "gateway/loop_types.h"

namespace clarion::gateway {

// On the loop's thread only. Owns itself: it lives until its coroutine ends.
class StreamConnection : public Connection,
                         protected FrameStream::Owner,
                         public std::enable_shared_from_this<StreamConnection> {
 public:
  ~StreamConnection() override;
  using Subscriber::Send;
  void Send(FramesPtr frames, size_t first, FrameTag tag) override;
  std::vector<TakenBack> TakeBack(const absl::flat_hash_set<uint32_t>& sources) override;
  bool HasRoom() override;
  Mark mark() const override {
    return {.written = stream().written_bytes(), .queued = stream().accepted_bytes()};
  }

 protected:
  // What is read to be thrown away, at a time.
  static constexpr size_t kDiscardBytes = 512;

  // `on_end` is called once, when everything of the connection is over.
  StreamConnection(ConnectionContext& context, v1::Transport transport, Encoding encoding,
                   std::function<void()> on_end);

  virtual FrameStream& stream() = 0;
  const FrameStream& stream() const { return const_cast<StreamConnection*>(this)->stream(); }
  // The page answers pings: it is gone when nothing was heard for 2.5 heartbeats.
  virtual bool answers_pings() const = 0;

  // The last steps of a connection's coroutine: gives a page that was told why it is closed the
  // chance to read it, then lets go of everything.
  static Awaitable<void> Finish(std::shared_ptr<StreamConnection> self);

  // It was closed by us: says so if the peer has not taken that. Also when a loop ends, and this
  // with it.
  void ReportCutOff();
  void Heard(Clock::time_point now) { heard_at_ = now; }
  // Nothing is read any more but to see the end.
  void ReaderDone() { reader_done_ = true; }
  // Read into; its size is what is kept.
  std::string& buffer() { return buffer_; }

  // Connection.
  void OnAdmitted() override;
  void SayLast(FramesPtr last_words) override { stream().QueueLast(std::move(last_words)); }
  void ArmNext() override;
  // TimerWheel::Entry.
  void OnTimer(TimerWheel::Time now) override;

 private:
  // FrameStream::Owner.
  std::shared_ptr<void> Hold() override { return shared_from_this(); }
  void OnWritten() override;
  void OnRelieve() override;
  void OnGiveUp(QueueWatch::Queue::Cause cause) override;

  static Awaitable<void> Linger(std::shared_ptr<StreamConnection> self);
  bool OverBound() const;
  bool RoomNow() const;
  // It could not keep up. What it has not got it gets when it comes back.
  void CloseSlow(const char* cause, std::string_view message);
  void ShutDownWhenDrained();
  std::function<void()> on_end_;
  std::string buffer_;  // of the message being read
  // When: the last frame came, the next ping goes, `connect` must have come.
  Clock::time_point heard_at_;
  Clock::time_point ping_at_;
  Clock::time_point handshake_ends_at_;
  bool reader_done_ = false;
  bool wants_room_ = false;  // HasRoom() said no: tell the hub when there is
};

}  // namespace clarion::gateway
