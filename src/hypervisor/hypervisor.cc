#include "hypervisor/hypervisor.h"

#include <fmt/format.h>

#include "absl/strings/numbers.h"

namespace sealift::hypervisor {

bool EmulationForgetsWrites(const std::string& qemu_version) {
  constexpr int kFirstThatDoesNot = 9;
  int major = 0;
  return absl::SimpleAtoi(qemu_version.substr(0, qemu_version.find('.')), &major) &&
         major < kFirstThatDoesNot;
}

bool ForgetsWrites(const HostCapabilities& host, const VmDefinition& vm) {
  const Accelerator used = vm.accelerator == Accelerator::kAuto ? host.accelerator : vm.accelerator;
  return used == Accelerator::kTcg && EmulationForgetsWrites(host.qemu_version);
}

std::string_view RunStateName(RunState state) {
  switch (state) {
    case RunState::kRunning:
      return "running";
    case RunState::kPaused:
      return "paused";
    case RunState::kIncoming:
      return "incoming";
    case RunState::kMigrated:
      return "migrated";
    case RunState::kSwitching:
      return "switching";
    case RunState::kIoError:
      return "io-error";
    case RunState::kShutdown:
      return "shutdown";
    case RunState::kCrashed:
      return "crashed";
    case RunState::kGone:
      return "gone";
  }
  return "unknown";
}

std::string_view MigrationStateName(MigrationState state) {
  switch (state) {
    case MigrationState::kNone:
      return "none";
    case MigrationState::kSetup:
      return "setup";
    case MigrationState::kActive:
      return "active";
    case MigrationState::kPreSwitchover:
      return "pre-switchover";
    case MigrationState::kDevice:
      return "device";
    case MigrationState::kCompleted:
      return "completed";
    case MigrationState::kFailed:
      return "failed";
    case MigrationState::kCancelling:
      return "cancelling";
    case MigrationState::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

absl::Status CheckMemory(const VmDefinition& definition, std::uint64_t available_bytes) {
  if (HugePageBytes(definition.huge_pages) != 0 || definition.memory_bytes <= available_bytes) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(fmt::format(
      "VM {} needs {} MiB of memory, this host has {} MiB left that no other VM has been "
      "promised: free some or choose another host",
      definition.name, definition.memory_bytes >> 20, available_bytes >> 20));
}

}  // namespace sealift::hypervisor
