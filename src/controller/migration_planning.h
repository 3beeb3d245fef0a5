// How a migration would go now: what store and agents say at this moment, put to the planner.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "controller/agents.h"
#include "controller/planner.h"
#include "policy/encryption.h"
#include "store/store.h"

namespace sealift::controller {

// MigrationWish is what a plan is made for.
struct MigrationWish {
  std::string vm;
  std::string to;
  v1::Engine engine = v1::ENGINE_UNSPECIFIED;
  std::uint32_t streams = 0;  // 0: the default
  std::string id;             // of the migration planned again; empty for a new one
};

struct PlannedMigration {
  store::VmRow vm;
  policy::EncryptionMode mode = policy::kDefaultMode;  // in force
  MigrationPlan plan;
};

// PlanNow asks both hosts, and tells the source the VM's mode if it does not know it yet. Refusals
// are those of PlanMigration and of the destination's agent, NOT_FOUND for an unknown VM or host,
// FAILED_PRECONDITION for a VM that no host was found to have since a restore;
// nothing has been touched then.
[[nodiscard]] absl::StatusOr<PlannedMigration> PlanNow(store::Store& store, AgentDirectory& agents,
                                                       const MigrationWish& wish);

}  // namespace sealift::controller
