// QEMU's words for run and migration states, turned into ours. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/status/statusor.h"
#include "hypervisor/hypervisor.h"

namespace sealift::qemu {

// ParseMigrationState reads a MigrationStatus (qapi/migration.json). Post-copy and other states
// that we never ask for count as kActive, an unknown word too: the migration is neither over nor
// where we want it.
[[nodiscard]] hypervisor::MigrationState ParseMigrationState(std::string_view status);

// ParseRunState reads a RunState (qapi/run-state.json). A `migration` that did not complete tells a
// source that may go on from one that must not: both are "postmigrate", because QEMU goes there too
// when a paused guest's migration is cancelled.
[[nodiscard]] hypervisor::RunState ParseRunState(std::string_view status,
                                                 hypervisor::MigrationState migration);

// ParseProgress reads a reply to query-migrate. What is missing stays zero; a reply of the wrong
// shape is INTERNAL.
[[nodiscard]] absl::StatusOr<hypervisor::OutgoingProgress> ParseProgress(
    const nlohmann::json& reply);

// HasIgnoreShared looks for x-ignore-shared in a reply to query-migrate-capabilities. QEMU may drop
// what begins with "x-" at any time.
[[nodiscard]] bool HasIgnoreShared(const nlohmann::json& capabilities);

// Arguments of migrate-set-capabilities and migrate-set-parameters for the safe set of switch-over.
// x-ignore-shared is set one way or the other in a QEMU that has it: what an earlier migration has
// left on would make the next one lose all memory.
[[nodiscard]] nlohmann::json MigrationCapabilities(
    const hypervisor::MigrationParameters& parameters, bool has_ignore_shared);
[[nodiscard]] nlohmann::json MigrationParametersJson(
    const hypervisor::MigrationParameters& parameters);

}  // namespace sealift::qemu
