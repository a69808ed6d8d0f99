// clarion-service: EventService for backends, GatewayService for gateways, the log.
#include <iostream>

#include "service/service.h"
#include "telemetry/log.h"
#include "telemetry/runtime/flags.h"
#include "telemetry/runtime/signals.h"

int main(int argc, char** argv) {
  clarion::BlockStopSignals();
  clarion::Flags flags("clarion-service",
                       "Takes events of agents from backends, keeps them, hands them to gateways.");
  clarion::service::ServiceOptions options;
  options.AddFlags(flags);
  if (const auto exit_code = flags.Parse(argc, argv)) return *exit_code;
  clarion::InitLog({.program = "clarion-service"});

  auto service = clarion::service::ServiceApp::Start(options);
  if (!service.ok()) {
    std::cerr << "clarion-service: " << service.status().message() << "\n";
    return 2;
  }
  clarion::WaitForStopSignal();
  (*service)->Stop();
  return 0;
}
