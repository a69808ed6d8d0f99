// clarion: both halves in one process, with the link as a queue in memory.
#include <iostream>
#include <string>
#include <string_view>
#include <utility>

#include "clarion/dev_secret.h"
#include "gateway/gateway.h"
#include "proto/link/memory_link.h"
#include "service/service.h"
#include "telemetry/log.h"
#include "telemetry/runtime/flags.h"
#include "telemetry/runtime/signals.h"

namespace {

int Fail(const absl::Status& status) {
  std::cerr << "clarion: " << std::string(status.message()) << "\n";
  return 2;
}

constexpr std::string_view kEmbedded = "embedded:";

// With --dev and no key at all: a secret of this machine's own, beside the log.
bool MakesDevSecret(const std::string& log_url, const clarion::gateway::GatewayOptions& gateway) {
  const bool has_key = !gateway.token_secret.empty() || !gateway.token_public_keys.empty();
  return gateway.dev && !has_key && log_url.starts_with(kEmbedded);
}

// Of both halves, before either begins.
absl::Status CheckOptions(const clarion::service::ServiceOptions& service,
                          clarion::gateway::GatewayOptions gateway) {
  if (absl::Status status = service.Check(); !status.ok()) return status;
  // It is made once everything else is right; until then another stands for it.
  if (MakesDevSecret(service.log_url, gateway)) gateway.token_secret.assign(32, '-');
  if (absl::Status status = gateway.Check(); !status.ok()) return status;
  return clarion::ParseListenFlags({{"--listen", service.listen},
                                    {"--admin-listen", service.admin_listen},
                                    {"--gateway-listen", gateway.listen},
                                    {"--gateway-admin-listen", gateway.admin_listen}})
      .status();
}

absl::Status CompleteDev(const std::string& log_url, clarion::gateway::GatewayOptions* gateway) {
  if (!MakesDevSecret(log_url, *gateway)) return absl::OkStatus();
  auto secret = clarion::DevTokenSecret(log_url.substr(kEmbedded.size()));
  if (!secret.ok()) return secret.status();
  gateway->token_secret = *std::move(secret);
  return absl::OkStatus();
}

std::string PageUrl(const std::string& listen, uint16_t port) {
  std::string host = "127.0.0.1";
  if (const auto address = clarion::ParseHostPort(listen);
      address && address->host != "0.0.0.0" && address->host != "::") {
    host = address->host.find(':') == std::string::npos ? address->host : "[" + address->host + "]";
  }
  return "http://" + host + ":" + std::to_string(port) + "/";
}

}  // namespace

int main(int argc, char** argv) {
  clarion::BlockStopSignals();
  clarion::Flags flags(
      "clarion",
      "Typed events of agents from backends to browsers: service and gateway in one process.");
  clarion::service::ServiceOptions service_options;
  service_options.AddFlags(flags);
  clarion::gateway::GatewayOptions gateway_options;
  gateway_options.flag_prefix = "gateway-";
  gateway_options.AddFlags(flags);
  if (const auto exit_code = flags.Parse(argc, argv)) return *exit_code;
  clarion::InitLog({.program = "clarion"});
  gateway_options.insecure = service_options.insecure;
  if (absl::Status status = CheckOptions(service_options, gateway_options); !status.ok()) {
    return Fail(status);
  }
  if (absl::Status status = CompleteDev(service_options.log_url, &gateway_options); !status.ok()) {
    return Fail(status);
  }

  auto service = clarion::service::ServiceApp::Start(service_options);
  if (!service.ok()) return Fail(service.status());
  const std::string listen = gateway_options.listen;
  auto gateway = clarion::gateway::Gateway::Start(
      std::move(gateway_options),
      [link = (*service)->link_service()](boost::asio::io_context& loop) {
        return clarion::link::MakeMemoryLink(loop, link);
      });
  if (!gateway.ok()) {
    (*service)->Stop();
    return Fail(gateway.status());
  }
  std::cout << "clarion: the page is at " << PageUrl(listen, (*gateway)->port()) << std::endl;

  clarion::WaitForStopSignal();
  // Browsers first: they are told to come back, and nothing of theirs reaches a service that stops.
  (*gateway)->Stop();
  (*service)->Stop();
  return 0;
}
