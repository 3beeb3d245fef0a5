#include "controller/stray_migrations.h"

#include <optional>
#include <string>

#include "base/log.h"
#include "base/status.h"
#include "controller/convert.h"
#include "controller/migration_task.h"

namespace sealift::controller {
namespace {

// Elsewhere is the other side of a migration, as far as the hosts say.
struct Elsewhere {
  std::optional<v1::AgentMigration> held;
  bool everybody_answers = true;
};

absl::StatusOr<Elsewhere> LookElsewhere(store::Store& store, AgentDirectory& agents,
                                        const std::string& host, const std::string& wire_id) {
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
      if (held.id() == wire_id) elsewhere.held = held;
    }
  }
  return elsewhere;
}

// The destination hears from us what it would hear from its source.
void TellDestination(AgentConnection& destination, const std::string& wire_id,
                     v1::MigrationPhase source) {
  const bool commit =
      source == v1::MIGRATION_PHASE_COMMITTED || source == v1::MIGRATION_PHASE_COMPLETED;
  if (HasEnded(source) && !commit) return CleanUpMigration(destination, wire_id, source);
  if (!commit) return;
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

void SeeToStray(store::Store& store, AgentDirectory& agents, AgentConnection& agent,
                const v1::AgentMigration& held) {
  const auto elsewhere = LookElsewhere(store, agents, agent.host(), held.id());
  if (!elsewhere.ok()) return;
  const v1::MigrationPhase here = held.progress().phase();
  const v1::MigrationPhase there =
      elsewhere->held ? elsewhere->held->progress().phase() : v1::MIGRATION_PHASE_UNSPECIFIED;
  const bool source = held.role() == v1::AGENT_MIGRATION_ROLE_SOURCE;
  if (!source && elsewhere->held && !HasEnded(here)) {
    return TellDestination(agent, held.id(), there);
  }
  // A committed source ends its guest once it is known to run at the destination.
  const bool moved =
      source && here == v1::MIGRATION_PHASE_COMMITTED && there == v1::MIGRATION_PHASE_COMPLETED;
  const bool over_there = elsewhere->held ? HasEnded(there) : elsewhere->everybody_answers;
  if (moved || (HasEnded(here) && over_there)) {
    CleanUpMigration(agent, held.id(), moved ? v1::MIGRATION_PHASE_COMPLETED : here);
  }
}

}  // namespace sealift::controller
