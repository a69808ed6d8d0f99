// Everything that can go wrong, at random. CLARION_CHAOS_SECONDS: how long (120);
// CLARION_CHAOS_SEED: with which seed (1). `./dev chaos` sets them.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include "gtest/gtest.h"
#include "tests/chaos/world.h"

namespace clarion::testing {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::stoull(value);
}

TEST(ChaosTest, AtTheEndEveryBrowserHasSeenWhatTheLogHolds) {
  const std::chrono::seconds time(FromEnvironment("CLARION_CHAOS_SECONDS", 120));
  const uint64_t seed = FromEnvironment("CLARION_CHAOS_SEED", 1);
  World world(seed);
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) world.Step();
  world.SettleAndJudge();
  std::cout << "seed " << seed << ": " << world.Summary() << "\n";
}

}  // namespace
}  // namespace clarion::testing
