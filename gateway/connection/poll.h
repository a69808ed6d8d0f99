// A connection that polls: it exists here for one request. Between polls the service keeps its
// place for the time of a lease; whichever gateway the next poll comes to goes on with it.
//
// A poll is answered as soon as there is something to tell its page: first with all there is of the
// threads that it follows, up to the bounds of a connection's queue, later with what comes; in any
// case once all that the page asked for is answered. What a page said that it knows (its positions)
// it is not told again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "gateway/connection/connection.h"
#include "gateway/connection/page_request.h"
#include "gateway/http/api.h"

namespace clarion::gateway {

// On the loop's thread only.
class Poll final : public Connection,
                   public Api::Question,
                   public std::enable_shared_from_this<Poll> {
 public:
  struct Request {
    std::string token;
    PageRequest page;
  };
  // It waits this long if the page does not say.
  static constexpr std::chrono::seconds kUsualWait{25};

  // See Api::Ask.
  static std::shared_ptr<Poll> Start(ConnectionContext& context, Request request,
                                     std::function<void(HttpResponse)> done);
  // Only to hear that something came, which is read on another way: leaves no lease, says nothing
  // of itself, and makes nobody ready.
  static std::shared_ptr<Poll> StartQuiet(ConnectionContext& context, Request request,
                                          std::function<void(HttpResponse)> done);
  ~Poll() override;

  // Question.
  void Written(bool whole) override;

  // Subscriber.
  using Subscriber::Send;
  void Send(FramesPtr frames, size_t first, FrameTag tag) override;
  std::vector<TakenBack> TakeBack(const absl::flat_hash_set<uint32_t>& sources) override;
  bool HasRoom() override;
  Mark mark() const override { return {.written = written_, .queued = accepted_}; }
  void OnDone() override { LookSoon(); }

 private:
  Poll(ConnectionContext& context, std::function<void(HttpResponse)> done);

  void Begin(const Request& request);
  // At the end of the loop's turn: answers if it is time to.
  void LookSoon();
  void Look();
  void Answer(HttpResponse response);
  // Takes the frames.
  HttpResponse AnswerOfFrames();
  // No more is asked for than is in the answer.
  bool Full() const;
  void Count(size_t bytes);

  // Connection.
  std::string MakeId() override { return id_; }
  bool resumed() const override { return resumed_; }
  bool unseen() const override { return unseen_; }
  FramesPtr LastWords(const CloseRow& row, std::string_view message,
                      uint32_t retry_after_ms) override;
  void SayLast(FramesPtr last_words) override;
  void ArmNext() override;
  void OnTimer(TimerWheel::Time now) override;

  std::function<void(HttpResponse)> done_;
  std::string id_;
  // Frames of the answer, a comma behind each.
  std::string frames_;
  size_t frame_count_ = 0;
  // Sources of which a frame did not fit: nothing more of them is taken. With the first event that
  // was left out.
  absl::flat_hash_map<uint32_t, std::optional<Offset>> cut_;
  uint64_t accepted_ = 0;  // bytes, also of frames that did not fit
  uint64_t written_ = 0;
  size_t told_ = 0;     // bytes of frames in the answer
  size_t counted_ = 0;  // of frames_, what the process knows
  Clock::time_point answer_at_;
  std::chrono::milliseconds lease_;
  bool resumed_ = false;
  bool unseen_ = false;
  bool turned_away_ = false;  // HasRoom() said no, and nobody asks again
  bool looking_ = false;
  // Its page was not let in: an error instead of frames.
  std::unique_ptr<HttpResponse> refusal_;
};

}  // namespace clarion::gateway
