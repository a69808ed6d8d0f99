// Polls that begin, end, are cut off, repeated elsewhere and never come back, in any order, over
// gateways that come and go: who is connected and follows what is what a model says after each
// step, and watchers hear each change once.
#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "service/delivery/delivery_fixture.h"
#include "telemetry/log.h"

namespace clarion::delivery {
namespace {

using std::chrono::seconds;

constexpr std::array kUsers = {"ann", "bob"};
constexpr std::array kThreads = {"anns1", "anns2", "bobs"};
constexpr size_t kGateways = 2;
constexpr int kConnections = 3;

bool Owns(const std::string& user, const std::string& thread) {
  return thread.starts_with(user);
}

// What is known of one connection.
struct Model {
  std::string user;
  size_t gateway = 0;
  bool resting = false;
  bool has_rested = false;
  int64_t lease = 0;  // said last
  int64_t rests_until = 0;
  // Of this opening: asked for, under which id, confirmed.
  struct Asked {
    uint64_t id = 0;
    bool confirmed = false;
  };
  std::map<std::string, Asked> asked;
  // From before it.
  std::set<std::string> rested;

  std::set<std::string> followed() const {
    std::set<std::string> all = rested;
    for (const auto& [thread, how] : asked) {
      if (how.confirmed) all.insert(thread);
    }
    return all;
  }
};

class Watcher final : public ConnectionWatcher {
 public:
  using Seen = std::pair<bool, std::set<std::string>>;
  void OnChange(const v1::Connection& connection, bool /*snapshot*/) override {
    const Seen now{connection.state() == v1::CONNECTION_STATE_CONNECTED,
                   {connection.thread_ids().begin(), connection.thread_ids().end()}};
    const auto before = seen.find(connection.connection_id());
    if (before != seen.end() && before->second == now) ++repeated;
    seen[connection.connection_id()] = now;
  }
  std::map<std::string, Seen> seen;
  int repeated = 0;
};

class World {
 public:
  explicit World(uint64_t seed) : random_(seed), log_(seed) {
    Options options{.service_id = "s"};
    options.claims_per_user = 1'000'000;
    delivery_ = Delivery::Create(options, &log_, &scheduler_);
    for (const char* thread : kThreads) {
      const UserId owner(thread[0] == 'a' ? "ann" : "bob");
      log_.AppendText(ThreadId(thread), owner, absl::StrCat(thread, " one"));
    }
    log_.RunAll();
    for (size_t i = 0; i < kGateways; ++i) Attach(i);
    for (size_t i = 0; i < kUsers.size(); ++i) {
      watchers_[i] = std::make_shared<Watcher>();
      watches_.push_back(delivery_->WatchConnections(UserId(kUsers[i]), ThreadId(), watchers_[i]));
    }
  }
  ~World() {
    watches_.clear();
    delivery_->Stop();
    log_.RunAll();
    EXPECT_EQ(log_.followed(), 0u);
  }

  // One random thing; in words.
  std::string Step() {
    switch (random_() % 12) {
      case 0:
      case 1:
      case 2:
        return Poll();
      case 3:
      case 4:
      case 5:
        return Subscribe();
      case 6:
      case 7:
        return Confirm();
      case 8:
        return Unsubscribe();
      case 9:
        return End();
      case 10:
        return Detach();
      default:
        return Wait();
    }
  }

  void Check() {
    for (size_t i = 0; i < kUsers.size(); ++i) {
      const UserId user(kUsers[i]);
      std::map<std::string, std::set<std::string>> want, got;
      for (const auto& [id, model] : models_) {
        if (model.user == kUsers[i]) want[id] = model.followed();
      }
      for (const auto& connection : delivery_->GetConnections(user, ThreadId(), false)) {
        got[connection.connection_id()] = {connection.thread_ids().begin(),
                                           connection.thread_ids().end()};
      }
      ASSERT_EQ(got, want);
      EXPECT_EQ(watchers_[i]->repeated, 0);
      for (const auto& [id, seen] : watchers_[i]->seen) {
        ASSERT_EQ(seen.first, want.contains(id)) << id;
        if (seen.first) {
          ASSERT_EQ(seen.second, want.at(id)) << id;
        }
      }
    }
    for (const char* thread : kThreads) {
      size_t followers = 0;
      for (const auto& [id, model] : models_) followers += model.followed().count(thread);
      ASSERT_EQ(delivery_->Subscriptions(ThreadId(thread)), followers) << thread;
    }
  }

  // It is where the model says, so frames reach it there, and nowhere else.
  void CheckFrames() {
    for (int n = 0; n < kConnections; ++n) {
      const std::string id = absl::StrCat("c", n);
      for (const char* user : kUsers) {
        const auto model = models_.find(id);
        const bool held =
            model != models_.end() && !model->second.resting && model->second.user == user;
        for (auto& gateway : gateways_) gateway->Heard();
        v1::AskRequest request;
        request.mutable_pass_frames()->set_connection_id(id);
        request.mutable_pass_frames()->set_user_id(user);
        request.mutable_pass_frames()->set_sequence(1);
        delivery_->Ask(request, [](const absl::StatusOr<v1::AskResponse>&) {});
        for (size_t i = 0; i < kGateways; ++i) {
          const bool wanted = held && model->second.gateway == i;
          EXPECT_EQ(gateways_[i]->Heard().size(), wanted ? 1u : 0u) << id << " of " << user;
        }
      }
    }
  }

 private:
  void Attach(size_t index) {
    gateways_[index] =
        std::make_unique<TestGateway>(*delivery_, absl::StrCat("g", index), "instance");
  }
  std::string AnyConnection() { return absl::StrCat("c", random_() % kConnections); }
  std::string AnyThread() { return kThreads[random_() % kThreads.size()]; }
  // One that has a gateway; null: this one has none.
  Model* Held(const std::string& id) {
    const auto found = models_.find(id);
    return found == models_.end() || found->second.resting ? nullptr : &found->second;
  }
  int64_t Now() const {
    return std::chrono::duration_cast<seconds>(scheduler_.now().time_since_epoch()).count();
  }

  static void CutOff(Model& model) {
    model.rested = model.followed();
    model.asked.clear();
  }
  void Rest(Model& model) {
    model.resting = true;
    model.rests_until = Now() + model.lease;
  }

  std::string Poll() {
    const std::string id = AnyConnection();
    const std::string user = random_() % 4 == 0 ? kUsers[random_() % 2] : kUsers[id == "c2"];
    const size_t gateway = random_() % kGateways;
    gateways_[gateway]->Poll(id, user);
    const auto found = models_.find(id);
    if (found == models_.end()) {
      models_[id] = {.user = user, .gateway = gateway};
    } else if (found->second.user == user) {
      Model& model = found->second;
      if (!model.resting && model.gateway != gateway) CutOff(model);
      model.resting = false;
      model.gateway = gateway;
    }
    return absl::StrCat(user, " polls as ", id, " at ", gateway);
  }

  std::string Subscribe() {
    const std::string id = AnyConnection();
    const std::string thread = AnyThread();
    Model* model = Held(id);
    if (model == nullptr || model->asked.contains(thread)) return "";
    Model::Asked& asked = model->asked[thread];
    asked.id = ++last_id_;
    TestGateway& gateway = *gateways_[model->gateway];
    const bool goes_on = random_() % 2 == 0;
    const bool fails = random_() % 8 == 0;
    const bool answered = random_() % 4 != 0;
    if (fails) log_.FailFollow(MakeError(Reason::kLogUnavailable, "no"));
    if (goes_on) {
      gateway.SubscribeAfter(id, asked.id, thread,
                             PositionOf(log_.StateOf(ThreadId(thread)).end().epoch.str(), 1));
    } else {
      gateway.Subscribe(id, asked.id, thread);
    }
    // Else the log is slow: it answers when it is run next.
    if (fails || answered) log_.RunAll();
    if (!fails && !answered) return Slow(id, thread, goes_on);
    if (fails) {
      refused_.insert(asked.id);
    } else {
      Answered(*model, thread, goes_on);
    }
    return absl::StrCat(id, " asks for ", thread, goes_on ? " on" : "", fails ? " in vain" : "");
  }
  static void Answered(Model& model, const std::string& thread, bool goes_on) {
    if (!goes_on || model.rested.erase(thread) == 0) return;
    model.asked[thread].confirmed = true;
  }
  // Its poll goes before the log answers, one way or another.
  std::string Slow(const std::string& id, const std::string& thread, bool goes_on) {
    std::string how;
    if (random_() % 2 == 0) {
      how = End(id);
    } else {
      Answered(models_.at(id), thread, goes_on);
    }
    log_.RunAll();
    return absl::StrCat(id, " asks for ", thread, " of a slow log; ", how);
  }

  std::string Confirm() {
    const std::string id = AnyConnection();
    const std::string thread = AnyThread();
    Model* model = Held(id);
    if (model == nullptr || !model->asked.contains(thread)) return "";
    Model::Asked& asked = model->asked[thread];
    gateways_[model->gateway]->Confirm(asked.id);
    log_.RunAll();
    if (refused_.contains(asked.id) || !Owns(model->user, thread)) return "";
    asked.confirmed = true;
    model->rested.erase(thread);
    return absl::StrCat(id, " is told of ", thread);
  }

  std::string Unsubscribe() {
    const std::string id = AnyConnection();
    const std::string thread = AnyThread();
    Model* model = Held(id);
    if (model == nullptr || !model->asked.contains(thread)) return "";
    const uint64_t subscription = model->asked[thread].id;
    gateways_[model->gateway]->Unsubscribe(subscription);
    log_.RunAll();
    if (refused_.contains(subscription)) return "";  // there is none
    model->asked.erase(thread);
    model->rested.erase(thread);
    return absl::StrCat(id, " leaves ", thread);
  }

  std::string End() {
    const std::string id = AnyConnection();
    const std::string how = Held(id) == nullptr ? "" : End(id);
    log_.RunAll();
    return how;
  }
  std::string End(const std::string& id) {
    Model& model = *Held(id);
    TestGateway& gateway = *gateways_[model.gateway];
    if (random_() % 6 == 0) {
      gateway.CloseConnection(id);
      models_.erase(id);
      return absl::StrCat(id, " is closed");
    }
    model.lease = 1 + static_cast<int64_t>(random_() % 30);
    model.has_rested = true;
    gateway.Rest(id, model.lease);
    std::erase_if(model.rested,
                  [&](const std::string& thread) { return !model.asked.contains(thread); });
    CutOff(model);
    Rest(model);
    return absl::StrCat(id, " rests for ", model.lease);
  }

  std::string Detach() {
    if (random_() % 3 != 0) return "";
    const size_t index = random_() % kGateways;
    // It comes back, before or after the end of its last attachment is known.
    if (random_() % 2 == 0) gateways_[index]->Detach();
    Attach(index);
    log_.RunAll();
    for (auto entry = models_.begin(); entry != models_.end();) {
      Model& model = entry->second;
      const bool lost = !model.resting && model.gateway == index;
      if (lost && !model.has_rested) {
        entry = models_.erase(entry);
        continue;
      }
      if (lost) {
        CutOff(model);
        Rest(model);
      }
      ++entry;
    }
    return absl::StrCat("gateway ", index, " attaches anew");
  }

  std::string Wait() {
    const auto time = static_cast<int64_t>(random_() % 12);
    scheduler_.Advance(seconds(time));
    log_.RunAll();
    std::erase_if(models_, [&](const auto& entry) {
      return entry.second.resting && entry.second.rests_until <= Now();
    });
    return absl::StrCat(time, " s pass");
  }

  std::mt19937_64 random_;
  ManualScheduler scheduler_;
  FakeLog log_;
  std::unique_ptr<Delivery> delivery_;
  std::array<std::unique_ptr<TestGateway>, kGateways> gateways_;
  std::array<std::shared_ptr<Watcher>, kUsers.size()> watchers_;
  std::vector<std::unique_ptr<Cancellation>> watches_;
  std::map<std::string, Model> models_;
  std::set<uint64_t> refused_;
  uint64_t last_id_ = 0;
};

TEST(RestingModelTest, ConnectionsAndWhatTheyFollowAreWhatAModelSays) {
  InitLog({.program = "test", .least = Severity::kError});
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    World world(seed);
    std::vector<std::string> steps;
    for (int step = 0; step < 150; ++step) {
      const std::string words = world.Step();
      if (!words.empty()) steps.push_back(words);
      world.Check();
      if (step % 10 == 9) world.CheckFrames();
      if (!::testing::Test::HasFailure()) continue;
      const size_t shown = std::min<size_t>(steps.size(), 25);
      FAIL() << absl::StrJoin(steps.end() - static_cast<ptrdiff_t>(shown), steps.end(), "\n");
    }
  }
}

}  // namespace
}  // namespace clarion::delivery
