// The join alone, against a log that is a plain value and a feed that is a position in it: every
// interleaving of small scripts, and long random ones.
#include "gateway/hub/join.h"

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gateway/hub/hub_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

class JudgedOutput : public JoinOutput {
 public:
  explicit JudgedOutput(Judge* judge) : judge_(judge) {}
  void OnSubscribed(const Subscribed& s) override {
    judge_->Subscribed(std::string(s.epoch.str()), s.from.value(), s.last.value(), s.missed);
  }
  void OnMissed(const v1::Missed& m) override {
    judge_->Missed(m.from_offset(), m.to_offset(),
                   m.has_discard_after() ? std::optional(m.discard_after()) : std::nullopt);
  }
  void OnEvents(const EventRun& run, size_t skip) override {
    EXPECT_LT(skip, run.events().size()) << "an empty piece was sent";
    uint64_t next = run.first().value();
    for (size_t i = 0; i < run.events().size(); ++i) {
      const uint64_t first = std::exchange(next, next + run.events()[i]->offsets());
      if (i < skip) continue;
      v1::Event event;
      event.ParseFromString(std::string(run.events()[i]->proto()));
      judge_->Event(next - 1, event.event_id(), first);
    }
  }
  void OnCaughtUp(Offset offset) override { judge_->CaughtUp(offset.value()); }

 private:
  Judge* const judge_;
};

class Silent : public JoinOutput {
 public:
  void OnSubscribed(const Subscribed&) override { ADD_FAILURE() << "subscribed"; }
  void OnMissed(const v1::Missed&) override { ADD_FAILURE() << "missed"; }
  void OnEvents(const EventRun&, size_t) override { ADD_FAILURE() << "events"; }
  void OnCaughtUp(Offset) override { ADD_FAILURE() << "caught_up"; }
};

Chunk AsChunk(const link::Page& page) {
  Chunk chunk;
  chunk.missed = page.missed;
  for (const link::Live& run : page.runs) {
    chunk.runs.emplace_back(SharedEpoch(run.epoch.str()), run.first, run.events, run.merged);
  }
  chunk.last = {SharedEpoch(page.last.epoch.str()), page.last.offset};
  return chunk;
}

Position AsPosition(const Cursor& cursor) {
  return {Epoch(cursor.epoch.str()), cursor.offset};
}

// A log with all its versions, a feed that walks through them in order, and one join.
class World {
 public:
  enum class Step : uint8_t {
    kAppend,
    kRollBack,
    kExpire,
    kFeed,
    kRead,
    kArrive,
    kDetach,
    kInterrupt,
    kAskAgain
  };
  static constexpr int kSteps = 9;

  World() : versions_(1), out_(&judge_) {
    // Something is there before anybody subscribes.
    for (int i = 0; i < 2; ++i) versions_[0].Append(&made_);
    feed_ = EndOf(0);
    Start(/*from=*/1);
  }

  // False: the step is not possible now (nothing has changed).
  bool Do(Step step) {
    switch (step) {
      case Step::kAppend:
        versions_.push_back(versions_.back());
        versions_.back().Append(&made_);
        return true;
      case Step::kRollBack:
        // What is rolled back is replaced at once: an epoch shows with its first event.
        if (versions_.back().last() == 0) return false;
        versions_.push_back(versions_.back());
        versions_.back().RollBack(2);
        versions_.back().Append(&made_);
        return true;
      case Step::kExpire:
        if (versions_.back().floor() > versions_.back().last()) return false;
        versions_.push_back(versions_.back());
        versions_.back().RaiseFloor(versions_.back().floor() + 2);
        return true;
      case Step::kFeed:
        return MoveFeed();
      case Step::kRead:
        if (join_.state() != Join::State::kReplaying || asked_.has_value()) return false;
        asked_ = Pull{AsChunk(versions_.back().Read(AsPosition(join_.position()), 2,
                                                    LogModel::Shape::kCompacted)),
                      turns_};
        return true;
      case Step::kArrive:
        return Arrive();
      case Step::kDetach:
        if (join_.state() != Join::State::kAttached) return false;
        join_.Detach();
        return true;
      case Step::kInterrupt:
        // The link was away; the stream goes on from a state of now.
        join_.Interrupt();
        asked_.reset();
        SkipFeedToEnd();
        Restore();
        return true;
      case Step::kAskAgain:
        join_.Ask();
        judge_.Asked();
        asked_.reset();
        Start(join_.position().offset.value() / 2 + 1);
        return true;
    }
    return false;
  }

  // Everything under way arrives, in turns, until nothing changes.
  void Rest() {
    for (int i = 0; i < 200; ++i) {
      bool moved = false;
      for (const Step step : {Step::kFeed, Step::kArrive, Step::kRead}) moved = Do(step) || moved;
      if (!moved && join_.state() == Join::State::kAttached) break;
      Settle(LogEnd::kUnknown);
    }
    if (join_.state() != Join::State::kAttached) unsettled_ = true;
    judge_.AtRest(versions_.back());
  }

  std::string mistake() const { return unsettled_ ? "never attached" : judge_.mistake(); }

 private:
  struct Pull {
    Chunk page;
    uint32_t turns;
  };

  Cursor EndOf(size_t version) const {
    const Position end = versions_[version].end();
    return {SharedEpoch(end.epoch.str()), end.offset};
  }

  // The service answers from the version that the stream has come to.
  void Start(uint64_t from) {
    const LogModel& log = versions_[feed_version_];
    v1::SubscriptionStarted started;
    started.mutable_last()->set_epoch(log.epoch());
    started.mutable_last()->set_offset(log.last());
    started.set_from_offset(std::max(from, log.floor()));
    if (from < log.floor()) {
      uint64_t next = 0;
      for (v1::Missed& m : log.MissedAfter({Epoch(log.epoch()), Offset(from - 1)}, &next)) {
        *started.add_missed() = std::move(m);
      }
    }
    join_.OnStarted(started, SharedEpoch(log.epoch()), out_);
    Settle(LogEnd::kUnknown);
  }

  void Restore() {
    const LogModel& log = versions_[feed_version_];
    v1::SubscriptionStarted started;
    uint64_t from = 0;
    for (v1::Missed& m : log.MissedAfter(AsPosition(join_.position()), &from))
      *started.add_missed() = std::move(m);
    started.mutable_last()->set_epoch(log.epoch());
    started.mutable_last()->set_offset(log.last());
    started.set_from_offset(from);
    join_.OnStarted(started, SharedEpoch(log.epoch()), out_);
    Settle(LogEnd::kUnknown);
  }

  // The next version reaches the feed. What it offers is exact, from where it stands: that is
  // Feed's promise.
  bool MoveFeed() {
    if (feed_version_ + 1 >= versions_.size()) return false;
    ++feed_version_;
    const Chunk chunk =
        AsChunk(versions_[feed_version_].Read(AsPosition(feed_), 100, LogModel::Shape::kCompacted));
    if (chunk.empty()) return true;
    const Cursor before = feed_;
    feed_ = chunk.runs.empty()
                ? Cursor{chunk.last.epoch, NextAfter(feed_.offset.next(), chunk.missed).prev()}
                : chunk.runs.back().end();
    if (feed_.epoch != before.epoch) ++turns_;
    if (join_.state() == Join::State::kAttached) join_.OnOffer(before, chunk, out_);
    return true;
  }

  void SkipFeedToEnd() {
    feed_version_ = versions_.size() - 1;
    feed_ = EndOf(feed_version_);
    ++turns_;
  }

  bool Arrive() {
    if (!asked_.has_value()) return false;
    const Pull pull = *std::exchange(asked_, std::nullopt);
    if (join_.state() != Join::State::kReplaying) return true;
    if (!join_.OnPage(pull.page, out_)) {
      unsettled_ = true;
      return true;
    }
    const bool at_end = join_.position() == pull.page.last;
    Settle(!at_end                ? LogEnd::kUnknown
           : pull.turns == turns_ ? LogEnd::kThereInFeedsEpoch
                                  : LogEnd::kThere);
    return true;
  }

  void Settle(LogEnd end) {
    if (join_.state() == Join::State::kReplaying && !asked_.has_value())
      join_.TryAttach(feed_, end);
  }

  std::vector<LogModel> versions_;
  int made_ = 0;
  size_t feed_version_ = 0;
  Cursor feed_;
  uint32_t turns_ = 0;
  Join join_;
  Judge judge_;
  JudgedOutput out_;
  std::optional<Pull> asked_;
  bool unsettled_ = false;
};

std::string Text(const std::vector<World::Step>& script) {
  static constexpr const char* kNames[] = {"append", "roll back", "expire",    "feed",     "read",
                                           "arrive", "detach",    "interrupt", "ask again"};
  std::string text;
  for (const World::Step step : script)
    absl::StrAppend(&text, kNames[static_cast<int>(step)], ", ");
  return text;
}

// Every order of the steps that a budget allows, each from the start.
class Explorer {
 public:
  explicit Explorer(std::vector<int> budget) : budget_(std::move(budget)) {}

  void Explore() {
    World world;
    for (const World::Step step : script_) world.Do(step);
    world.Rest();
    ++explored_;
    if (!world.mistake().empty()) {
      ADD_FAILURE() << world.mistake() << " after: " << Text(script_);
      failed_ = true;
      return;
    }
    for (int i = 0; i < World::kSteps && !failed_; ++i) {
      if (budget_[i] == 0) continue;
      // A step that is not possible here leads nowhere new.
      World probe;
      for (const World::Step step : script_) probe.Do(step);
      if (!probe.Do(static_cast<World::Step>(i))) continue;
      --budget_[i];
      script_.push_back(static_cast<World::Step>(i));
      Explore();
      script_.pop_back();
      ++budget_[i];
    }
  }
  int explored() const { return explored_; }

 private:
  std::vector<int> budget_;
  std::vector<World::Step> script_;
  int explored_ = 0;
  bool failed_ = false;
};

//                                        append roll expire feed read arrive detach interrupt ask
TEST(JoinTest, HoldsInEveryInterleavingOfPagesAndLiveEvents) {
  Explorer explorer({4, 0, 0, 4, 3, 3, 0, 0, 0});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 1'000);
}

TEST(JoinTest, HoldsInEveryInterleavingWithDetaching) {
  Explorer explorer({3, 0, 0, 3, 3, 3, 2, 0, 0});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 1'000);
}

TEST(JoinTest, HoldsInEveryInterleavingWithNewEpochs) {
  Explorer explorer({2, 2, 0, 3, 2, 2, 0, 0, 0});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 1'000);
}

TEST(JoinTest, HoldsInEveryInterleavingWithExpiry) {
  Explorer explorer({2, 0, 2, 2, 2, 2, 1, 0, 0});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 1'000);
}

TEST(JoinTest, HoldsInEveryInterleavingWithALinkThatGoesAndAQuestionAskedAgain) {
  Explorer explorer({1, 1, 1, 1, 2, 2, 0, 1, 1});
  explorer.Explore();
  EXPECT_GT(explorer.explored(), 1'000);
}

TEST(JoinTest, HoldsInLongRandomInterleavings) {
  for (uint32_t seed = 1; seed <= 10'000; ++seed) {
    std::minstd_rand random(seed);
    World world;
    std::vector<World::Step> script;
    for (int i = 0; i < 60; ++i) {
      // Rare things are rare.
      static constexpr World::Step kDeck[] = {
          World::Step::kAppend, World::Step::kAppend,    World::Step::kAppend,
          World::Step::kFeed,   World::Step::kFeed,      World::Step::kFeed,
          World::Step::kRead,   World::Step::kRead,      World::Step::kArrive,
          World::Step::kArrive, World::Step::kDetach,    World::Step::kRollBack,
          World::Step::kExpire, World::Step::kInterrupt, World::Step::kAskAgain};
      script.push_back(kDeck[random() % std::size(kDeck)]);
      world.Do(script.back());
    }
    world.Rest();
    ASSERT_EQ(world.mistake(), "") << "seed " << seed << ": " << Text(script);
  }
}

TEST(JoinTest, SaysNothingWhenRestoredWithoutLoss) {
  Judge judge;
  JudgedOutput out(&judge);
  Join join;
  v1::SubscriptionStarted started;
  started.mutable_last()->set_epoch("e1");
  started.mutable_last()->set_offset(7);
  started.set_from_offset(8);
  join.OnStarted(started, SharedEpoch("e1"), out);

  join.Interrupt();
  Silent silent;
  started.mutable_last()->set_offset(9);
  join.OnStarted(started, SharedEpoch("e1"), silent);

  EXPECT_EQ(join.position(), (Cursor{SharedEpoch("e1"), Offset(7)}));
  EXPECT_EQ(join.state(), Join::State::kReplaying);
}

TEST(JoinTest, RefusesAPageThatDoesNotGoOnWhereItStands) {
  Judge judge;
  JudgedOutput out(&judge);
  Join join;
  v1::SubscriptionStarted started;
  started.mutable_last()->set_epoch("e1");
  started.mutable_last()->set_offset(5);
  started.set_from_offset(1);
  join.OnStarted(started, SharedEpoch("e1"), out);
  LogModel log;
  int made = 0;
  for (int i = 0; i < 5; ++i) log.Append(&made);

  EXPECT_FALSE(join.OnPage(AsChunk(log.Read({Epoch("e1"), Offset(1)}, 2)), out)) << "a gap";
  EXPECT_TRUE(join.OnPage(AsChunk(log.Read({Epoch("e1"), Offset(0)}, 2)), out));
  EXPECT_FALSE(join.OnPage(AsChunk(log.Read({Epoch("e1"), Offset(0)}, 2)), out)) << "a repeat";

  EXPECT_EQ(judge.mistake(), "");
  EXPECT_EQ(judge.next(), 3u);
}

TEST(JoinTest, IsSmall) {
  EXPECT_LE(sizeof(Join), 48u);
}

}  // namespace
}  // namespace clarion::gateway
