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
#include "telemetry/runtime/tls.h"

namespace {

int Fail(const std::string& sentence) {
  std::cerr << "clarion-gateway: " << sentence << "\n";
  return 2;
}

// Where the service is, and how the link to it is kept private.
struct ServiceFlags {
  std::string service = "127.0.0.1:7700";
  clarion::TlsFlags tls = {.cert = {"--service-cert-file", ""},
                           .key = {"--service-key-file", ""},
                           .ca = {"--service-ca-file", ""}};

  void AddTo(clarion::Flags& flags) {
    flags.Add("--service", service, "Address of clarion-service");
    flags.Add(tls.ca.flag, tls.ca.path,
              "PEM authorities of the service's certificate; makes the link TLS");
    flags.Add(tls.cert.flag, tls.cert.path, "PEM chain that the gateway shows to the service");
    flags.Add(tls.key.flag, tls.key.path, "PEM key of that chain");
  }
};

// The error is one sentence that names the flag to mend.
absl::StatusOr<clarion::link::GrpcLinkOptions> CheckLink(const ServiceFlags& flags, bool insecure) {
  const auto mistake = [](const std::string& what) { return absl::InvalidArgumentError(what); };
  const auto host_port = clarion::ParseHostPort(flags.service);
  if (!host_port || host_port->port == 0) {
    return mistake("--service must be HOST:PORT, not " + flags.service);
  }
  if (flags.tls.ca.path.empty() && !insecure && !clarion::IsLoopback(host_port->host)) {
    return mistake("--service: " + flags.service + " is not loopback: give " + flags.tls.ca.flag +
                   ", or say --insecure");
  }
  auto credentials = clarion::MakeChannelCredentials(flags.tls);
  if (!credentials.ok()) return credentials.status();
  // gRPC does not know that no host is this one.
  const std::string target =
      flags.service.starts_with(':') ? host_port->host + flags.service : flags.service;
  return clarion::link::GrpcLinkOptions{.target = target, .credentials = *std::move(credentials)};
}

}  // namespace

int main(int argc, char** argv) {
  clarion::BlockStopSignals();
  clarion::gateway::GatewayOptions options;
  ServiceFlags service;
  clarion::Flags flags("clarion-gateway",
                       "Holds browsers' connections and streams events to them.");
  service.AddTo(flags);
  options.AddFlags(flags);
  if (const auto exit_code = flags.Parse(argc, argv)) return *exit_code;
  clarion::InitLog({.program = "clarion-gateway"});

  const auto link = CheckLink(service, options.insecure);
  if (!link.ok()) return Fail(std::string(link.status().message()));
  auto gateway = clarion::gateway::Gateway::Start(
      std::move(options),
      [&link](boost::asio::io_context& loop) { return clarion::link::MakeGrpcLink(loop, *link); });
  if (!gateway.ok()) return Fail(std::string(gateway.status().message()));
  clarion::WaitForStopSignal();
  clarion::Log(clarion::Severity::kInfo, "stopping");
  (*gateway)->Stop();
  return 0;
}
