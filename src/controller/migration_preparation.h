// Setting up both ends of a migration: movers, the spec, and the one-time key, sealed to each
// mover.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "controller/agents.h"
#include "keys/migration_spec.h"
#include "keys/random.h"
#include "store/store.h"

namespace sealift::controller {

// SealedKeys is the key of one migration as only the two movers can read it.
struct SealedKeys {
  std::string for_source;
  std::string for_destination;
};

// SpecOf is the spec of a recorded migration. INTERNAL when its row is damaged.
[[nodiscard]] absl::StatusOr<keys::MigrationSpec> SpecOf(const store::MigrationRow& migration,
                                                         const std::string& trust_domain);

// PrepareMigration makes the destination ready, then the source, then draws a key and seals it to
// both movers; the key itself is wiped on return. On an error each agent may or may not have
// prepared: cancel at both.
[[nodiscard]] absl::StatusOr<SealedKeys> PrepareMigration(
    AgentDirectory& agents, keys::RandomSource& random, const store::MigrationRow& migration,
    const store::VmRow& vm, v1::NoConvergence on_no_convergence,
    const std::string& destination_address, const std::string& trust_domain);

// WireId is the 16 bytes of a migration's id. The row's id was made by us or is refused here.
[[nodiscard]] absl::StatusOr<std::string> WireId(const std::string& id);

}  // namespace sealift::controller
