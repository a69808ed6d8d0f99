// What every log engine must do, as tests: log_contract_write.cc and log_contract_read.cc. An
// engine's own test file, linked with them, says how it is opened:
//
//   INSTANTIATE_TEST_SUITE_P(Embedded, LogContractTest, testing::Values(LogEngine{"roomy", ...}),
//   NameOfEngine);
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/contract/log_testing.h"

namespace clarion::log {

struct LogEngine {
  std::string name;
  std::function<std::unique_ptr<LogUnderTest>()> open;
};

inline std::string NameOfEngine(const testing::TestParamInfo<LogEngine>& info) {
  return info.param.name;
}

class LogContractTest : public testing::TestWithParam<LogEngine> {
 protected:
  LogContractTest() : under_test_(GetParam().open()) {}

  LogClient client() { return LogClient(under_test_->log()); }
  LogUnderTest& under_test() { return *under_test_; }

  RecordingOwners owners_;

 private:
  std::unique_ptr<LogUnderTest> under_test_;
};

// Runs of the thread "t", of the user "u".
class LogRunsTest : public LogContractTest {
 protected:
  absl::StatusOr<AppendResult> Append(std::vector<AppendItem> items,
                                      RunRules rules = RunRules::kStrict) {
    AppendRequest request;
    request.items = std::move(items);
    request.run_rules = rules;
    return Append(std::move(request));
  }
  absl::StatusOr<AppendResult> Append(AppendRequest request) {
    request.thread = ThreadId("t");
    request.owner = UserId("u");
    return Await<AppendResult>([&](Log::Callback<AppendResult> done) {
      under_test().log()->Append(std::move(request), std::move(done));
    });
  }
  // As committed; then as memory that was left and read again has it; then as the disk has it.
  void ForEachPlace(const std::function<void(int)>& check) {
    check(0);
    under_test().Evict();
    check(1);
    under_test().Reopen();
    check(2);
  }
};

}  // namespace clarion::log
