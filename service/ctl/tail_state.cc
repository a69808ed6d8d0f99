#include "service/ctl/tail_state.h"

#include <algorithm>

#include "boost/json/parse.hpp"
#include "proto/base/text.h"
#include "proto/contract/event_type.h"
#include "proto/contract/json_text.h"

namespace clarion::ctl {
namespace {

namespace json = boost::json;

std::string TextOf(const json::object& frame, std::string_view key) {
  const json::value* value = frame.if_contains({key.data(), key.size()});
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

uint64_t NumberOf(const json::object& frame, std::string_view key) {
  const json::value* value = frame.if_contains({key.data(), key.size()});
  if (value == nullptr) return 0;
  boost::system::error_code error;
  const uint64_t number = value->to_number<uint64_t>(error);
  return error ? 0 : number;
}

bool FlagOf(const json::object& frame, std::string_view key) {
  const json::value* value = frame.if_contains({key.data(), key.size()});
  return value != nullptr && value->is_bool() && value->get_bool();
}

// Of the one frame that asks for something.
constexpr std::string_view kFrameId = "tail";

bool EndsRun(std::string_view type) {
  const EventTypeRow* row = TypeNamed(type);
  return row != nullptr && row->terminal;
}

}  // namespace

std::string TailState::ConnectFrame(std::string_view token) const {
  std::string frame = R"({"type":"connect","id":)";
  AppendJsonString(kFrameId, &frame);
  frame += R"(,"token":)";
  AppendJsonString(token, &frame);
  frame += R"(,"protocol":1,"client":"clarionctl","subscribe":[{"thread_id":)";
  AppendJsonString(start_.thread, &frame);
  if (position_ && !position_->epoch.empty()) {
    frame += R"(,"after":{"epoch":)";
    AppendJsonString(position_->epoch.str(), &frame);
    frame += Concat(R"(,"offset":)", position_->offset.value(), "}");
  } else {
    frame += R"(,"from":)";
    AppendJsonString(start_.from, &frame);
  }
  return frame + R"(,"history":"full"}]})";
}

TailState::Step TailState::OnFrame(std::string_view text, bool* understood) {
  json::error_code error;
  json::parse_options options;
  options.max_depth = kMaxJsonDepth + 8;
  const json::value value = json::parse({text.data(), text.size()}, error, {}, options);
  *understood = !error && value.is_object();
  Step step;
  if (!*understood) return step;
  const json::object& frame = value.get_object();
  const std::string type = TextOf(frame, "type");
  step.print = type != "ping" && type != "probe";
  if (type == "ping") {
    step.reply = R"({"type":"pong"})";
  } else if (type == "probe") {
    step.reply = R"({"type":"probe_reply","nonce":)";
    AppendJsonString(TextOf(frame, "nonce"), &step.reply);
    step.reply += "}";
  } else if (type == "connected") {
    connected_ = true;
    caught_up_ = false;
  } else if (type == "subscribed") {
    OnSubscribed(frame, &step);
  } else if (type == "missed") {
    OnMissed(frame, &step);
  } else if (type == "caught_up") {
    caught_up_ = true;
  } else if (type == "error") {
    OnError(frame, &step);
  } else if (type == "going_away") {
    ending_.reconnect = true;
    ending_.after = std::chrono::milliseconds(NumberOf(frame, "reconnect_after_ms"));
  } else if (frame.contains("event_id") && TextOf(frame, "thread_id") == start_.thread) {
    OnEvent(type, frame);
  }
  step.done = step.done || (start_.until_complete && IsComplete());
  return step;
}

void TailState::OnSubscribed(const json::object& frame, Step* step) {
  if (TextOf(frame, "thread_id") != start_.thread) return;
  followed_ = true;
  if (FlagOf(frame, "claim")) {
    step->note = "the thread is not this user's (yet); waiting until it is";
    return;
  }
  epoch_ = Epoch(TextOf(frame, "epoch"));
  const uint64_t from = NumberOf(frame, "from_offset");
  // Everything before from_offset counts as seen; what is missing of it, `missed` says.
  position_ = Position{epoch_, Offset(from).prev()};
  caught_up_ = false;
  open_runs_.clear();
  const json::value* runs = frame.if_contains("active_runs");
  if (runs == nullptr || !runs->is_array()) return;
  for (const json::value& run : runs->get_array()) {
    if (run.is_object()) open_runs_.insert(TextOf(run.get_object(), "run_id"));
  }
}

void TailState::OnMissed(const json::object& frame, Step* step) {
  if (TextOf(frame, "thread_id") != start_.thread) return;
  epoch_ = Epoch(TextOf(frame, "epoch"));
  const uint64_t last = frame.contains("discard_after") ? NumberOf(frame, "discard_after")
                                                        : NumberOf(frame, "to_offset");
  position_ = Position{epoch_, Offset(last)};
  step->note = Concat("missed offsets ", NumberOf(frame, "from_offset"), " to ",
                      NumberOf(frame, "to_offset"), ": ", TextOf(frame, "reason"));
}

void TailState::OnError(const json::object& frame, Step* step) {
  ending_ = {TextOf(frame, "code"), TextOf(frame, "message"), FlagOf(frame, "reconnect"),
             std::chrono::milliseconds(NumberOf(frame, "retry_after_ms"))};
  step->refused = TextOf(frame, "thread_id") == start_.thread || TextOf(frame, "id") == kFrameId;
  if (!step->refused) step->note = Concat(ending_.code, ": ", ending_.message);
}

void TailState::OnEvent(std::string_view type, const json::object& frame) {
  position_ = Position{epoch_, Offset(NumberOf(frame, "offset"))};
  const std::string run = TextOf(frame, "run_id");
  if (type == "agent_started") open_runs_.insert(run);
  if (!EndsRun(type)) return;
  open_runs_.erase(run);
  ended_runs_.insert(run);
}

bool TailState::IsComplete() const {
  if (!start_.run.empty()) return ended_runs_.count(start_.run) > 0;
  return caught_up_ && open_runs_.empty() && !ended_runs_.empty();
}

TailState::Ending TailState::TakeEnding() {
  connected_ = false;
  followed_ = false;
  return std::exchange(ending_, {});
}

std::string OnOneLine(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return text;
}

}  // namespace clarion::ctl
