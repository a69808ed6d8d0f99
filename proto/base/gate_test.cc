#include "proto/base/gate.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace clarion {
namespace {

TEST(GateTest, NobodyIsInsideOneThatNobodyEntered) {
  Gate gate;
  gate.WaitUntilEmpty();
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
