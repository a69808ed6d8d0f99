#include "proto/base/gate.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace clarion {
namespace {

TEST(GateTest, NobodyIsInsideOneThatNobodyEntered) {
  Gate gate;
  gate.WaitUntilEmpty();
  EXPECT_TRUE(gate.WasEmptyWithin(std::chrono::seconds(0)));
}

TEST(GateTest, CopyHoldsItOpenAndWhatWasMovedFromDoesNot) {
  Gate gate;
  const auto empty = [&] { return gate.WasEmptyWithin(std::chrono::milliseconds(1)); };
  auto first = std::make_unique<Gate::Pass>(gate);
  auto copy = std::make_unique<Gate::Pass>(*first);
  first.reset();
  EXPECT_FALSE(empty());
  auto moved = std::make_unique<Gate::Pass>(std::move(*copy));
  copy.reset();
  EXPECT_FALSE(empty());
  moved.reset();
  EXPECT_TRUE(empty());
}

TEST(GateTest, WaitsForEverybodyInside) {
  Gate gate;
  std::atomic<int> inside = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    ++inside;
    threads.emplace_back([&inside, pass = std::make_unique<Gate::Pass>(gate)]() mutable {
      std::this_thread::yield();
      --inside;
      pass.reset();
    });
  }
  gate.WaitUntilEmpty();
  EXPECT_EQ(inside, 0);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace clarion
