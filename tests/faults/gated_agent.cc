// sealift-agentd for tests of what fails at a given moment: before and after each durable step of a
// migration it says so ("before committed") to the socket that SEALIFT_GATES names, and goes on
// when that answers or is closed.
#include <sys/socket.h>

#include <chrono>
#include <cstdlib>
#include <string>

#include "agent/daemon.h"
#include "agent/migration_record.h"
#include "base/socket.h"

namespace sealift::agent {
namespace {

void PassGate(StepEdge edge, migration::LedgerStep step) {
  const absl::StatusOr<base::UniqueFd> gate =
      base::ConnectUnix(std::getenv("SEALIFT_GATES"), SOCK_SEQPACKET, std::chrono::seconds(5));
  if (!gate.ok()) return;  // the test has ended
  std::string name = edge == StepEdge::kBefore ? "before " : "after ";
  name += StepName(step);
  if (send(gate->get(), name.data(), name.size(), MSG_NOSIGNAL) < 0) return;
  char answer = 0;
  static_cast<void>(recv(gate->get(), &answer, 1, 0));
}

}  // namespace
}  // namespace sealift::agent

int main(int argc, char** argv) {
  return sealift::agent::RunDaemon(argc, argv, sealift::agent::PassGate);
}
