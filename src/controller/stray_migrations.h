// Migrations that agents hold and the store does not know: they were begun after the backup was
// made from which it was restored, or after the copy was made that it is. Their sources decide, as
// of any other.
#pragma once

#include <optional>

#include "controller/agents.h"
#include "sealift/v1/agent.pb.h"
#include "store/store.h"

namespace sealift::controller {

// SeeToStray carries the source's decision to the destination where the two cannot reach each
// other. Of a migration that is over on both sides it gives the end, with which the agent may
// forget it. `held` is what that has just reported; without an answer of the other side nothing is
// done, until the next report.
[[nodiscard]] std::optional<v1::MigrationPhase> SeeToStray(store::Store& store,
                                                           AgentDirectory& agents,
                                                           AgentConnection& agent,
                                                           const v1::AgentMigration& held);

}  // namespace sealift::controller
