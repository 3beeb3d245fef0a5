// Between the agent's own types and those of api/sealift/v1.
#pragma once

#include "absl/status/statusor.h"
#include "agent/migration_keeper.h"
#include "agent/vm_keeper.h"
#include "sealift/v1/agent.pb.h"

namespace sealift::agent {

[[nodiscard]] v1::AgentVm ToProto(const VmView& vm);
[[nodiscard]] v1::AgentVmRecord ToProto(const VmRecord& vm);
[[nodiscard]] v1::AgentMigration ToProto(const MigrationView& migration);

// INVALID_ARGUMENT for an unspecified or unknown mode.
[[nodiscard]] absl::StatusOr<policy::EncryptionMode> FromProto(v1::EncryptionMode mode);
// INVALID_ARGUMENT naming the field that is wrong. The order's epoch is left 0.
[[nodiscard]] absl::StatusOr<MigrationOrder> FromProto(const v1::MigrationSpec& spec);

// MigrationIdText is the id of a request in hexadecimal; INVALID_ARGUMENT unless it has 16 bytes.
[[nodiscard]] absl::StatusOr<std::string> MigrationIdText(const std::string& id);

}  // namespace sealift::agent
