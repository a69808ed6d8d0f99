// The admin HTTP port: /healthz, /readyz, /metrics. One thread, at most 32 connections at a time,
// each with 5 seconds for one request; for probes and scrapers, not for the internet.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "telemetry/runtime/flags.h"

namespace clarion {

struct AdminOptions {
  HostPort listen;  // port 0: any
  // OK: ready. Otherwise the text says why not (503). Any thread.
  std::function<absl::Status()> ready;
};

class AdminServer {
 public:
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(AdminOptions options);
  virtual ~AdminServer() = default;  // stops
  virtual uint16_t port() const = 0;
};

}  // namespace clarion
