#include <iostream>
#include <memory>

#include "proto/base/text.h"
#include "service/ctl/client.h"
#include "service/ctl/output.h"
#include "service/ctl/requests.h"

namespace clarion::ctl {
namespace {

constexpr char kCheckExamples[] =
    "Examples:\n"
    "  clarionctl check\n"
    "  clarionctl check --gateway edge-1 --gateway edge-2\n"
    "Sends one canary of every event type through log, link, gateway and a real WebSocket. Exit "
    "code 0\n"
    "only if every one arrived; otherwise STEP says where it stopped.";

std::string TookText(const v1::WiringCanary& canary) {
  if (!canary.has_took()) return "-";
  const double millis =
      static_cast<double>(canary.took().seconds()) * 1e3 + canary.took().nanos() / 1e6;
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f ms", millis);
  return text;
}

int Check(const Globals& globals, const CheckOptions& options) {
  auto client = Client::Make(globals);
  if (!client.ok()) return ReportError(client.status(), globals);
  const auto longer =
      std::chrono::milliseconds(static_cast<int64_t>(options.canary_seconds * 1000));
  auto response = client->Call(&Client::Stub::CheckWiring, CheckRequest(options), longer);
  if (!response.ok()) return ReportError(response.status(), globals);
  if (globals.json) {
    std::cout << ToJson(*response) << "\n";
  } else {
    Table table({"GATEWAY", "TYPE", "STEP", "TOOK", "WHY"});
    for (const v1::WiringCanary& canary : response->canaries()) {
      table.Add({canary.gateway_id(), canary.type(),
                 EnumText(*v1::WiringStep_descriptor(), canary.step()), TookText(canary),
                 canary.message()});
    }
    table.Print(std::cout);
    std::cout << (response->ok() ? "ok: every canary arrived\n" : "not ok: see STEP and WHY\n");
  }
  return response->ok() ? kOk : kFailed;
}

}  // namespace

void AddCheckCommand(Program& program) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App& app = program.Add(
      {"check", "Check that events reach browsers, over the real path.", kCheckExamples},
      [&program, options] { return Check(program.globals(), *options); });
  app.add_option("--gateway", options->gateways, "A gateway that must be attached; may be repeated")
      ->type_name("ID")
      ->allow_extra_args(false);
  app.add_option("--canary-timeout", options->canary_seconds, "Seconds each canary may take")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 30.0).description(""))
      ->capture_default_str();
}

}  // namespace clarion::ctl
