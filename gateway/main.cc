// clarion-gateway: holds browsers' connections, and forwards what the service has for them.
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "gateway/gateway.h"
#include "gateway/link/grpc_link_client.h"
#include "telemetry/log.h"
#include "telemetry/runtime/flags.h"
#include "telemetry/runtime/signals.h"

namespace {

int Fail(const std::string& sentence) {
  std::cerr << "clarion-gateway: " << sentence << "\n";
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  clarion::BlockStopSignals();
  clarion::gateway::GatewayOptions options;
  std::string service = "127.0.0.1:7700";
  clarion::Flags flags("clarion-gateway",
                       "Holds browsers' connections and streams events to them.");
  flags.Add("--service", service, "Address of clarion-service");
  options.AddFlags(flags);
  if (const auto exit_code = flags.Parse(argc, argv)) return *exit_code;
  clarion::InitLog({.program = "clarion-gateway"});

  const auto host_port = clarion::ParseHostPort(service);
  if (!host_port || host_port->port == 0) {
    return Fail("--service must be HOST:PORT, not " + service);
  }
  if (!options.insecure && !clarion::IsLoopback(host_port->host)) {
    return Fail("--service " + service + " is not loopback: the link is plaintext, say --insecure");
  }
  auto gateway = clarion::gateway::Gateway::Start(
      std::move(options), [service](boost::asio::io_context& loop) {
        return clarion::link::MakeGrpcLink(loop, {.target = service});
      });
  if (!gateway.ok()) return Fail(std::string(gateway.status().message()));
  clarion::WaitForStopSignal();
  clarion::Log(clarion::Severity::kInfo, "stopping");
  (*gateway)->Stop();
  return 0;
}
