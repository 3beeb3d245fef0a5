// Setting up both ends of a migration: movers, the spec, and the one-time key, sealed to each
// mover.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "controller/agents.h"
#include "keys/migration_spec.h"
#include "keys/random.h"
#include "store/store.h"

namespace sealift::controller {

// What the two hosts are started with. The key can be read by their movers only.
struct MigrationStart {
  std::string key_for_source;
  std::string key_for_destination;
  std::vector<std::string> data_addresses;  // host:port, where the destination listens
};

// SpecOf is the spec of a recorded migration. INTERNAL when its row is damaged.
[[nodiscard]] absl::StatusOr<keys::MigrationSpec> SpecOf(const store::MigrationRow& migration,
                                                         const std::string& trust_domain);

// PrepareMigration makes both hosts ready, at the same time unless the source's agent is an old
// one, then draws a key and seals it to both
// movers; the key itself is wiped on return. On an error each agent may or may not have prepared,
// but is doing nothing any more: cancel at both.
[[nodiscard]] absl::StatusOr<MigrationStart> PrepareMigration(
    AgentDirectory& agents, keys::RandomSource& random, const store::MigrationRow& migration,
    const store::VmRow& vm, const std::string& destination_address,
    const std::string& trust_domain);

}  // namespace sealift::controller
