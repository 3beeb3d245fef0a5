// sealift-mover: moves one migration for the agent that started it. It has no options: everything
// comes through the agent's socket, and the key only sealed.
#include <cstdio>

#include "base/log.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "keys/random.h"
#include "keys/secret_bytes.h"
#include "mover/control.h"
#include "mover/mover.h"

int main() {
  using sealift::base::MessageOf;
  absl::Status status = sealift::base::SetUpLog("sealift-mover", "info");
  if (status.ok()) status = sealift::keys::ForbidDumping();
  if (status.ok()) {
    sealift::keys::SystemRandom random;
    sealift::mover::Mover mover(sealift::base::UniqueFd(sealift::mover::kAgentFd), random);
    status = mover.Run();
  }
  if (status.ok()) return 0;
  spdlog::error("{}", MessageOf(status));
  return 1;
}
