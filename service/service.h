// clarion-service as a library: log, delivery, front, wired. `main` and the one-process program
// start it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clarion/v1/event.pb.h"
#include "proto/link/link.h"
#include "telemetry/runtime/flags.h"

namespace rocksdb {
class Env;
}

namespace clarion::service {

// DESIGN of defaults: README.md, "Configuration", lists every flag.
struct ServiceOptions {
  std::string log_url = "embedded:clarion-data";
  std::string listen = "127.0.0.1:7700";
  std::string admin_listen = "127.0.0.1:7701";
  // Allow plaintext on other than loopback addresses.
  bool insecure = false;
  // No DebugInfo in errors.
  bool production = false;
  // GatewayService on the gRPC port too (false in the one-process program).
  bool serve_link = true;
  size_t max_event_bytes = 256 * 1024;
  size_t max_user_connections = 1000;  // over all gateways
  size_t max_user_claims = 16;
  size_t max_resting_connections = 100'000;
  size_t max_all_threads = 10'000;
  size_t max_open_runs = 100;  // of one thread
  std::string run_protocol = "strict";
  uint64_t run_lease_seconds = 30;
  size_t max_pages = 32;  // of replay, read and compacted at a time
  uint64_t retention_hours = 24;
  uint64_t retention_critical_hours = 168;
  uint64_t thread_max_bytes = 64ull * 1024 * 1024;
  uint64_t thread_max_events = 1'000'000;
  uint64_t tombstone_days = 90;
  uint64_t purge_minutes = 10;
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string tls_client_ca_file;
  // Not a flag: another encoder of events than AppendEventJson, for tests of CheckWiring.
  std::function<bool(const v1::Event&, std::string*)> encoder;
  // Not a flag: how long calls that are on their way are told that the service stops. gRPC ends
  // those that come later without details.
  std::chrono::milliseconds last_answers{200};
  // Not a flag: the file system of the log, for tests of what a disk can do; null: the machine's.
  rocksdb::Env* log_env = nullptr;

  // Adds a flag for each.
  void AddFlags(Flags& flags);
  // Everything that can be wrong with them and with the files they name, without opening, creating
  // or binding anything; Start does it too. The error is one sentence that names the flag to mend.
  absl::Status Check() const;
};

class ServiceApp {
 public:
  // Opens the log, serves. The error is one sentence that names the flag to mend.
  static absl::StatusOr<std::unique_ptr<ServiceApp>> Start(ServiceOptions options);
  virtual ~ServiceApp() = default;  // Stop() first
  // For the memory link.
  virtual link::Service* link_service() = 0;
  virtual uint16_t grpc_port() const = 0;
  virtual uint16_t admin_port() const = 0;
  // Refuses new calls, ends streams, closes the log cleanly. Once.
  virtual void Stop() = 0;
};

}  // namespace clarion::service
