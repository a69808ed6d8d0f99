// The embedded log in a temporary folder, with a clock that is turned by hand.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "proto/base/manual_scheduler.h"
#include "service/log/embedded_log.h"
#include "telemetry/metrics.h"
#include "tests/contract/log_testing.h"

namespace clarion::log {

// Everything leaves memory early and the journal is short, so that few events reach every path.
inline EmbeddedOptions TightOptions() {
  EmbeddedOptions options;
  options.tail_events = 6;
  options.tail_bytes = 400;
  options.chunk_bytes = 60;
  options.max_threads = 2;
  options.max_journal_bytes = 2000;
  options.max_commit_bytes = 200;
  return options;
}

// Small enough that a hundred openings take no time.
inline EmbeddedOptions WithSmallDatabase(EmbeddedOptions options) {
  options.block_cache_bytes = 1u << 20;
  options.write_buffer_bytes = 256u << 10;
  return options;
}

class EmbeddedUnderTest : public LogUnderTest {
 public:
  explicit EmbeddedUnderTest(EmbeddedOptions options = {}) : options_(std::move(options)) {
    options_ = WithSmallDatabase(std::move(options_));
    options_.path = folder_.path() + "/log";
    options_.scheduler = &clock_;
    options_.max_open_runs = 3;
    if (options_.boot_id.empty()) options_.boot_id = "first boot";
    Open();
  }
  ~EmbeddedUnderTest() override { log_.reset(); }

  Log* log() override { return log_.get(); }
  void Reopen() override {
    Close();
    Open();
  }
  void Evict() override {
    if (options_.max_threads > 8) return;  // it keeps what it has
    LogClient client(log());
    const auto pusher = [](size_t n) { return "evict" + std::to_string(n); };
    for (size_t n = 0; n <= options_.max_threads; ++n) {
      EXPECT_TRUE(client.Assign(pusher(n), "evict").ok());
    }
    for (size_t n = 0; n <= options_.max_threads; ++n) EXPECT_TRUE(*client.Erase(pusher(n)));
  }
  void Pass(std::chrono::milliseconds time) override { clock_.Advance(time); }
  size_t max_open_runs() const override { return options_.max_open_runs; }

  void Open() {
    absl::StatusOr<std::unique_ptr<Log>> log = OpenEmbeddedLog(options_);
    ASSERT_TRUE(log.ok()) << log.status();
    log_ = *std::move(log);
  }
  void Close() {
    log_->Close();
    log_.reset();
  }
  EmbeddedOptions& options() { return options_; }
  ManualScheduler& clock() { return clock_; }

 private:
  TemporaryFolder folder_;
  ManualScheduler clock_;
  EmbeddedOptions options_;
  std::unique_ptr<Log> log_;
};

// A test that opens the embedded log as it likes.
class EmbeddedLogTest : public testing::Test {
 protected:
  // Opens with these options; a second call opens the same folder with others.
  void Open(const std::function<void(EmbeddedOptions&)>& change = [](EmbeddedOptions&) {}) {
    if (log_ == nullptr) {
      EmbeddedOptions options = TightOptions();
      change(options);
      log_ = std::make_unique<EmbeddedUnderTest>(options);
    } else {
      log_->Close();
      change(log_->options());
      log_->Open();
    }
  }
  LogClient client() { return LogClient(log_->log()); }
  // Follows, turns the clock, and waits until the floor is where it should be.
  void ExpectFloorAfter(std::chrono::milliseconds time, uint64_t floor) {
    RecordingFollower follower;
    ASSERT_TRUE(client().Follow("t", &follower).ok());
    log_->clock().Advance(time);
    follower.WaitFor("floor " + std::to_string(floor) + " expired");
    client().Unfollow("t", &follower);
  }
  EmbeddedUnderTest& log() { return *log_; }
  void Close() { log_.reset(); }
  static uint64_t Loads() { return GetCounter("clarion_log_loads_total", "").value(); }

 private:
  std::unique_ptr<EmbeddedUnderTest> log_;
};

}  // namespace clarion::log
