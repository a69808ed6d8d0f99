// The hub between a model of the service and judged subscribers: every interleaving of small
// scripts, and long random ones with two threads, lag, disconnects, late and failing pages, slow
// connections and new epochs.
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "gateway/hub/hub_world.h"
#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

using std::chrono::milliseconds;

enum class Step : uint8_t {
  kAppend,     // an event is published
  kRollBack,   // the log loses two events and goes on in a new epoch
  kExpire,     // the floor rises by two
  kTake,       // the service handles what the gateway said
  kArrive,     // one message of the service arrives
  kArriveAll,  // all that is under way arrives at once
  kRead,       // the service reads the oldest page asked for
  kPage,       // the oldest page that was read arrives
  kFail,       // the oldest page asked for fails
  kFull,       // the gateway's queue is full, or is not any more
  kLink,       // the link goes down, and comes up
  kRoom,       // the first connection has no room, or has again
  kAgain,      // the second one subscribes again, in place
  kRestart,    // the first one subscribes again, from half way
  kLeave,      // the second one unsubscribes, or subscribes anew
  kTimer,      // the next timer runs
  kHold,       // the first connection's socket takes nothing, or everything again
  kRelease,    // it takes one frame
  kOverflow,   // too much waits for it
};
constexpr int kSteps = 19;

class World {
 public:
  World(int connections, std::vector<std::string> threads, HubOptions options = {})
      : threads_(std::move(threads)) {
    options.gateway_id = "g";
    options.after = timers_.Function();
    hub_ = Hub::Create(options, &link_, nullptr);
    link_.Start(hub_.get());
    link_.compacts = true;
    for (const std::string& thread : threads_) link_.Append(thread, 2);
    NoteOwners();
    link_.Up();
    for (int i = 0; i < connections; ++i) {
      auto& c = connections_.emplace_back(
          std::make_unique<Watched>(i % 2 == 0 ? Encoding::kProto : Encoding::kJson));
      c->subscriber.on_frame = [this, watched = c.get()](const v1::ServerFrame& frame) {
        OnFrame(*watched, frame);
      };
      hub_->Open(&c->subscriber, {.id = ConnectionId(absl::StrCat("c", i)), .user = UserId("u")});
      for (const std::string& thread : threads_) Subscribe(*c, thread, std::nullopt);
    }
  }

  bool Do(Step step, uint32_t luck = 0) {
    const std::string& thread = threads_[luck % threads_.size()];
    Watched& first = *connections_.front();
    Watched& second = *connections_.back();
    switch (step) {
      case Step::kAppend:
        link_.Append(thread, 1 + static_cast<int>(luck / 7 % 2));
        NoteOwners();
        return true;
      case Step::kRollBack:
        if (link_.threads[thread].log().last() == 0) return false;
        link_.RollBack(thread, 2);
        NoteOwners();
        return true;
      case Step::kExpire:
        link_.Expire(thread, 2);
        return true;
      case Step::kTake:
        return link_.ServiceTakes();
      case Step::kArrive:
        return link_.StreamArrives(1);
      case Step::kArriveAll:
        return link_.stream.size() > 1 && link_.StreamArrives(1'000);
      case Step::kRead:
        return link_.PageIsRead();
      case Step::kPage:
        return link_.PageArrives();
      case Step::kFail:
        return link_.FailPage();
      case Step::kFull:
        link_.full = !link_.full;
        return true;
      case Step::kLink:
        if (link_.up()) {
          link_.Down();
        } else {
          link_.Up();
        }
        return true;
      case Step::kRoom:
        first.subscriber.room = !first.subscriber.room;
        if (first.subscriber.room) hub_->OnRoom(&first.subscriber);
        return true;
      case Step::kAgain:
        if (!second.judges.contains(thread)) return false;
        Subscribe(second, thread, std::nullopt);
        return true;
      case Step::kRestart: {
        if (!first.judges.contains(thread)) return false;
        const LogModel& log = link_.threads[thread].log();
        Subscribe(first, thread, Position{Epoch(log.epoch()), Offset(log.last() / 2)});
        return true;
      }
      case Step::kHold:
        first.subscriber.holding = !first.subscriber.holding;
        if (!first.subscriber.holding) first.subscriber.Release();
        return true;
      case Step::kRelease:
        if (first.subscriber.held() == 0) return false;
        first.subscriber.Release(1);
        return true;
      case Step::kOverflow:
        if (first.subscriber.held() == 0) return false;
        hub_->OnOverflow(&first.subscriber);
        return true;
      case Step::kLeave:
        second.subscriber.Release();
        if (second.judges.contains(thread)) {
          v1::Unsubscribe unsubscribe;
          unsubscribe.set_thread_id(thread);
          hub_->Unsubscribe(&second.subscriber, unsubscribe, "");
          second.judges.erase(thread);
        } else {
          Subscribe(second, thread, std::nullopt);
        }
        return true;
      case Step::kTimer:
        return timers_.RunNext();
    }
    return false;
  }

  // Everything that hinders ends, and everything under way arrives.
  void Rest() {
    link_.full = false;
    for (auto& c : connections_) {
      taken_back_ += c->subscriber.taken_back;
      c->subscriber.holding = false;
      c->subscriber.Release();
      c->subscriber.room = true;
      hub_->OnRoom(&c->subscriber);
    }
    if (!link_.up()) link_.Up();
    for (int i = 0; i < 1'000; ++i) {
      const bool moved = link_.Move();
      // A page that failed is asked for again after a while.
      if (!moved && !RetryIsDue()) break;
    }
    for (auto& c : connections_) {
      for (auto& [thread, judge] : c->judges) {
        judge.AtRest(link_.threads[thread].log());
        Note(judge, thread);
      }
    }
  }
  const std::string& mistake() const { return mistake_; }
  // Events that were taken back from queues.
  int taken_back() const { return taken_back_; }
  // Everything that every connection was sent.
  std::string Told() const {
    std::string told;
    for (const auto& c : connections_)
      absl::StrAppend(&told, absl::StrJoin(c->subscriber.Lines(), ", "), "\n");
    return told;
  }

 private:
  struct Watched {
    explicit Watched(Encoding encoding) : subscriber(encoding) {}
    FakeSubscriber subscriber;
    // Wants no compacted events.
    bool full() const { return subscriber.encoding() == Encoding::kJson; }
    // What it follows.
    std::map<std::string, Judge> judges;
    // The last question of each.
    std::map<std::string, std::string> asked;
    // Ids of questions whose answer may begin anywhere.
    std::set<std::string> free;
  };

  void Subscribe(Watched& connection, const std::string& thread, std::optional<Position> after) {
    const std::string id = std::to_string(++last_id_);
    v1::Subscribe subscribe;
    subscribe.set_thread_id(thread);
    if (connection.full()) subscribe.set_history(v1::HISTORY_FULL);
    if (after.has_value()) {
      connection.free.insert(id);
      subscribe.mutable_after()->set_epoch(after->epoch.str());
      subscribe.mutable_after()->set_offset(after->offset.value());
    }
    connection.judges.try_emplace(thread);
    connection.asked[thread] = id;
    hub_->Subscribe(&connection.subscriber, subscribe, id);
  }

  void OnFrame(Watched& connection, const v1::ServerFrame& frame) {
    if (frame.has_unsubscribed()) return;
    const std::string thread = frame.has_subscribed()  ? frame.subscribed().thread_id()
                               : frame.has_missed()    ? frame.missed().thread_id()
                               : frame.has_caught_up() ? frame.caught_up().thread_id()
                               : frame.has_error()     ? frame.error().thread_id()
                                                       : ThreadOfEvent(frame);
    const auto found = connection.judges.find(thread);
    const bool ended = frame.has_error() && frame.error().code() == "GATEWAY_UNAVAILABLE";
    if (ended) {
      // It waited too long for an answer: the subscription is over, and every unanswered question
      // is told. One that waited for its socket may be older than the page's last question, which
      // was a new one then.
      if (found == connection.judges.end()) return;
      const bool older = !frame.id().empty() && frame.id() != connection.asked[thread];
      if (older) {
        found->second.Asked();
      } else {
        connection.judges.erase(found);
      }
      return;
    }
    if (found == connection.judges.end()) {
      // An event of a thread that was left cannot be told from one of another.
      if (mistake_.empty())
        mistake_ = absl::StrCat("a frame after unsubscribed: ", frame.ShortDebugString());
      return;
    }
    Judge& judge = found->second;
    if (frame.has_subscribed()) {
      if (connection.free.erase(frame.id()) > 0) judge.Asked();
      const v1::Subscribed& s = frame.subscribed();
      judge.Subscribed(s.epoch(), s.from_offset(), s.last_offset(), s.missed());
    } else if (frame.has_missed()) {
      const v1::MissedRange& m = frame.missed();
      judge.Missed(m.from_offset(), m.to_offset(),
                   m.has_discard_after() ? std::optional(m.discard_after()) : std::nullopt);
    } else if (frame.has_caught_up()) {
      judge.CaughtUp(frame.caught_up().offset());
    } else if (frame.has_event()) {
      const v1::Event& event = frame.event();
      if (connection.full() && event.first_offset() != 0 && mistake_.empty())
        mistake_ = "a compacted event for who wants all";
      judge.Event(event.offset(), event.event_id(),
                  event.first_offset() == 0 ? event.offset() : event.first_offset());
    } else if (mistake_.empty()) {
      mistake_ = absl::StrCat("an unexpected frame: ", frame.ShortDebugString());
    }
    Note(judge, thread);
  }

  // Events of the model carry no thread: their ids tell.
  std::string ThreadOfEvent(const v1::ServerFrame& frame) {
    if (!frame.has_event()) return threads_.front();
    for (const auto& [thread, ids] : owners_) {
      if (ids.contains(frame.event().event_id())) return thread;
    }
    return threads_.front();
  }
  void NoteOwners() {
    for (auto& [thread, followed] : link_.threads) {
      const LogModel& log = followed.log();
      for (uint64_t o = log.last(); o > 0 && owners_[thread].insert(log.id_at(o)).second; --o) {
      }
    }
  }

  bool RetryIsDue() {
    if (retries_++ > 20) return false;
    return timers_.RunNext();
  }

  void Note(const Judge& judge, const std::string& thread) {
    if (mistake_.empty() && !judge.mistake().empty())
      mistake_ = absl::StrCat(thread, ": ", judge.mistake());
  }

  const std::vector<std::string> threads_;
  ManualTimers timers_;
  ModelLink link_;
  std::unique_ptr<Hub> hub_;
  std::vector<std::unique_ptr<Watched>> connections_;
  std::map<std::string, std::set<std::string>> owners_;
  std::string mistake_;
  int last_id_ = 0;
  int taken_back_ = 0;
  int retries_ = 0;
};

std::string Text(const std::vector<Step>& script) {
  static constexpr const char* kNames[] = {
      "append", "roll back", "expire", "take",    "arrive",  "arrive all", "read",
      "page",   "fail",      "full",   "link",    "room",    "again",      "restart",
      "leave",  "timer",     "hold",   "release", "overflow"};
  std::string text;
  for (const Step step : script) absl::StrAppend(&text, kNames[static_cast<int>(step)], ", ");
  return text;
}

// Every order of the steps that a budget allows, up to a depth, each from the start.
class Explorer {
 public:
  Explorer(int connections, std::map<Step, int> budget) : connections_(connections) {
    for (const auto& [step, times] : budget) budget_[static_cast<size_t>(step)] = times;
  }
  // False: the last step of the script was not possible.
  bool Explore() {
    World world(connections_, {"t"});
    // Both have asked, and the answers are under way.
    world.Do(Step::kTake);
    for (size_t i = 0; i < script_.size(); ++i) {
      if (!world.Do(script_[i])) return false;
    }
    world.Rest();
    taken_back_ += world.taken_back();
    ++explored_;
    if (!world.mistake().empty()) {
      ADD_FAILURE() << world.mistake() << " after: " << Text(script_);
      failed_ = true;
    }
    for (int i = 0; i < kSteps && !failed_; ++i) {
      if (budget_[i] == 0) continue;
      --budget_[i];
      script_.push_back(static_cast<Step>(i));
      Explore();
      script_.pop_back();
      ++budget_[i];
    }
    return true;
  }
  int explored() const { return explored_; }
  int taken_back() const { return taken_back_; }

 private:
  const int connections_;
  std::array<int, kSteps> budget_ = {};
  std::vector<Step> script_;
  int explored_ = 0;
  int taken_back_ = 0;
  bool failed_ = false;
};

TEST(HubJoinTest, HoldsInEveryInterleavingOfAReplayAndLiveEvents) {
  Explorer explorer(1,
                    {{Step::kAppend, 3}, {Step::kArrive, 4}, {Step::kRead, 2}, {Step::kPage, 2}});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 500);
}

TEST(HubJoinTest, HoldsInEveryInterleavingOfTwoSubscriptionsOfOneThread) {
  Explorer explorer(2,
                    {{Step::kAppend, 2}, {Step::kArrive, 3}, {Step::kRead, 3}, {Step::kPage, 3}});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 500);
}

TEST(HubJoinTest, HoldsInEveryInterleavingWithLag) {
  Explorer explorer(2, {{Step::kAppend, 2},
                        {Step::kFull, 2},
                        {Step::kArriveAll, 1},
                        {Step::kArrive, 1},
                        {Step::kTake, 1},
                        {Step::kRead, 2},
                        {Step::kPage, 1}});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 500);
}

TEST(HubJoinTest, HoldsInEveryInterleavingWithNewEpochs) {
  Explorer explorer(1, {{Step::kAppend, 1},
                        {Step::kRollBack, 2},
                        {Step::kArrive, 3},
                        {Step::kRead, 2},
                        {Step::kPage, 2}});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 500);
}

TEST(HubJoinTest, HoldsInEveryInterleavingWithALinkThatGoes) {
  Explorer explorer(1, {{Step::kAppend, 1},
                        {Step::kRollBack, 1},
                        {Step::kLink, 2},
                        {Step::kTake, 1},
                        {Step::kArrive, 2},
                        {Step::kRead, 2},
                        {Step::kPage, 1}});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 500);
}

TEST(HubJoinTest, HoldsInEveryInterleavingWithSubscribingAgain) {
  Explorer explorer(1, {{Step::kAppend, 1},
                        {Step::kAgain, 1},
                        {Step::kRestart, 1},
                        {Step::kTake, 2},
                        {Step::kArrive, 3},
                        {Step::kRead, 1},
                        {Step::kPage, 1}});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 500);
}

// What waits for a slow connection is taken back, and replayed: in the middle of anything.
TEST(HubJoinTest, HoldsInEveryInterleavingWithAQueueThatIsTakenBack) {
  Explorer explorer(1, {{Step::kAppend, 2},
                        {Step::kHold, 1},
                        {Step::kRelease, 1},
                        {Step::kOverflow, 2},
                        {Step::kArrive, 2},
                        {Step::kRead, 2},
                        {Step::kPage, 2}});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 500);
  EXPECT_GT(explorer.taken_back(), 100);
}

TEST(HubJoinTest, HoldsInEveryInterleavingWithAQueueThatIsTakenBackAndNewEpochs) {
  Explorer explorer(1, {{Step::kAppend, 2},
                        {Step::kRollBack, 1},
                        {Step::kHold, 1},
                        {Step::kOverflow, 1},
                        {Step::kArrive, 3},
                        {Step::kRead, 1},
                        {Step::kPage, 1}});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 500);
  EXPECT_GT(explorer.taken_back(), 50);
}

TEST(HubJoinTest, HoldsInEveryInterleavingWithAQueueThatIsTakenBackAndSubscribingAgain) {
  Explorer explorer(1, {{Step::kAppend, 1},
                        {Step::kHold, 1},
                        {Step::kOverflow, 1},
                        {Step::kAgain, 1},
                        {Step::kRestart, 1},
                        {Step::kTake, 1},
                        {Step::kArrive, 2},
                        {Step::kRead, 1},
                        {Step::kPage, 1}});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 500);
  EXPECT_GT(explorer.taken_back(), 50);
}

TEST(HubJoinTest, HoldsInLongRandomInterleavings) {
  for (uint32_t seed = 1; seed <= 2'000; ++seed) {
    std::minstd_rand random(seed);
    HubOptions options;
    options.concurrent_pages = 1 + seed % 3;
    // Little, so that it is not always enough.
    options.recent_bytes_per_thread = seed % 4 * 150;
    World world(1 + static_cast<int>(seed % 3),
                seed % 2 == 0 ? std::vector<std::string>{"t"} : std::vector<std::string>{"t", "s"},
                options);
    std::vector<Step> script;
    for (int i = 0; i < 150 && world.mistake().empty(); ++i) {
      // Rare things are rare.
      static constexpr Step kDeck[] = {
          Step::kAppend, Step::kAppend, Step::kAppend,    Step::kAppend, Step::kTake,
          Step::kTake,   Step::kTake,   Step::kArrive,    Step::kArrive, Step::kArrive,
          Step::kArrive, Step::kRead,   Step::kRead,      Step::kRead,   Step::kPage,
          Step::kPage,   Step::kPage,   Step::kArriveAll, Step::kRelease};
      static constexpr Step kRare[] = {
          Step::kRollBack, Step::kExpire, Step::kFail,     Step::kFull,    Step::kLink,
          Step::kRoom,     Step::kAgain,  Step::kRestart,  Step::kLeave,   Step::kTimer,
          Step::kHold,     Step::kHold,   Step::kOverflow, Step::kOverflow};
      const Step step = random() % 6 == 0 ? kRare[random() % std::size(kRare)]
                                          : kDeck[random() % std::size(kDeck)];
      script.push_back(step);
      world.Do(step, static_cast<uint32_t>(random()));
    }
    if (world.mistake().empty()) world.Rest();
    ASSERT_EQ(world.mistake(), "") << "seed " << seed << ": " << Text(script) << "\n"
                                   << world.Told();
  }
}

}  // namespace
}  // namespace clarion::gateway
