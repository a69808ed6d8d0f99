// Metrics in Prometheus text format, over prometheus-cpp.
//
// A component asks once for its counter or gauge and keeps the reference, which stays valid to the
// end of the process. Names and labels are constants of the component; label values come from
// closed sets (reasons, types, outcomes), never from ids.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>

namespace clarion {

// Counts events; never goes down. Any thread; one relaxed atomic add.
class Counter {
 public:
  void Add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// A value that goes up and down.
class Gauge {
 public:
  void Set(int64_t n) { value_.store(n, std::memory_order_relaxed); }
  void Add(int64_t n) { value_.fetch_add(n, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

using MetricLabels = std::map<std::string, std::string>;

// The same name and labels give the same object. `help` is that of the first call.
Counter& GetCounter(const std::string& name, const std::string& help,
                    const MetricLabels& labels = {});
Gauge& GetGauge(const std::string& name, const std::string& help, const MetricLabels& labels = {});

// Everything, in the text exposition format.
std::string MetricsText();

}  // namespace clarion
