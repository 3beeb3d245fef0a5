// From the agent's own types to those of api/sealift/v1; requests.h is the other way.
#pragma once

#include "agent/live_migration.h"
#include "agent/vm_keeper.h"
#include "sealift/v1/agent.pb.h"

namespace sealift::agent {

[[nodiscard]] v1::AgentVm ToProto(const VmView& vm);
[[nodiscard]] v1::AgentVmRecord ToProto(const VmRecord& vm);
[[nodiscard]] v1::AgentMigration ToProto(const MigrationView& migration);

}  // namespace sealift::agent
