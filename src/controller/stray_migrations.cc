#include "controller/stray_migrations.h"

#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "controller/convert.h"

namespace sealift::controller {
namespace {

// Elsewhere is the other side of a migration, as far as the hosts say.
struct Elsewhere {
  std::optional<v1::AgentMigration> held;
  bool everybody_answers = true;
};

absl::StatusOr<Elsewhere> LookElsewhere(store::Store& store, AgentDirectory& agents,
                                        const std::string& host, const v1::AgentMigration& here) {
  Elsewhere elsewhere;
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::HostRow> hosts, store.ListHosts());
  for (const store::HostRow& other : hosts) {
    if (other.name == host) continue;
    const HostView view = agents.View(other.name);
    if (view.reach != HostReach::kReady) {
      elsewhere.everybody_answers = false;
      continue;
    }
    for (const v1::AgentMigration& held : view.status->migrations()) {
      if (held.id() == here.id() && held.role() != here.role()) elsewhere.held = held;
    }
  }
  return elsewhere;
}

bool IsCommit(v1::MigrationPhase phase) {
  return phase == v1::MIGRATION_PHASE_COMMITTED || phase == v1::MIGRATION_PHASE_COMPLETED;
}

// The destination hears from us what it would hear from its source.
void TellCommit(AgentConnection& destination, const std::string& wire_id) {
  v1::TellDecisionRequest request;
  request.set_id(wire_id);
  request.set_decision(v1::DECISION_COMMIT);
  const absl::Status told =
      destination.Call(&AgentConnection::Stub::TellDecision, request).status();
  if (!told.ok()) {
    spdlog::debug("tell host {} of a decision: {}", destination.host(), base::MessageOf(told));
  }
}

}  // namespace

std::optional<v1::MigrationPhase> SeeToStray(store::Store& store, AgentDirectory& agents,
                                             AgentConnection& agent,
                                             const v1::AgentMigration& held) {
  const auto elsewhere = LookElsewhere(store, agents, agent.host(), held);
  if (!elsewhere.ok()) return std::nullopt;
  const v1::MigrationPhase here = held.progress().phase();
  const v1::MigrationPhase there =
      elsewhere->held ? elsewhere->held->progress().phase() : v1::MIGRATION_PHASE_UNSPECIFIED;
  const bool source = held.role() == v1::AGENT_MIGRATION_ROLE_SOURCE;
  if (!source && elsewhere->held && !HasEnded(here)) {
    if (IsCommit(there)) TellCommit(agent, held.id());
    return HasEnded(there) && !IsCommit(there) ? std::optional(there) : std::nullopt;
  }
  // A committed source ends its guest once it is known to run at the destination.
  const bool moved =
      source && here == v1::MIGRATION_PHASE_COMMITTED && there == v1::MIGRATION_PHASE_COMPLETED;
  if (moved) return v1::MIGRATION_PHASE_COMPLETED;
  const bool over_there = elsewhere->held ? HasEnded(there) : elsewhere->everybody_answers;
  return HasEnded(here) && over_there ? std::optional(here) : std::nullopt;
}

}  // namespace sealift::controller
