// Migrations that agents hold and the store does not know: they were begun after the backup was
// made from which it was restored. Their sources decide, as of any other.
#pragma once

#include "controller/agents.h"
#include "sealift/v1/agent.pb.h"
#include "store/store.h"

namespace sealift::controller {

// SeeToStray carries the source's decision to the destination where the two cannot reach each
// other, and has a migration that is over on both sides forgotten. `held` is what the agent has
// just reported; without an answer of the other side nothing is done, until the next report.
void SeeToStray(store::Store& store, AgentDirectory& agents, AgentConnection& agent,
                const v1::AgentMigration& held);

}  // namespace sealift::controller
