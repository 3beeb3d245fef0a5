// sealift-mover FD: moves one migration for the agent that started it, which is at the other end of
// descriptor FD. It has no options: everything comes through that socket, and the key only sealed.
#include <charconv>
#include <csignal>
#include <cstring>

#include "base/log.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "keys/random.h"
#include "keys/secret_bytes.h"
#include "mover/mover.h"

namespace sealift::mover {
namespace {

absl::StatusOr<base::UniqueFd> AgentSocket(int argc, char** argv) {
  int fd = -1;
  const char* end = argc == 2 ? argv[1] + std::strlen(argv[1]) : nullptr;
  if (argc != 2 || std::from_chars(argv[1], end, fd).ptr != end || fd < 3) {
    return absl::InvalidArgumentError("sealift-mover is started by sealift-agentd only");
  }
  return base::UniqueFd(fd);
}

absl::Status Main(int argc, char** argv) {
  // The log's reader may go before us.
  static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
  SEALIFT_RETURN_IF_ERROR(base::SetUpLog("sealift-mover", "info"));
  SEALIFT_RETURN_IF_ERROR(keys::ForbidDumping());
  SEALIFT_ASSIGN_OR_RETURN(base::UniqueFd agent, AgentSocket(argc, argv));
  keys::SystemRandom random;
  Mover mover(std::move(agent), random);
  return mover.Run();
}

}  // namespace
}  // namespace sealift::mover

int main(int argc, char** argv) {
  const absl::Status status = sealift::mover::Main(argc, argv);
  if (status.ok()) return 0;
  spdlog::error("{}", sealift::base::MessageOf(status));
  return 1;
}
