// The program sealift-controllerd without its main.
#pragma once

#include "keys/random.h"

namespace sealift::controller {

// RunDaemon does what the command line says, until SIGTERM or SIGINT, and returns the exit code: 0,
// 1 for a failure, 2 for wrong usage; messages were printed. Keys, ids and tokens are drawn from
// `random`: the shipped program passes keys::SystemRandom, a test program may know what it passes.
// For the main thread, once.
[[nodiscard]] int RunDaemon(int argc, char** argv, keys::RandomSource& random);

}  // namespace sealift::controller
