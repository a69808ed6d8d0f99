// Random interleavings of everything that moves a stream, against a gateway that keeps what a
// browser would have: it must always be able to put the log together without gap or repeat.
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "service/delivery/delivery_fixture.h"
#include "telemetry/log.h"

namespace clarion::delivery {
namespace {

// What one subscription's browser has.
struct View {
  ConnectionId connection;
  ThreadId thread;
  bool told = false;  // ever started
  bool started = false;
  bool claim = false;
  Position position;                     // has everything up to here
  Offset first{1};                       // began here
  std::map<uint64_t, std::string> seen;  // by offset
  std::set<uint64_t> missed;
};

// One attachment's live stream of a thread, as a gateway knows it.
struct Stream {
  Position position;
  bool lagging = false;
  // FollowThread was said; what is on its way may be older than that.
  bool following = false;
  // It lags if the Lagging that came before it was for the same subscriptions; only the service
  // knows. Then live events may come although it seems to lag, and some that were pulled already.
  bool doubtful = false;
  size_t subscriptions = 0;
};

// A gateway that joins replay and live in the simplest way that can be right. Like a browser it
// trusts positions, and complains when told something that does not fit what it has.
class ModelGateway {
 public:
  ModelGateway(Delivery& delivery, std::mt19937_64& random, std::string id)
      : delivery_(delivery), random_(random), id_(std::move(id)) {
    Attach();
  }

  // A new attachment, also while the older one still stands; everything is restored.
  void Attach() {
    if (gateway_ != nullptr && random_() % 2 == 0) gateway_->Detach();
    auto older = std::move(gateway_);
    gateway_ = std::make_unique<TestGateway>(delivery_, id_);
    streams_.clear();
    lagging_unseen_.clear();
    ++generation_;
    for (const auto& [connection, user] : connections_) gateway_->Open(connection, user);
    for (auto& [id, view] : views_) {
      view.started = view.claim = false;
      if (view.told) {
        gateway_->SubscribeAfter(
            view.connection.str(), id, view.thread.str(),
            PositionOf(view.position.epoch.str(), view.position.offset.value()), true);
      } else {
        gateway_->Subscribe(view.connection.str(), id, view.thread.str());
      }
    }
  }
  void Open(const std::string& connection, const std::string& user) {
    connections_[connection] = user;
    gateway_->Open(connection, user);
  }
  void Subscribe(const std::string& connection, const ThreadId& thread) {
    if (!connections_.contains(connection)) return;
    const uint64_t id = ++last_id_;
    views_[id] = {.connection = ConnectionId(connection), .thread = thread};
    gateway_->Subscribe(connection, id, thread.str(),
                        random_() % 2 == 0 ? v1::START_FROM_START : v1::START_FROM_LIVE);
  }
  void UnsubscribeOne() {
    if (views_.empty()) return;
    auto view = views_.begin();
    std::advance(view, random_() % views_.size());
    Forget(view->second);
    gateway_->Unsubscribe(view->first);
    views_.erase(view);
  }
  // Room for `room` Live from now on.
  void SetRoom(size_t room) { gateway_->carrier().set_live_room(room); }

  // Takes in one message, or pulls for one subscription that is behind. False: nothing to do.
  bool Step() {
    if (auto said = gateway_->carrier().Take()) {
      TakeIn(*said);
      return true;
    }
    if (pulling_) return false;
    for (auto& [thread, stream] : streams_) {
      if (stream.lagging) {
        PullStream(thread, stream);
        return true;
      }
    }
    for (auto& [id, view] : views_) {
      if (view.started && streams_.contains(view.thread) &&
          view.position != streams_[view.thread].position) {
        Pull(id, view);
        return true;
      }
    }
    return false;
  }

  void Explain(FakeLog& log) {
    for (auto& [id, view] : views_) {
      if (!view.started) continue;
      const auto stream = streams_.find(view.thread);
      const std::string text = stream == streams_.end()
                                   ? "no stream"
                                   : absl::StrCat(stream->second.position.epoch.str(), ":",
                                                  stream->second.position.offset.value(),
                                                  stream->second.lagging ? " lagging" : "");
      ADD_FAILURE() << id_ << " " << id << " " << view.thread.str() << " at "
                    << view.position.epoch.str() << ":" << view.position.offset.value()
                    << ", stream at " << text << ", log at "
                    << log.StateOf(view.thread).end().epoch.str() << ":"
                    << log.StateOf(view.thread).last.value();
    }
  }

  void Check(FakeLog& log) {
    for (auto& [id, view] : views_) {
      const log::ThreadState state = log.StateOf(view.thread);
      const std::string user = connections_[view.connection.str()];
      if (state.owner.str() != user) {
        EXPECT_FALSE(view.started) << id;
        EXPECT_TRUE(view.seen.empty()) << "somebody else's events";
        continue;
      }
      ASSERT_TRUE(view.started) << "subscription " << id << " of " << view.thread.str();
      EXPECT_EQ(view.position.offset, state.last) << id;
      const std::vector<std::string> texts = log.Texts(view.thread);
      for (uint64_t o = view.first.value(); o <= state.last.value(); ++o) {
        if (view.seen.contains(o)) {
          EXPECT_EQ(view.seen[o], texts[o - 1]) << "offset " << o << " of " << view.thread.str();
        } else {
          EXPECT_TRUE(view.missed.contains(o)) << "gap at " << o << " of " << view.thread.str();
        }
      }
      if (!view.seen.empty()) {
        EXPECT_LE(view.seen.rbegin()->first, state.last.value());
      }
    }
  }

 private:
  void Forget(View& view) {
    if (!view.started) return;
    auto stream = streams_.find(view.thread);
    if (stream == streams_.end() || --stream->second.subscriptions > 0) return;
    // Another subscription, whose start is on its way, may have kept the feed as it was.
    if (stream->second.lagging) lagging_unseen_.insert(view.thread);
    streams_.erase(stream);
  }

  void TakeIn(const link::ToGateway& said) {
    if (const auto* live = std::get_if<link::Live>(&said)) return OnLive(*live);
    const auto& message = std::get<v1::ServiceMessage>(said);
    if (message.has_started()) {
      OnStarted(message.started());
    } else if (message.has_lagging()) {
      const auto stream = streams_.find(ThreadId(message.lagging().thread_id()));
      if (stream == streams_.end()) {
        lagging_unseen_.insert(ThreadId(message.lagging().thread_id()));
        return;
      }
      stream->second.lagging = true;
      stream->second.following = false;
    } else if (message.has_refused()) {
      const auto view = views_.find(message.refused().subscription_id());
      if (view == views_.end()) return;
      ADD_FAILURE() << "refused: " << message.refused().message();
    }
  }

  void OnStarted(const v1::SubscriptionStarted& started) {
    const auto found = views_.find(started.subscription_id());
    if (found == views_.end()) return;  // given up meanwhile
    View& view = found->second;
    if (started.claim()) {
      view.claim = true;
      return;
    }
    ASSERT_FALSE(view.started);
    const bool resumed = std::exchange(view.told, true);
    if (!resumed) view.first = Offset(started.from_offset());
    view.started = true;
    view.claim = false;
    if (resumed) {
      for (const v1::Missed& missed : started.missed()) OnMissed(view, missed);
    } else {
      view.position = {Epoch(started.last().epoch()), Offset(started.from_offset()).prev()};
    }
    ASSERT_EQ(view.position.offset.next().value(), started.from_offset());
    const Position last{Epoch(started.last().epoch()), Offset(started.last().offset())};
    // The same place, called by the epoch of now.
    view.position.epoch = last.epoch;
    auto [stream, first] = streams_.try_emplace(view.thread, Stream{.position = last});
    ++stream->second.subscriptions;
    if (first && lagging_unseen_.erase(view.thread) > 0) {
      stream->second.lagging = stream->second.doubtful = true;
    }
    if (!first && !stream->second.lagging && !stream->second.following) {
      // An epoch of which all was lost may have come and gone at that place.
      EXPECT_EQ(stream->second.position.offset, last.offset)
          << "the answer is not at its place in the stream";
      stream->second.position = last;
    }
  }

  void OnLive(const link::Live& live) {
    const auto found = streams_.find(live.thread);
    if (found == streams_.end()) {  // nobody follows it any more, or not yet
      lagging_unseen_.erase(live.thread);
      return;
    }
    Stream& stream = found->second;
    ASSERT_LE(live.first, stream.position.offset.next()) << "gap in " << live.thread.str();
    if (!stream.doubtful) {
      EXPECT_FALSE(stream.lagging) << "live while lagging";
      const bool repeats =
          live.epoch == stream.position.epoch && live.first != stream.position.offset.next();
      EXPECT_FALSE(repeats) << "repeat in " << live.thread.str();
    } else if (live.epoch == stream.position.epoch && live.last() <= stream.position.offset) {
      return;  // a page was faster
    }
    stream.lagging = stream.following = false;
    const Position before = stream.position;
    stream.position = {live.epoch, live.last()};
    for (auto& [id, view] : views_) {
      if (!view.started || view.thread != live.thread) continue;
      if (view.position == before) {
        Discard(view, live.first.prev());
        Add(view, live, live.first);
      } else if (view.position.epoch == live.epoch && view.position.offset >= live.first.prev() &&
                 view.position.offset < live.last()) {
        Add(view, live, view.position.offset.next());
      }
    }
  }

  static void Discard(View& view, Offset keep) {
    view.seen.erase(view.seen.upper_bound(keep.value()), view.seen.end());
    view.missed.erase(view.missed.upper_bound(keep.value()), view.missed.end());
    view.position.offset = std::min(view.position.offset, keep);
    view.first = std::min(view.first, keep.next());
  }

  static void Add(View& view, const link::Live& live, Offset from) {
    for (Offset o = from; o <= live.last(); o = o.next()) {
      const auto& event = live.events[o.value() - live.first.value()];
      EXPECT_TRUE(view.seen.emplace(o.value(), std::string(event->json())).second) << "repeat";
    }
    view.position = {live.epoch, live.last()};
  }

  static void OnMissed(View& view, const v1::Missed& missed) {
    if (missed.has_discard_after()) {
      Discard(view, Offset(missed.discard_after()));
    } else {
      EXPECT_EQ(missed.from_offset(), view.position.offset.value() + 1);
      for (uint64_t o = missed.from_offset(); o <= missed.to_offset(); ++o) view.missed.insert(o);
      view.position.offset = Offset(missed.to_offset());
    }
    view.position.epoch = Epoch(missed.epoch());
  }

  v1::ReadPageRequest After(const ThreadId& thread, const Position& position) {
    v1::ReadPageRequest request;
    request.set_thread_id(thread.str());
    *request.mutable_after() = PositionOf(position.epoch.str(), position.offset.value());
    request.set_max_bytes(1 + static_cast<uint32_t>(random_() % 20));
    return request;
  }

  void Pull(uint64_t id, const View& view) {
    pulling_ = true;
    const Position from = view.position;
    delivery_.ReadPage(After(view.thread, from), [this, id, from](absl::StatusOr<link::Page> page) {
      pulling_ = false;
      ASSERT_TRUE(page.ok()) << page.status();
      const auto found = views_.find(id);
      // Live events came first, or it was restored meanwhile: the page is about another place.
      if (found == views_.end() || found->second.position != from || !found->second.started) return;
      View& view = found->second;
      for (const v1::Missed& missed : page->missed) OnMissed(view, missed);
      for (const link::Live& run : page->runs) {
        ASSERT_EQ(run.first, view.position.offset.next()) << "gap in a page";
        Add(view, run, run.first);
      }
      if (view.position.offset == page->last.offset) view.position.epoch = page->last.epoch;
    });
  }

  // Moves a lagging stream to the log's end, then asks to go on there.
  void PullStream(const ThreadId& thread, const Stream& behind) {
    pulling_ = true;
    const uint64_t generation = generation_;
    const Position from = behind.position;
    delivery_.ReadPage(
        After(thread, from), [this, thread, from, generation](absl::StatusOr<link::Page> page) {
          pulling_ = false;
          ASSERT_TRUE(page.ok()) << page.status();
          const auto stream = streams_.find(thread);
          if (stream == streams_.end() || generation != generation_) return;
          // It went on meanwhile, or is another stream of the thread.
          if (!stream->second.lagging || stream->second.position != from) return;
          const Position place = random_() % 4 == 0 && !page->runs.empty()
                                     ? Position{page->runs.back().epoch, page->runs.back().last()}
                                     : page->last;
          stream->second.position = place;
          stream->second.lagging = false;
          stream->second.following = true;
          gateway_->Follow(thread.str(), PositionOf(place.epoch.str(), place.offset.value()));
        });
  }

  Delivery& delivery_;
  std::mt19937_64& random_;
  const std::string id_;
  std::unique_ptr<TestGateway> gateway_;
  std::map<std::string, std::string> connections_;
  std::map<uint64_t, View> views_;
  std::map<ThreadId, Stream> streams_;
  // Threads of which Lagging was the last word while no stream of them was known.
  std::set<ThreadId> lagging_unseen_;
  uint64_t last_id_ = 0;
  uint64_t generation_ = 0;
  bool pulling_ = false;
};

class Interleaving {
 public:
  explicit Interleaving(uint64_t seed) : random_(seed), log_(seed + 1) {
    delivery_ = Delivery::Create({.service_id = "s", .claims_per_user = 1000}, &log_, &scheduler_);
    for (const char* id : {"g1", "g2"}) {
      gateways_.push_back(std::make_unique<ModelGateway>(*delivery_, random_, id));
      for (const char* user : {"ann", "bob"}) {
        for (int i = 0; i < 2; ++i) {
          gateways_.back()->Open(absl::StrCat(id, "-", user, i), user);
        }
      }
    }
  }
  ~Interleaving() {
    delivery_->Stop();
    log_.RunAll();
  }

  void Run(int steps) {
    for (int i = 0; i < steps; ++i) Do();
    for (auto& gateway : gateways_) gateway->SetRoom(1'000'000);
    // A lost tail shows with the next event.
    for (const char* thread : {"t0", "t1", "t2"}) {
      log_.AppendText(ThreadId(thread), UserId(OwnerOf(ThreadId(thread))), "last");
    }
    int left = 100'000;
    for (bool moved = true; moved && left > 0; --left) {
      moved = log_.Step();
      for (auto& gateway : gateways_) moved = gateway->Step() || moved;
    }
    if (left == 0) {
      for (auto& gateway : gateways_) gateway->Explain(log_);
    }
    ASSERT_GT(left, 0) << "it does not come to rest";
    for (auto& gateway : gateways_) gateway->Check(log_);
  }

 private:
  ThreadId RandomThread() { return ThreadId(absl::StrCat("t", random_() % 3)); }
  ModelGateway& RandomGateway() { return *gateways_[random_() % gateways_.size()]; }
  // t0 and t1 are ann's, t2 is bob's, from their first event on.
  static const char* OwnerOf(const ThreadId& thread) {
    return thread.str() == "t2" ? "bob" : "ann";
  }

  void Do() {
    const ThreadId thread = RandomThread();
    switch (random_() % 40) {
      case 0:
        return RandomGateway().Attach();
      case 1:
        return RandomGateway().UnsubscribeOne();
      case 2:
      case 3: {
        const size_t g = random_() % gateways_.size();
        const char* user = random_() % 2 == 0 ? "ann" : "bob";
        return gateways_[g]->Subscribe(absl::StrCat("g", g + 1, "-", user, random_() % 2), thread);
      }
      case 4:
        return RandomGateway().SetRoom(random_() % 4);
      case 5:
        return RandomGateway().SetRoom(1'000'000);
      case 6:
        return log_.GiveTo(thread, UserId(OwnerOf(thread)));
      case 7:
        if (random_() % 4 == 0) log_.LoseTail(thread, Offset(random_() % 20));
        return;
      case 8:
        if (random_() % 4 == 0) log_.NewEpoch(thread);
        return;
      case 9:
        if (random_() % 4 == 0) log_.Interrupt(thread);
        return;
      case 10:
        if (random_() % 2 == 0) {
          log_.RaiseFloor(thread, Offset(1 + random_() % 15), log::FloorReason::kExpired,
                          [](absl::StatusOr<Offset>) {});
        }
        return;
      case 11:
      case 12:
      case 13:
      case 14:
        return log_.AppendText(thread, UserId(OwnerOf(thread)), absl::StrCat("event", ++events_));
      default:
        if (random_() % 2 == 0) {
          log_.Step();
        } else {
          RandomGateway().Step();
        }
    }
  }

  std::mt19937_64 random_;
  ManualScheduler scheduler_;
  FakeLog log_;
  std::unique_ptr<Delivery> delivery_;
  std::vector<std::unique_ptr<ModelGateway>> gateways_;
  int events_ = 0;
};

TEST(DeliveryPropertyTest, AGatewayCanAlwaysPutTheLogTogether) {
  InitLog({.program = "test", .least = Severity::kError});
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Interleaving(seed).Run(400);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace clarion::delivery
