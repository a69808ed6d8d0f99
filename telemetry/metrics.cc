#include "telemetry/metrics.h"

#include <cstdlib>
#include <iostream>
#include <memory>
#include <sstream>
#include <utility>
#include <vector>

#include "prometheus/metric_family.h"
#include "prometheus/text_serializer.h"
#include "proto/base/mutex.h"

namespace clarion {
namespace {

using prometheus::MetricType;

struct Family {
  MetricType type = MetricType::Untyped;
  std::string help;
  // One of both maps, by type. The objects stay where they are.
  std::map<MetricLabels, std::unique_ptr<Counter>> counters;
  std::map<MetricLabels, std::unique_ptr<Gauge>> gauges;
};

class Metrics {
 public:
  Counter& GetCounter(const std::string& name, const std::string& help,
                      const MetricLabels& labels) {
    MutexLock lock(mutex_);
    auto& counter = Get(name, help, MetricType::Counter).counters[labels];
    if (counter == nullptr) counter = std::make_unique<Counter>();
    return *counter;
  }

  Gauge& GetGauge(const std::string& name, const std::string& help, const MetricLabels& labels) {
    MutexLock lock(mutex_);
    auto& gauge = Get(name, help, MetricType::Gauge).gauges[labels];
    if (gauge == nullptr) gauge = std::make_unique<Gauge>();
    return *gauge;
  }

  std::vector<prometheus::MetricFamily> Collect() {
    MutexLock lock(mutex_);
    std::vector<prometheus::MetricFamily> collected;
    for (const auto& [name, family] : families_) {
      prometheus::MetricFamily& to = collected.emplace_back();
      to.name = name;
      to.help = family.help;
      to.type = family.type;
      for (const auto& [labels, counter] : family.counters) {
        AddMetric(labels, &to).counter.value = static_cast<double>(counter->value());
      }
      for (const auto& [labels, gauge] : family.gauges) {
        AddMetric(labels, &to).gauge.value = static_cast<double>(gauge->value());
      }
    }
    return collected;
  }

 private:
  // A name stands for one type: asking for it as another is a mistake in the program.
  Family& Get(const std::string& name, const std::string& help, MetricType type)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto [it, added] = families_.try_emplace(name);
    if (added) {
      it->second.type = type;
      it->second.help = help;
    } else if (it->second.type != type) {
      std::cerr << "metric " << name << " is both a counter and a gauge\n";
      std::abort();
    }
    return it->second;
  }

  static prometheus::ClientMetric& AddMetric(const MetricLabels& labels,
                                             prometheus::MetricFamily* family) {
    prometheus::ClientMetric& metric = family->metric.emplace_back();
    for (const auto& [name, value] : labels) metric.label.push_back({name, value});
    return metric;
  }

  Mutex mutex_;
  std::map<std::string, Family> families_ ABSL_GUARDED_BY(mutex_);
};

// Never destroyed: threads may count until the very end.
Metrics& Instance() {
  static Metrics& metrics = *new Metrics;
  return metrics;
}

}  // namespace

Counter& GetCounter(const std::string& name, const std::string& help, const MetricLabels& labels) {
  return Instance().GetCounter(name, help, labels);
}

Gauge& GetGauge(const std::string& name, const std::string& help, const MetricLabels& labels) {
  return Instance().GetGauge(name, help, labels);
}

std::string MetricsText() {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, Instance().Collect());
  return out.str();
}

}  // namespace clarion
