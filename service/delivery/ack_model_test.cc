// A hundred thousand acks, across epochs, devices and reconnections, against a model of what
// stream.proto promises of `ack`.
#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "service/delivery/delivery_fixture.h"

namespace clarion::delivery {
namespace {

constexpr int kAcks = 100'000;
constexpr int kDevices = 5;

// The thread as the rules see it.
struct ThreadModel {
  struct Numbering {
    std::string epoch;
    uint64_t first;
  };
  std::vector<Numbering> epochs;
  uint64_t last = 0;
  uint64_t floor = 1;
  uint64_t acknowledged = 0;

  // The last offset of the epoch that is still what it was; -1: there is no such epoch.
  int64_t Survivor(const std::string& epoch) const {
    for (size_t i = 0; i < epochs.size(); ++i) {
      if (epochs[i].epoch != epoch) continue;
      const uint64_t end = i + 1 < epochs.size() ? epochs[i + 1].first - 1 : last;
      return static_cast<int64_t>(end);
    }
    return -1;
  }
};

// One subscription of the user's, from one of its devices.
struct Device {
  uint64_t subscription = 0;
  uint64_t first = 1;  // the first offset that it is given
  uint64_t last_sent = 0;
  bool live = false;
};

class AckModelTest : public DeliveryTest {
 protected:
  void SetUp() override {
    GiveTo("t", "ann");
    gateway_ = Attach();
    for (int i = 0; i < kDevices; ++i) {
      gateway_->Open(Name(i), "ann");
      Reconnect(i);
    }
  }

  static std::string Name(int device) { return absl::StrCat("device", device); }

  int Random(int from, int to) {
    return static_cast<int>(from + random_() % static_cast<uint64_t>(to - from + 1));
  }

  void Grow() {
    for (int i = Random(1, 4); i > 0; --i) {
      Append("t", "ann", {absl::StrCat("event", ++made_)});
      ++model_.last;
      if (!opens_epoch_) continue;
      opens_epoch_ = false;
      model_.epochs.push_back({log_.StateOf(ThreadId("t")).end().epoch.str(), model_.last});
    }
    for (Device& device : devices_) {
      // Whatever a device takes of it; the live stream may be behind.
      if (Random(0, 2) > 0) device.last_sent = std::max(device.last_sent, model_.last);
    }
    Hear();
  }

  // A failover that lost the newest events, or none. The next event opens an epoch.
  void RollBack() {
    const uint64_t lost =
        std::min<uint64_t>(model_.last - model_.floor + 1, static_cast<uint64_t>(Random(0, 3)));
    if (lost > 0) {
      log_.LoseTail(ThreadId("t"), Offset(model_.last - lost));
    } else {
      log_.NewEpoch(ThreadId("t"));
    }
    log_.RunAll();
    model_.last -= lost;
    model_.acknowledged = std::min(model_.acknowledged, model_.last);
    model_.floor = std::min(model_.floor, model_.last + 1);
    std::erase_if(model_.epochs, [&](const auto& epoch) { return epoch.first > model_.last; });
    opens_epoch_ = true;
    // What was lost is taken back from the devices before they are sent anything newer.
    for (Device& device : devices_) {
      device.last_sent = std::min(device.last_sent, model_.last);
      device.first = std::min(device.first, model_.last + 1);
    }
    Grow();
    for (int i = 0; i < kDevices; ++i) Reconnect(i);
  }

  void RaiseFloor() {
    const uint64_t floor = model_.floor + static_cast<uint64_t>(Random(0, 10));
    log_.RaiseFloor(ThreadId("t"), Offset(floor), log::FloorReason::kExpired, [](const auto&) {});
    log_.RunAll();
    model_.floor = std::max(model_.floor, std::min(floor, model_.last + 1));
    Hear();
  }

  void Reconnect(int index) {
    Device& device = devices_[static_cast<size_t>(index)];
    if (device.subscription != 0) gateway_->Unsubscribe(device.subscription);
    device = {.subscription = ++subscriptions_};
    switch (Random(0, 2)) {
      case 0:
        gateway_->Subscribe(Name(index), device.subscription, "t");
        device.first = model_.floor;
        break;
      case 1:
        gateway_->Subscribe(Name(index), device.subscription, "t", v1::START_FROM_UNFINISHED);
        device.first = std::max(model_.acknowledged + 1, model_.floor);
        break;
      default:
        gateway_->Subscribe(Name(index), device.subscription, "t", v1::START_FROM_LIVE);
        device.first = model_.last + 1;
        device.live = true;
    }
    log_.RunAll();
    gateway_->Confirm(device.subscription);
    if (Random(0, 1) == 0) device.last_sent = model_.last;
    Hear();
  }

  // What is answered by rule; W moves with it.
  std::string Expect(const Device& device, const std::string& epoch, uint64_t offset) {
    const bool seamless = offset == 0 || static_cast<int64_t>(offset) <= model_.Survivor(epoch);
    const bool of_now = !model_.epochs.empty() && epoch == model_.epochs.back().epoch;
    if (!seamless && !of_now) return "EPOCH_CHANGED";
    if (offset > std::max(device.first - 1, device.last_sent)) return "ACK_INVALID";
    const bool leaves_out = device.live && device.first > model_.acknowledged + 1;
    if (!leaves_out) model_.acknowledged = std::max(model_.acknowledged, offset);
    return "ok";
  }

  std::string SomeEpoch() {
    const int dice = Random(0, 9);
    if (dice == 0 || model_.epochs.empty()) return "forged";
    if (dice <= 2) {
      return model_.epochs[static_cast<size_t>(random_() % model_.epochs.size())].epoch;
    }
    return model_.epochs.back().epoch;
  }

  uint64_t SomeOffset(const Device& device) {
    switch (Random(0, 5)) {
      case 0:
        return random_() % (model_.last + 5);
      case 1:
        return model_.acknowledged;
      case 2:
        return model_.last + 1 + random_() % 3;
      case 3:
        return std::min(model_.acknowledged + 1, model_.last);
      case 4:
        return device.first - 1;
      default:
        return std::min(device.last_sent, model_.last);
    }
  }

  void AckSomething() {
    const auto index = static_cast<size_t>(Random(0, kDevices - 1));
    const Device& device = devices_[index];
    const std::string epoch = SomeEpoch();
    const uint64_t offset = SomeOffset(device);
    const uint64_t id = ++acks_;
    const std::string told =
        absl::StrCat("ack ", id, " of ", epoch, ":", offset, " by device ", index, " (first ",
                     device.first, ", sent ", device.last_sent, device.live ? ", live" : "",
                     "), W ", model_.acknowledged, ", L ", model_.last, ", F ", model_.floor);
    const std::string verdict = Expect(device, epoch, offset);
    gateway_->Ack(device.subscription, PositionOf(epoch, offset), device.last_sent, id);
    log_.RunAll();
    EXPECT_THAT(Hear(), ::testing::ElementsAre(
                            absl::StrCat("acked ", id, " ", verdict, " ", model_.acknowledged)))
        << told;
    ++verdicts_[verdict];
  }

  // The answers to acks among what was said since the last call.
  std::vector<std::string> Hear() {
    std::vector<std::string> answers = gateway_->Heard();
    std::erase_if(answers, [](const std::string& text) { return !text.starts_with("acked "); });
    return answers;
  }

  std::mt19937_64 random_{7};
  ThreadModel model_;
  std::vector<Device> devices_{kDevices};
  std::unique_ptr<TestGateway> gateway_;
  bool opens_epoch_ = true;
  uint64_t subscriptions_ = 0;
  uint64_t made_ = 0;
  uint64_t acks_ = 0;
  std::map<std::string, int> verdicts_;
};

TEST_F(AckModelTest, EveryAckIsAnsweredAsTheRulesSay) {
  Grow();
  for (int i = 0; i < kAcks && !HasFailure(); ++i) {
    const int dice = Random(0, 999);
    if (dice < 150) Grow();
    if (dice >= 150 && dice < 153) RollBack();
    if (dice >= 160 && dice < 165) RaiseFloor();
    if (dice >= 200 && dice < 230) Reconnect(Random(0, kDevices - 1));
    AckSomething();
  }
  EXPECT_EQ(log_.StateOf(ThreadId("t")).acknowledged.value(), model_.acknowledged);
  // Each answer was given often enough to mean something.
  EXPECT_GT(verdicts_["ok"], kAcks / 10);
  EXPECT_GT(verdicts_["EPOCH_CHANGED"], kAcks / 100);
  EXPECT_GT(verdicts_["ACK_INVALID"], kAcks / 100);
}

}  // namespace
}  // namespace clarion::delivery
