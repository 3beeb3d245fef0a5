// The program sealift-agentd without its main.
#pragma once

#include "agent/live_migration.h"

namespace sealift::agent {

// RunDaemon does what the command line says, until SIGTERM or SIGINT, and returns the exit code: 0,
// 1 for a failure, 2 for wrong usage; messages were printed. The shipped program passes no hook; a
// test program may hold a migration at any step. For the main thread, once.
[[nodiscard]] int RunDaemon(int argc, char** argv, StepHook on_step = nullptr);

}  // namespace sealift::agent
