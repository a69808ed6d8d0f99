// SIGINT and SIGTERM as something main waits for. Kubernetes sends SIGTERM.
#pragma once

namespace clarion {

// At the very start of main, before any thread: the signals are blocked in every thread, SIGPIPE
// ignored.
void BlockStopSignals();
// Waits for one of them and answers its number. A second one ends the process at once.
int WaitForStopSignal();

}  // namespace clarion
