// Between stored rows, domain values and the messages of the API.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "controller/host_link.h"
#include "keys/migration_spec.h"
#include "policy/encryption.h"
#include "policy/rights.h"
#include "sealift/v1/controller.pb.h"
#include "store/store.h"

namespace sealift::controller {

[[nodiscard]] v1::EncryptionMode ToProto(policy::EncryptionMode mode);
// FromProto gives nothing for "not said" and for a mode of a later version.
[[nodiscard]] std::optional<policy::EncryptionMode> FromProto(v1::EncryptionMode mode);
// StoredMode reads the mode of a row; INTERNAL when the store holds something else.
[[nodiscard]] absl::StatusOr<policy::EncryptionMode> StoredMode(const std::string& name);

[[nodiscard]] std::optional<policy::UserRole> FromProto(v1::UserRole role);
[[nodiscard]] v1::User ToProto(const store::UserRow& row);
[[nodiscard]] v1::Policy ToProto(const store::PolicyRow& row);

// PhaseName gives the stored name of a phase ("copying"); ParsePhase reads it, UNSPECIFIED for
// anything else.
[[nodiscard]] std::string PhaseName(v1::MigrationPhase phase);
[[nodiscard]] v1::MigrationPhase ParsePhase(std::string_view name);
// HasEnded says that nothing comes after a phase.
[[nodiscard]] bool HasEnded(v1::MigrationPhase phase);

[[nodiscard]] std::string EngineName(v1::Engine engine);
[[nodiscard]] v1::Engine ParseEngine(std::string_view name);
[[nodiscard]] std::string NoConvergenceName(v1::NoConvergence what);
[[nodiscard]] v1::NoConvergence ParseNoConvergence(std::string_view name);

// ProgressOf is the progress of a migration as far as its row tells.
[[nodiscard]] v1::MigrationProgress ProgressOf(const store::MigrationRow& row);
[[nodiscard]] v1::Migration ToProto(const store::MigrationRow& row,
                                    const v1::MigrationProgress& progress);

[[nodiscard]] v1::Event ToProto(const store::EventRow& row);
[[nodiscard]] v1::Host ToProto(const store::HostRow& row, const HostView& view, std::uint32_t vms);

// AgentSpec is the spec as the agents are told it.
[[nodiscard]] v1::MigrationSpec ToProto(const keys::MigrationSpec& spec,
                                        policy::EncryptionMode mode);

// MayHaveProcess says that a VM in this state may have a QEMU: of one that is not known, too.
[[nodiscard]] bool MayHaveProcess(v1::VmState state);

// FindAgentVm gives what an agent reports of a VM, or null. Points into `status`.
[[nodiscard]] const v1::AgentVm* FindAgentVm(const v1::AgentStatus& status, const std::string& vm);
// FindUnended gives the migration of a VM that an agent is in the middle of, or null.
[[nodiscard]] const v1::AgentMigration* FindUnended(const v1::AgentStatus& status,
                                                    const std::string& vm);

}  // namespace sealift::controller
