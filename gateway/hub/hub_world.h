// A hub between a service that is a plain model and subscribers that a judge watches. Nothing moves
// by itself: what is under way arrives when the test says so.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "boost/json.hpp"
#include "gateway/hub/hub.h"
#include "gateway/hub/hub_testing.h"
#include "gtest/gtest.h"

namespace clarion::gateway {

// A connection that reads its frames as a browser does.
class FakeSubscriber : public Subscriber {
 public:
  explicit FakeSubscriber(Encoding encoding) : encoding_(encoding) {}

  Encoding encoding() const override { return encoding_; }
  void Send(FramesPtr frames, size_t first, FrameTag tag) override {
    if (tag.known && polls) return;
    ++sends;
    queued += frames->bytes().size() - frames->begin(first);
    most_queued = std::max(most_queued, queued);
    sent_bytes += frames->bytes().size() - frames->begin(first);
    for (size_t i = first; i < frames->count(); ++i) {
      held_.push_back({tag, frames->first_offset(i),
                       std::string(frames->bytes().substr(
                           frames->begin(i), frames->begin(i + 1) - frames->begin(i)))});
    }
    if (!holding) Release();
  }
  // As if the first of what waits were half written.
  std::vector<TakenBack> TakeBack(const absl::flat_hash_set<uint32_t>& sources) override {
    std::map<uint32_t, Offset> first;
    std::set<uint32_t> passed;
    for (size_t i = held_.size(); i > 1; --i) {
      const FrameTag tag = held_[i - 1].tag;
      if (!tag.events) {
        passed.insert(tag.source);
      } else if (sources.contains(tag.source) && !passed.contains(tag.source)) {
        first[tag.source] = held_[i - 1].first;
        held_.erase(held_.begin() + static_cast<ptrdiff_t>(i - 1));
        ++taken_back;
      }
    }
    std::vector<TakenBack> taken;
    taken.reserve(first.size());
    for (const auto& [source, offset] : first) taken.push_back({source, offset});
    return taken;
  }
  // The page reads so much of what waits.
  void Release(size_t count = SIZE_MAX) {
    for (; count > 0 && !held_.empty(); --count) {
      const std::string frame = std::move(held_.front().bytes);
      held_.pop_front();
      Read(frame);
    }
  }
  size_t held() const { return held_.size(); }
  bool HasRoom() override {
    ++asked_for_room;
    return room && (bound == 0 || queued < bound / 2);
  }
  Mark mark() const override {
    return {.written = drained ? sent_bytes : written, .queued = sent_bytes};
  }
  void Close(CloseCode code, std::string_view /*message*/) override { closed = code; }
  Passed Pass(uint64_t, std::string_view) override { return passed; }
  void OnDone() override { ++done; }

  Passed passed;
  int done = 0;

  // It takes only what it does not know.
  bool polls = false;
  // What is sent waits until it is released.
  bool holding = false;
  int taken_back = 0;
  bool room = true;
  // Its socket has taken all that was sent, or so much.
  bool drained = true;
  uint64_t written = 0;
  uint64_t sent_bytes = 0;
  // Bytes that may wait for its socket, which takes nothing before the test empties the queue; 0:
  // any.
  size_t bound = 0;
  size_t queued = 0;
  size_t most_queued = 0;
  int asked_for_room = 0;
  int sends = 0;
  CloseCode closed = CloseCode::kNormal;
  // Everything but events, in order; events as `event`.
  std::vector<v1::ServerFrame> frames;
  std::function<void(const v1::ServerFrame&)> on_frame;

  // Like `subscribed t id=1 epoch=e1 from=1 last=2`: for expectations.
  std::vector<std::string> Lines() const {
    std::vector<std::string> lines;
    lines.reserve(frames.size());
    for (const v1::ServerFrame& frame : frames) lines.push_back(Line(frame));
    return lines;
  }
  std::vector<std::string> TakeLines() {
    std::vector<std::string> lines = Lines();
    frames.clear();
    return lines;
  }

 private:
  static std::string Line(const v1::ServerFrame& f) {
    const std::string id = f.id().empty() ? "" : absl::StrCat(" #", f.id());
    switch (f.frame_case()) {
      case v1::ServerFrame::kSubscribed: {
        const v1::Subscribed& s = f.subscribed();
        if (s.all()) return absl::StrCat("subscribed all", id);
        if (s.claim()) return absl::StrCat("claim ", s.thread_id(), id);
        return absl::StrCat("subscribed ", s.thread_id(), " ", s.epoch(), " ", s.from_offset(),
                            "..", s.last_offset(), s.missed() ? " missed" : "", id);
      }
      case v1::ServerFrame::kCaughtUp:
        return absl::StrCat("caught_up ", f.caught_up().thread_id(), " ", f.caught_up().offset());
      case v1::ServerFrame::kMissed:
        return absl::StrCat("missed ", f.missed().from_offset(), "..", f.missed().to_offset(),
                            f.missed().has_discard_after()
                                ? absl::StrCat(" after ", f.missed().discard_after())
                                : "");
      case v1::ServerFrame::kEvent:
        return absl::StrCat("event ",
                            f.event().first_offset() == 0
                                ? ""
                                : absl::StrCat(f.event().first_offset(), "..").c_str(),
                            f.event().offset(), " ", f.event().event_id());
      case v1::ServerFrame::kBound:
        return absl::StrCat("bound ", f.bound().thread_id());
      case v1::ServerFrame::kUnsubscribed:
        return absl::StrCat("unsubscribed ", f.unsubscribed().thread_id(),
                            f.unsubscribed().all() ? "all" : "", id);
      case v1::ServerFrame::kError:
        return absl::StrCat("error ", f.error().code(), " ", f.error().thread_id(), id);
      case v1::ServerFrame::kAcked:
        return absl::StrCat("acked ", f.acked().thread_id(), " ", f.acked().offset(), id);
      default:
        return "?";
    }
  }

  void Read(std::string_view frame) {
    const size_t length = static_cast<uint8_t>(frame[1]);
    const std::string_view payload = frame.substr(length < 126 ? 2 : length == 126 ? 4 : 10);
    v1::ServerFrame parsed;
    if (encoding_ == Encoding::kProto) {
      ASSERT_TRUE(parsed.ParseFromArray(payload.data(), static_cast<int>(payload.size())));
    } else {
      parsed = FromJson(boost::json::parse(payload).as_object());
    }
    frames.push_back(parsed);
    if (on_frame) on_frame(parsed);
  }

  static v1::ServerFrame FromJson(const boost::json::object& json) {
    const auto text = [&](const char* key) {
      const auto* value = json.if_contains(key);
      return value == nullptr ? std::string() : std::string(value->as_string());
    };
    const auto number = [&](const char* key) {
      const auto* value = json.if_contains(key);
      return value == nullptr ? uint64_t{0} : value->to_number<uint64_t>();
    };
    const auto truth = [&](const char* key) {
      const auto* value = json.if_contains(key);
      return value != nullptr && value->as_bool();
    };
    v1::ServerFrame frame;
    frame.set_id(text("id"));
    const std::string type = text("type");
    if (type == "subscribed") {
      v1::Subscribed& s = *frame.mutable_subscribed();
      s.set_thread_id(text("thread_id"));
      s.set_epoch(text("epoch"));
      s.set_from_offset(number("from_offset"));
      s.set_last_offset(number("last_offset"));
      s.set_missed(truth("missed"));
      s.set_claim(truth("claim"));
      s.set_all(truth("all"));
    } else if (type == "caught_up") {
      frame.mutable_caught_up()->set_thread_id(text("thread_id"));
      frame.mutable_caught_up()->set_offset(number("offset"));
    } else if (type == "missed") {
      v1::MissedRange& m = *frame.mutable_missed();
      m.set_thread_id(text("thread_id"));
      m.set_from_offset(number("from_offset"));
      m.set_to_offset(number("to_offset"));
      if (json.if_contains("discard_after") != nullptr)
        m.set_discard_after(number("discard_after"));
    } else if (type == "unsubscribed") {
      frame.mutable_unsubscribed()->set_thread_id(text("thread_id"));
      frame.mutable_unsubscribed()->set_all(truth("all"));
    } else if (type == "bound") {
      frame.mutable_bound()->set_thread_id(text("thread_id"));
    } else if (type == "error") {
      frame.mutable_error()->set_code(text("code"));
      frame.mutable_error()->set_thread_id(text("thread_id"));
    } else {
      frame.mutable_event()->set_offset(number("offset"));
      frame.mutable_event()->set_first_offset(number("first_offset"));
      frame.mutable_event()->set_event_id(text("event_id"));
    }
    return frame;
  }

  struct Held {
    FrameTag tag;
    Offset first;
    std::string bytes;
  };

  const Encoding encoding_;
  std::deque<Held> held_;
};

// The service's side, and the link in between, as queues.
class ModelLink : public link::Link {
 public:
  // ---- Link ----
  void Start(link::LinkSink* sink) override { sink_ = sink; }
  void Send(v1::GatewayMessage message) override {
    if (up_) said.push_back(std::move(message));
  }
  void ReadPage(v1::ReadPageRequest request, link::PageCallback done) override {
    asked.push_back({std::move(request), std::move(done)});
    if (!up_) FailPage();
  }
  void Ask(v1::AskRequest request, link::AskCallback done) override {
    questions.push_back({std::move(request), std::move(done)});
  }
  void Stop() override {}

  // ---- The service ----
  struct Feed {
    uint64_t next = 1;
    bool lagging = false;
  };
  struct Followed {
    std::vector<LogModel> versions = {LogModel()};
    std::set<uint64_t> running;
    std::optional<Feed> feed;
    LogModel& log() { return versions.back(); }
  };
  struct Asked {
    v1::ReadPageRequest request;
    link::PageCallback done;
  };
  struct Answered {
    link::PageCallback done;
    absl::StatusOr<link::Page> page;
  };

  // Whoever asked waits for the test, which answers; not inside the call.
  struct Question {
    v1::AskRequest request;
    link::AskCallback done;
  };

  std::map<std::string, Followed> threads;
  std::deque<Question> questions;
  std::deque<v1::GatewayMessage> said;
  std::deque<link::ToGateway> stream;
  std::deque<Asked> asked;
  std::deque<Answered> answered;
  // The gateway's queue takes nothing live.
  bool full = false;
  size_t page_events = 2;
  // Merges events in pages, where that is allowed.
  bool compacts = false;
  int made = 0;
  // Bytes that make events larger.
  size_t padding = 0;
  // Takes what the model does not: true, it was handled.
  std::function<bool(const v1::GatewayMessage&)> on_message;

  bool up() const { return up_; }
  void Up() {
    up_ = true;
    sink_->OnUp();
  }
  void Down(const absl::Status& status = absl::UnavailableError("down")) {
    up_ = false;
    said.clear();
    stream.clear();
    for (auto& [id, thread] : threads) {
      thread.running.clear();
      thread.feed.reset();
    }
    subscriptions_.clear();
    sink_->OnDown(status);
  }

  void Append(const std::string& id, int count = 1) {
    Followed& thread = threads[id];
    const uint64_t first = thread.log().last() + 1;
    for (int i = 0; i < count; ++i) thread.log().Append(&made, padding);
    Publish(id, first);
  }
  void RollBack(const std::string& id, size_t n) {
    Followed& thread = threads[id];
    if (thread.log().last() == 0) return;
    thread.log().RollBack(n);
    const uint64_t first = thread.log().last() + 1;
    thread.log().Append(&made);
    if (thread.feed.has_value() && !thread.feed->lagging)
      thread.feed->next = std::min(thread.feed->next, first);
    Publish(id, first);
  }
  void Expire(const std::string& id, uint64_t n) {
    Followed& thread = threads[id];
    thread.log().RaiseFloor(thread.log().floor() + n);
    if (!thread.feed.has_value()) return;
    v1::ServiceMessage message;
    message.mutable_floor_raised()->set_thread_id(id);
    message.mutable_floor_raised()->set_floor(thread.log().floor());
    stream.emplace_back(std::move(message));
  }

  // What the gateway said so far is handled.
  // A step of everything that is under way. False: nothing was.
  bool Move() {
    bool moved = ServiceTakes();
    moved = StreamArrives(1'000) || moved;
    moved = PageIsRead() || moved;
    return PageArrives() || moved;
  }
  bool ServiceTakes() {
    const bool any = !said.empty();
    while (!said.empty()) {
      const v1::GatewayMessage message = std::move(said.front());
      said.pop_front();
      Handle(message);
    }
    return any;
  }
  bool StreamArrives(size_t most) {
    std::vector<link::ToGateway> batch;
    while (!stream.empty() && batch.size() < most) {
      batch.push_back(std::move(stream.front()));
      stream.pop_front();
    }
    if (batch.empty()) return false;
    sink_->OnMessages(std::move(batch));
    return true;
  }
  bool PageIsRead() {
    if (asked.empty()) return false;
    Asked ask = std::move(asked.front());
    asked.pop_front();
    const Position after{Epoch(ask.request.after().epoch()), Offset(ask.request.after().offset())};
    const LogModel& log = threads[ask.request.thread_id()].log();
    const auto shape =
        compacts && ask.request.compact() ? LogModel::Shape::kCompacted : LogModel::Shape::kFull;
    link::Page page = log.Read(after, EventsOf(ask.request, log, after), shape);
    for (link::Live& run : page.runs) {
      run.thread = ThreadId(ask.request.thread_id());
      for (EventPtr& event : run.events) {
        // Only what was asked for.
        event = std::make_shared<EncodedEvent>(
            ask.request.want_json() ? event->json() : std::string_view(),
            ask.request.want_proto() ? event->proto() : std::string_view(), event->offsets());
      }
    }
    answered.push_back({std::move(ask.done), std::move(page)});
    return true;
  }
  bool PageArrives() {
    if (answered.empty()) return false;
    Answered answer = std::move(answered.front());
    answered.pop_front();
    answer.done(std::move(answer.page));
    return true;
  }
  bool FailPage(const absl::Status& status = absl::UnavailableError("no page now")) {
    if (asked.empty()) return false;
    answered.push_back({std::move(asked.front().done), status});
    asked.pop_front();
    return true;
  }

 private:
  // How many the page holds: the bytes that were asked for, at least one event.
  size_t EventsOf(const v1::ReadPageRequest& request, const LogModel& log,
                  const Position& after) const {
    uint64_t next = 0;
    std::ignore = log.MissedAfter(after, &next);
    size_t count = 0;
    for (size_t bytes = 0; count < page_events && next + count <= log.last(); ++count) {
      bytes += log.at(next + count)->json().size();
      if (count > 0 && bytes > request.max_bytes()) break;
    }
    return std::max<size_t>(count, 1);
  }
  void Publish(const std::string& id, uint64_t first) {
    Followed& thread = threads[id];
    if (!thread.feed.has_value() || thread.feed->lagging) return;
    if (full) return Lag(id);
    SendLive(id, first);
  }
  void SendLive(const std::string& id, uint64_t first) {
    Followed& thread = threads[id];
    const LogModel& log = thread.log();
    while (first <= log.last()) {
      link::Live live{
          .thread = ThreadId(id), .epoch = Epoch(log.epoch_at(first)), .first = Offset(first)};
      for (; first <= log.last() && log.epoch_at(first) == live.epoch.str(); ++first)
        live.events.push_back(log.at(first));
      stream.emplace_back(std::move(live));
    }
    thread.feed->next = log.last() + 1;
  }
  void Lag(const std::string& id) {
    Followed& thread = threads[id];
    thread.feed->lagging = true;
    v1::ServiceMessage message;
    message.mutable_lagging()->set_thread_id(id);
    message.mutable_lagging()->mutable_from()->set_offset(thread.feed->next);
    stream.emplace_back(std::move(message));
  }

  void Handle(const v1::GatewayMessage& message) {
    if (on_message && on_message(message)) return;
    if (message.has_subscribe()) return Subscribe(message.subscribe());
    if (message.has_unsubscribe()) return Unsubscribe(message.unsubscribe().subscription_id());
    if (message.has_follow()) return Follow(message.follow());
    if (message.has_subscribe_all() && message.subscribe_all().on()) {
      v1::ServiceMessage answer;
      answer.mutable_all_subscribed()->set_subscription_id(
          message.subscribe_all().subscription_id());
      stream.emplace_back(std::move(answer));
    }
  }
  void Subscribe(const v1::SubscribeThread& subscribe) {
    Followed& thread = threads[subscribe.thread_id()];
    const LogModel& log = thread.log();
    Position after{Epoch(log.epoch()),
                   Offset(subscribe.from() == v1::START_FROM_LIVE ? log.last() : 0)};
    if (subscribe.has_after())
      after = {Epoch(subscribe.after().epoch()), Offset(subscribe.after().offset())};
    v1::ServiceMessage message;
    v1::SubscriptionStarted& started = *message.mutable_started();
    started.set_subscription_id(subscribe.subscription_id());
    started.mutable_last()->set_epoch(log.epoch());
    started.mutable_last()->set_offset(log.last());
    uint64_t from = 0;
    for (v1::Missed& missed : log.MissedAfter(after, &from))
      *started.add_missed() = std::move(missed);
    started.set_from_offset(from);
    subscriptions_[subscribe.subscription_id()] = subscribe.thread_id();
    thread.running.insert(subscribe.subscription_id());
    if (!thread.feed.has_value()) thread.feed = Feed{.next = log.last() + 1};
    stream.emplace_back(std::move(message));
  }
  void Unsubscribe(uint64_t id) {
    const auto found = subscriptions_.find(id);
    if (found == subscriptions_.end()) return;
    Followed& thread = threads[found->second];
    subscriptions_.erase(found);
    thread.running.erase(id);
    if (thread.running.empty()) thread.feed.reset();
  }
  void Follow(const v1::FollowThread& follow) {
    Followed& thread = threads[follow.thread_id()];
    if (!thread.feed.has_value() || !thread.feed->lagging) return;
    const Position position{Epoch(follow.position().epoch()), Offset(follow.position().offset())};
    uint64_t from = 0;
    const bool seamless = thread.log().MissedAfter(position, &from).empty();
    thread.feed->next = from;
    // It keeps no tail: whoever is not quite there lags again.
    if (!seamless || from != thread.log().last() + 1) return Lag(follow.thread_id());
    thread.feed->lagging = false;
  }

  link::LinkSink* sink_ = nullptr;
  bool up_ = false;
  std::map<uint64_t, std::string> subscriptions_;
};

// HubOptions::after, turned by hand.
class ManualTimers {
 public:
  auto Function() {
    return [this](std::chrono::milliseconds delay, std::function<void()> task) {
      timers_.emplace(now_ + delay, std::move(task));
    };
  }
  // Not the clock's zero, which is no time.
  std::chrono::steady_clock::time_point now() const {
    return std::chrono::steady_clock::time_point(std::chrono::hours(1) + now_);
  }
  // Runs the next one that is due; false: there is none.
  bool RunNext() {
    if (timers_.empty()) return false;
    auto first = timers_.begin();
    now_ = first->first;
    const std::function<void()> task = std::move(first->second);
    timers_.erase(first);
    task();
    return true;
  }
  void Advance(std::chrono::milliseconds by) {
    const auto until = now_ + by;
    while (!timers_.empty() && timers_.begin()->first <= until) RunNext();
    now_ = until;
  }

 private:
  std::chrono::milliseconds now_{0};
  std::multimap<std::chrono::milliseconds, std::function<void()>> timers_;
};

}  // namespace clarion::gateway
