// What every log engine must do, as tests: log_contract_write.cc and log_contract_read.cc. An
// engine's own test file, linked with them, says how it is opened:
//
//   INSTANTIATE_TEST_SUITE_P(Embedded, LogContractTest, testing::Values(LogEngine{"roomy", ...}),
//   NameOfEngine);
#pragma once

#include <functional>
#include <memory>
#include <string>

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

}  // namespace clarion::log
