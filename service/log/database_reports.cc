#include "service/log/database_reports.h"

#include <array>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "proto/base/mutex.h"
#include "rocksdb/env.h"
#include "rocksdb/listener.h"
#include "telemetry/failure_limiter.h"
#include "telemetry/log.h"

namespace clarion::log {
namespace {

// Longer lines are cut.
constexpr size_t kLineBytes = 1024;

class Lines final : public rocksdb::Logger {
 public:
  Lines() : Logger(rocksdb::InfoLogLevel::WARN_LEVEL) {}

  // Its options, line by line: they are in store.cc.
  void LogHeader(const char* /*format*/, va_list /*arguments*/) override {}

  using Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    Logv(rocksdb::InfoLogLevel::INFO_LEVEL, format, arguments);
  }
  void Logv(rocksdb::InfoLogLevel level, const char* format, va_list arguments) override {
    if (level < GetInfoLogLevel()) return;
    const std::optional<uint64_t> left_out = Admit();
    if (!left_out) return;
    std::array<char, kLineBytes> text;
    std::vsnprintf(text.data(), text.size(), format, arguments);
    std::string line(text.data());
    while (!line.empty() && line.back() == '\n') line.pop_back();
    clarion::Log(
        level >= rocksdb::InfoLogLevel::ERROR_LEVEL ? Severity::kError : Severity::kWarning,
        "the event log's database reports",
        {{"cause", std::move(line)}, {"left_out", std::to_string(*left_out)}});
  }

 private:
  std::optional<uint64_t> Admit() {
    MutexLock lock(mutex_);
    return limiter_.Admit(std::chrono::steady_clock::now());
  }

  Mutex mutex_;
  FailureLimiter limiter_ ABSL_GUARDED_BY(mutex_);
};

class NoSelfRepair final : public rocksdb::EventListener {
 public:
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason /*reason*/, rocksdb::Status bg_error,
                            bool* auto_recovery) override {
    bg_error.PermitUncheckedError();
    *auto_recovery = false;
  }
};

}  // namespace

void RouteReports(rocksdb::DBOptions& options) {
  options.info_log = std::make_shared<Lines>();
  options.listeners.push_back(std::make_shared<NoSelfRepair>());
  options.max_bgerror_resume_count = 0;
}

}  // namespace clarion::log
