// What following one thread over the WebSocket knows: where it is, what to answer, when it is over.
// No I/O: frames in, decisions out.
#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "boost/json/object.hpp"
#include "proto/contract/ids.h"

namespace clarion::ctl {

struct TailStart {
  std::string thread;
  std::string from = "unfinished";  // start, unfinished, live
  // Instead of `from`.
  std::optional<Position> after;
  // End when a run that was seen to end leaves none open, with everything before it seen.
  bool until_complete = false;
  // Wait for this run's end only.
  std::string run;
};

class TailState {
 public:
  explicit TailState(TailStart start) : start_(std::move(start)), position_(start_.after) {}

  // The first frame of a connection; subscribes after what was seen. Its `id` tells the answers to
  // it, and errors, from others.
  std::string ConnectFrame(std::string_view token) const;

  struct Step {
    // Worth printing: everything but ping and probe.
    bool print = false;
    // To send.
    std::string reply;
    // Nothing more is wanted.
    bool done = false;
    // The gateway ended the subscription (or never began it); TakeEnding says why.
    bool refused = false;
    // A remark for the one at the terminal.
    std::string note;
  };
  // One text message. False in `understood`: it is no frame, the connection is of no use.
  Step OnFrame(std::string_view text, bool* understood);

  // What the server said before it closed, or when it refused the subscription.
  struct Ending {
    std::string code;
    std::string message;
    // Nothing: the server did not say.
    std::optional<bool> reconnect;
    // Refused, and 0: asking again would not help.
    std::chrono::milliseconds after{0};
  };
  // Since the connection was made; then forgotten.
  Ending TakeEnding();

  // The server took the token on this connection.
  bool connected() const { return connected_; }
  // The server confirmed the subscription on this connection.
  bool followed() const { return followed_; }
  const std::optional<Position>& position() const { return position_; }

 private:
  void OnSubscribed(const boost::json::object& frame, Step* step);
  void OnMissed(const boost::json::object& frame, Step* step);
  void OnError(const boost::json::object& frame, Step* step);
  void OnEvent(std::string_view type, const boost::json::object& frame);
  bool IsComplete() const;

  const TailStart start_;
  std::optional<Position> position_;
  Epoch epoch_;
  bool connected_ = false;
  bool followed_ = false;
  bool caught_up_ = false;
  std::set<std::string> open_runs_;
  std::set<std::string> ended_runs_;
  Ending ending_;
};

// The text on one line: line ends between tokens become spaces (inside strings there are none).
std::string OnOneLine(std::string text);

}  // namespace clarion::ctl
