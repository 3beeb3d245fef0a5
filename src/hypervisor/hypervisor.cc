#include "hypervisor/hypervisor.h"

namespace sealift::hypervisor {

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

}  // namespace sealift::hypervisor
