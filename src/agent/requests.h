// What arrives from the controller, read into our own types: nothing is looked up, nothing done.
// INVALID_ARGUMENT names the field that is wrong.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "agent/inventory.h"
#include "agent/orders.h"
#include "migration/board.h"
#include "sealift/v1/agent.pb.h"

namespace sealift::agent {

[[nodiscard]] absl::StatusOr<hypervisor::VmDefinition> FromProto(const v1::CheckVmRequest& request);
[[nodiscard]] absl::StatusOr<VmRecord> FromProto(const v1::PutVmRequest& request);
[[nodiscard]] absl::StatusOr<StopOrder> FromProto(const v1::AgentStopVmRequest& request);

// The order's epoch is left 0.
[[nodiscard]] absl::StatusOr<MigrationOrder> FromProto(const v1::MigrationSpec& spec);
[[nodiscard]] absl::StatusOr<DestinationOrder> FromProto(
    const v1::PrepareDestinationRequest& request);
[[nodiscard]] absl::StatusOr<MigrationOrder> FromProto(const v1::PrepareSourceRequest& request);
[[nodiscard]] absl::StatusOr<StartOrder> FromProto(const v1::StartAgentMigrationRequest& request);
[[nodiscard]] absl::StatusOr<migration::Decision> FromProto(v1::Decision decision);

// MigrationIdText is the id of a request in hexadecimal; it must have 16 bytes.
[[nodiscard]] absl::StatusOr<std::string> MigrationIdText(const std::string& id);

}  // namespace sealift::agent
