#include "service/ctl/program.h"

#include <iostream>
#include <utility>

namespace clarion::ctl {
namespace {

constexpr char kFooter[] =
    "Exit codes: 0 it worked; 1 it was refused or failed; 2 the command line is wrong;\n"
    "3 nobody answers at --service (or --url).\n\n"
    "These options go before or behind the command. `clarionctl COMMAND --help` has examples.";

}  // namespace

Program::Program() : flags_("clarionctl", "Publishes to, follows and questions a Clarion.") {
  flags_.Add("--service", globals_.service, "Where clarion-service listens")
      ->type_name("HOST:PORT");
  flags_.AddSwitch("--tls", globals_.tls, "Use TLS, trusting the system's authorities");
  flags_.Add("--tls-ca", globals_.tls_ca, "Use TLS, trusting this PEM file")
      ->type_name("PATH")
      ->check(CLI::ExistingFile);
  flags_.Add("--tls-cert", globals_.tls_cert, "Our certificate, PEM")
      ->type_name("PATH")
      ->check(CLI::ExistingFile);
  flags_.Add("--tls-key", globals_.tls_key, "Its key, PEM")
      ->type_name("PATH")
      ->check(CLI::ExistingFile);
  flags_
      .Add("--timeout", globals_.timeout_seconds,
           "Seconds to wait for an answer, the connection included")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 3600.0).description(""));
  flags_.app().add_flag("--json", globals_.json, "JSON, one object a line, instead of tables");
  flags_.app().footer(kFooter);
  flags_.app().require_subcommand(1);
}

CLI::App& Program::Add(const Help& help, std::function<int()> run) {
  CLI::App* app = flags_.app().add_subcommand(help.name, help.purpose);
  app->footer(help.examples);
  app->fallthrough();
  commands_.push_back({app, std::move(run)});
  return *app;
}

int Program::Run(int argc, char** argv) {
  if (const auto exit_code = flags_.Parse(argc, argv)) return *exit_code;
  if (globals_.tls_cert.empty() != globals_.tls_key.empty()) {
    return UsageError("", "--tls-cert and --tls-key go together");
  }
  for (const Command& command : commands_) {
    if (command.app->parsed()) return command.run();
  }
  return kUsage;  // not reached: the parser requires a command
}

int UsageError(const std::string& command, const std::string& sentence) {
  std::cerr << "clarionctl" << (command.empty() ? "" : " ") << command << ": " << sentence
            << " (see --help)\n";
  return kUsage;
}

int Main(int argc, char** argv) {
  Program program;
  AddTokenCommand(program);
  AddPublishCommand(program);
  AddTailCommand(program);
  AddThreadsCommand(program);
  AddConnectionsCommand(program);
  AddEventsCommand(program);
  AddWhereCommand(program);
  AddCheckCommand(program);
  AddUndeliveredCommand(program);
  AddAuditCommand(program);
  AddDeleteThreadCommand(program);
  AddDeleteUserCommand(program);
  return program.Run(argc, argv);
}

}  // namespace clarion::ctl
