// clarionctl as a library: global options, commands, exit codes. One file for each group of
// commands.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "telemetry/runtime/flags.h"

namespace clarion::ctl {

enum ExitCode : int {
  kOk = 0,
  kFailed = 1,       // refused, or it did not work
  kUsage = 2,        // the command line is wrong
  kUnreachable = 3,  // nobody answers there
};

// What every command takes.
struct Globals {
  std::string service = "127.0.0.1:7700";
  bool tls = false;
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  double timeout_seconds = 10;
  // JSON for machines instead of tables for people.
  bool json = false;

  std::chrono::milliseconds timeout() const {
    return std::chrono::milliseconds(static_cast<int64_t>(timeout_seconds * 1000));
  }
};

// The command line: parses it and runs the one command it names.
class Program {
 public:
  Program();

  struct Help {
    std::string name;
    std::string purpose;
    // Lines of what one may type, and what else is worth knowing.
    std::string examples;
  };
  // A command's own options are added to the result; `run` answers the exit code.
  CLI::App& Add(const Help& help, std::function<int()> run);

  int Run(int argc, char** argv);

  Flags& flags() { return flags_; }
  const Globals& globals() const { return globals_; }

 private:
  struct Command {
    CLI::App* app;
    std::function<int()> run;
  };
  Globals globals_;
  Flags flags_;
  std::vector<Command> commands_;
};

// A mistake that the parser cannot see. Prints it, answers kUsage.
int UsageError(const std::string& command, const std::string& sentence);

void AddTokenCommand(Program& program);
void AddPublishCommand(Program& program);
void AddTailCommand(Program& program);
void AddThreadsCommand(Program& program);
void AddConnectionsCommand(Program& program);
void AddEventsCommand(Program& program);
void AddWhereCommand(Program& program);
void AddCheckCommand(Program& program);
void AddUndeliveredCommand(Program& program);
void AddAuditCommand(Program& program);
void AddDeleteThreadCommand(Program& program);
void AddDeleteUserCommand(Program& program);

// main, with all of the above.
int Main(int argc, char** argv);

}  // namespace clarion::ctl
