#include "service/delivery/resume.h"

#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::delivery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string Text(const v1::Missed& missed) {
  std::string text =
      absl::StrCat(missed.from_offset(), "..", missed.to_offset(), " ",
                   missed.reason() == v1::MISSED_REASON_EXPIRED ? "expired" : "lost");
  if (missed.has_discard_after()) absl::StrAppend(&text, " keep ", missed.discard_after());
  return text;
}

std::vector<std::string> Texts(const Resolution& resolution) {
  std::vector<std::string> texts;
  texts.reserve(resolution.missed.size());
  for (const v1::Missed& missed : resolution.missed) texts.push_back(Text(missed));
  return texts;
}

Position At(const char* epoch, uint64_t offset) {
  return {Epoch(epoch), Offset(offset)};
}

// 1..10 in "a", of which 8..10 were lost; 8..20 in "b"; floor 5; acknowledged 12.
log::ThreadState Example() {
  log::ThreadState state;
  state.epochs = {{Epoch("a"), Offset(1)}, {Epoch("b"), Offset(8)}};
  state.last = Offset(20);
  state.floor = Offset(5);
  state.acknowledged = Offset(12);
  return state;
}

struct Row {
  const char* name;
  Position after;
  uint64_t from;
  std::vector<std::string> missed;
};

class ResumeAfterTest : public ::testing::TestWithParam<Row> {};

TEST_P(ResumeAfterTest, SaysWhereToGoOnAndWhatIsMissing) {
  const Resolution resolution = Resolve(Example(), Start::After(GetParam().after));
  EXPECT_EQ(resolution.from, Offset(GetParam().from));
  EXPECT_EQ(Texts(resolution), GetParam().missed);
  for (const v1::Missed& missed : resolution.missed) EXPECT_EQ(missed.epoch(), "b");
}

INSTANTIATE_TEST_SUITE_P(
    Positions, ResumeAfterTest,
    ::testing::Values(Row{"InsideTheEpoch", At("b", 15), 16, {}},
                      Row{"AtTheEnd", At("b", 20), 21, {}},
                      Row{"BeyondTheEnd", At("b", 23), 21, {"21..23 lost keep 20"}},
                      Row{"BeforeTheEpochBegan", At("b", 6), 7, {}},
                      Row{"AtWhatDiscardLeft", At("b", 7), 8, {}},
                      Row{"OldEpochSurviving", At("a", 7), 8, {}},
                      Row{"OldEpochLost", At("a", 10), 8, {"8..10 lost keep 7"}},
                      Row{"JustBelowTheFloor", At("a", 4), 5, {}},
                      Row{"BelowTheFloor", At("a", 2), 5, {"3..4 expired"}},
                      Row{"UnknownEpoch", At("z", 9), 5, {"1..9 lost keep 0", "1..4 expired"}},
                      Row{"UnknownEpochNothingSeen", At("z", 0), 5, {"1..4 expired"}},
                      Row{"NoEpochButAnOffset", At("", 3), 5, {"1..3 lost keep 0", "1..4 expired"}},
                      Row{"BeforeTheFirst", At("", 0), 5, {"1..4 expired"}}),
    [](const auto& info) { return info.param.name; });

TEST(ResumeTest, LiveBeginsBehindTheEnd) {
  const Resolution resolution = Resolve(Example(), {.from = v1::START_FROM_LIVE});
  EXPECT_EQ(resolution.from, Offset(21));
  EXPECT_THAT(resolution.missed, IsEmpty());
}

TEST(ResumeTest, StartBeginsAtTheFloorAfterMissed) {
  const Resolution resolution = Resolve(Example(), {.from = v1::START_FROM_START});
  EXPECT_EQ(resolution.from, Offset(5));
  EXPECT_THAT(Texts(resolution), ElementsAre("1..4 expired"));
}

TEST(ResumeTest, UnfinishedWithoutRunsBeginsAfterTheAcknowledged) {
  EXPECT_EQ(Resolve(Example(), {}).from, Offset(13));
}

TEST(ResumeTest, UnfinishedBeginsWithAnOpenRun) {
  log::ThreadState state = Example();
  state.runs = {{.start = Offset(9)}};
  EXPECT_EQ(Resolve(state, {}).from, Offset(9));
}

TEST(ResumeTest, UnfinishedBeginsWithARunThatEndsBeyondTheAcknowledged) {
  log::ThreadState state = Example();
  state.runs = {{.start = Offset(6), .end = Offset(12)}, {.start = Offset(7), .end = Offset(13)}};
  EXPECT_EQ(Resolve(state, {}).from, Offset(7));
}

TEST(ResumeTest, UnfinishedCutByTheFloorSaysSo) {
  log::ThreadState state = Example();
  state.runs = {{.start = Offset(3)}};
  const Resolution resolution = Resolve(state, {});
  EXPECT_EQ(resolution.from, Offset(5));
  EXPECT_THAT(Texts(resolution), ElementsAre("3..4 expired"));
}

TEST(ResumeTest, AnEmptyThreadBeginsAtOneWhateverIsAsked) {
  for (const auto from : {v1::START_FROM_UNFINISHED, v1::START_FROM_START, v1::START_FROM_LIVE}) {
    const Resolution resolution = Resolve(log::ThreadState(), {.from = from});
    EXPECT_EQ(resolution.from, Offset(1));
    EXPECT_THAT(resolution.missed, IsEmpty());
  }
}

TEST(ResumeTest, EpochAtNamesTheEpochOfEachOffset) {
  EXPECT_EQ(EpochAt(Example(), Offset(7)), Epoch("a"));
  EXPECT_EQ(EpochAt(Example(), Offset(8)), Epoch("b"));
  EXPECT_EQ(EpochAt(Example(), Offset(99)), Epoch("b"));
  EXPECT_EQ(EpochAt(log::ThreadState(), Offset(1)), Epoch());
}

// A thread as its history: every offset of every epoch that ever was, and what survived.
struct Model {
  log::ThreadState state;
  // What each (epoch, offset) said, for those that anybody can have seen.
  std::vector<std::vector<std::pair<std::string, int>>> seen;  // by epoch: whole log at its longest
  std::vector<std::pair<std::string, int>> log;                // what survives, from offset 1
};

Model RandomModel(std::mt19937_64& random) {
  Model model;
  int last_event = 0;
  const int epochs = static_cast<int>(random() % 4);
  for (int e = 0; e < epochs; ++e) {
    if (!model.log.empty()) model.log.resize(random() % (model.log.size() + 1));
    const std::string epoch(1, static_cast<char>('a' + e));
    model.state.epochs.push_back({Epoch(epoch), Offset(model.log.size() + 1)});
    const int more = 1 + static_cast<int>(random() % 5);
    for (int i = 0; i < more; ++i) model.log.push_back({epoch, ++last_event});
    model.seen.push_back(model.log);
  }
  model.state.last = Offset(model.log.size());
  model.state.floor = Offset(1 + random() % (model.log.size() + 1));
  model.state.acknowledged = Offset(random() % (model.log.size() + 1));
  return model;
}

// How many of the first `offset` events that somebody in `epoch` saw are still the same.
uint64_t SameUpTo(const Model& model, size_t epoch, uint64_t offset) {
  uint64_t same = 0;
  const auto& seen = model.seen[epoch];
  while (same < offset && same < seen.size() && same < model.log.size() &&
         seen[same] == model.log[same]) {
    ++same;
  }
  return same;
}

TEST(ResumeModelTest, AfterAnySeenPositionNothingIsSkippedRepeatedOrKeptWrongly) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 20'000; ++round) {
    const Model model = RandomModel(random);
    for (size_t epoch = 0; epoch < model.seen.size(); ++epoch) {
      for (uint64_t offset = 0; offset <= model.seen[epoch].size(); ++offset) {
        const Position position{model.state.epochs[epoch].epoch, Offset(offset)};
        const Resolution resolution = Resolve(model.state, Start::After(position));
        // The follower, doing what the contract tells it.
        uint64_t has = offset;
        uint64_t covered = offset;
        for (const v1::Missed& missed : resolution.missed) {
          if (missed.has_discard_after()) {
            EXPECT_EQ(missed.from_offset(), missed.discard_after() + 1);
            EXPECT_EQ(missed.to_offset(), offset);
            has = covered = missed.discard_after();
          } else {
            EXPECT_EQ(missed.from_offset(), covered + 1);
            covered = missed.to_offset();
          }
        }
        ASSERT_EQ(resolution.from, Offset(covered + 1));
        // What it keeps is exactly what the log still says ...
        const uint64_t same = SameUpTo(model, epoch, offset);
        ASSERT_EQ(has, same) << "epoch " << epoch << " offset " << offset;
        // ... and it goes on with what is kept.
        ASSERT_EQ(resolution.from.value(), std::max(same + 1, model.state.floor.value()));
        ASSERT_EQ(Seamless(model.state, position), same == offset);
      }
    }
  }
}

TEST(ResumeModelTest, UnfinishedShowsEveryUnfinishedRunAndEverythingUnacknowledged) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 20'000; ++round) {
    Model model = RandomModel(random);
    const uint64_t last = model.state.last.value();
    std::set<uint64_t> wanted;  // offsets that must be shown
    for (uint64_t o = model.state.acknowledged.value() + 1; o <= last; ++o) wanted.insert(o);
    for (int r = 0; last > 0 && r < 3; ++r) {
      const uint64_t start = 1 + random() % last;
      const uint64_t end = random() % 3 == 0 ? 0 : start + random() % (last - start + 1);
      model.state.runs.push_back({.start = Offset(start), .end = Offset(end)});
      if (end == 0 || end > model.state.acknowledged.value()) wanted.insert(start);
    }
    const uint64_t first = wanted.empty() ? last + 1 : *wanted.begin();
    const Resolution resolution = Resolve(model.state, {});
    const uint64_t floor = model.state.floor.value();
    ASSERT_EQ(resolution.from.value(), std::max(first, floor));
    if (first < floor) {
      ASSERT_THAT(Texts(resolution), ElementsAre(absl::StrCat(first, "..", floor - 1, " expired")));
    } else {
      ASSERT_THAT(resolution.missed, IsEmpty());
    }
  }
}

}  // namespace
}  // namespace clarion::delivery
