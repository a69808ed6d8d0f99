// clarion-service whose disk stands still from SIGUSR1 to SIGUSR2: its syncs wait.
#include <csignal>
#include <iostream>
#include <thread>

#include "service/service.h"
#include "telemetry/log.h"
#include "telemetry/runtime/flags.h"
#include "telemetry/runtime/signals.h"
#include "tests/contract/log_crash_fs.h"

int main(int argc, char** argv) {
  clarion::BlockStopSignals();
  sigset_t stalls;
  sigemptyset(&stalls);
  sigaddset(&stalls, SIGUSR1);
  sigaddset(&stalls, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &stalls, nullptr);

  clarion::Flags flags("stalling-service", "clarion-service on a disk that can stand still.");
  clarion::service::ServiceOptions options;
  options.AddFlags(flags);
  if (const auto exit_code = flags.Parse(argc, argv)) return *exit_code;
  clarion::InitLog({.program = "stalling-service"});
  const auto disk = clarion::log::CrashFileSystem::Make();
  options.log_env = disk->env();
  std::thread([disk, stalls] {
    for (int signal = 0; sigwait(&stalls, &signal) == 0;) {
      signal == SIGUSR1 ? disk->StallSyncs() : disk->Go();
    }
  }).detach();

  auto service = clarion::service::ServiceApp::Start(options);
  if (!service.ok()) {
    std::cerr << "stalling-service: " << service.status().message() << "\n";
    return 2;
  }
  clarion::WaitForStopSignal();
  disk->Go();
  (*service)->Stop();
  return 0;
}
