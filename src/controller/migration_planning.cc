#include "controller/migration_planning.h"

#include <fmt/format.h>

#include <future>

#include "base/status.h"
#include "controller/convert.h"
#include "controller/forecasts.h"
#include "controller/lookup.h"
#include "controller/vm_sync.h"

namespace sealift::controller {
namespace {

absl::Status TellMode(AgentDirectory& agents, const store::VmRow& vm, const HostView& source,
                      const ModePolicy& modes) {
  if (source.reach != HostReach::kReady) return absl::OkStatus();  // refused for that
  const v1::AgentVm* reported = FindAgentVm(*source.status, vm.name);
  if (reported == nullptr || !ModeIsPending(vm, reported)) return absl::OkStatus();
  SEALIFT_ASSIGN_OR_RETURN(const auto agent, agents.Connection(vm.host));
  return base::Annotate(
      PushVm(*agent, vm, modes),
      fmt::format("host {} has not been told the mode of VM {} yet", vm.host, vm.name));
}

absl::StatusOr<MigrationQuestion> Ask(store::Store& store, AgentDirectory& agents,
                                      const MigrationWish& wish, const store::VmRow& vm) {
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow from, FindHost(store, vm.host));
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow to, FindHost(store, wish.to));
  SEALIFT_ASSIGN_OR_RETURN(const ModePolicy modes, ModePolicy::Load(store));
  std::future destination = std::async(std::launch::async, [&] { return agents.Refresh(to.name); });
  const HostView source = agents.Refresh(from.name);
  SEALIFT_RETURN_IF_ERROR(TellMode(agents, vm, source, modes));
  SEALIFT_ASSIGN_OR_RETURN(const auto definition, hypervisor::ParseVmDefinition(vm.definition));
  SEALIFT_ASSIGN_OR_RETURN(
      MigrationQuestion question,
      MakeQuestion(vm, definition, modes, FactsOf(from, source), FactsOf(to, destination.get())));
  SEALIFT_ASSIGN_OR_RETURN(const auto under_way, store.FindRunningMigration(vm.name));
  if (under_way && under_way->id != wish.id) question.migration_under_way = under_way->id;
  const v1::AgentVm* reported = source.status ? FindAgentVm(*source.status, vm.name) : nullptr;
  if (reported != nullptr) {
    question.state = reported->state();
    question.direct = reported->direct();
    question.direct_reason = reported->direct_reason();
  }
  question.engine = wish.engine;
  question.streams = wish.streams;
  return question;
}

}  // namespace

absl::StatusOr<PlannedMigration> PlanNow(store::Store& store, AgentDirectory& agents,
                                         const MigrationWish& wish) {
  SEALIFT_ASSIGN_OR_RETURN(store::VmRow vm, FindVm(store, wish.vm));
  if (vm.unconfirmed) return NobodyHas(vm);
  SEALIFT_ASSIGN_OR_RETURN(const MigrationQuestion question, Ask(store, agents, wish, vm));
  SEALIFT_ASSIGN_OR_RETURN(MigrationPlan plan, PlanMigration(question));
  SEALIFT_ASSIGN_OR_RETURN(const auto destination, agents.Connection(wish.to));
  v1::CheckVmRequest check;
  check.set_definition_yaml(vm.definition);
  check.set_incoming(true);
  SEALIFT_RETURN_IF_ERROR(destination->Call(&AgentConnection::Stub::CheckVm, check).status());
  return PlannedMigration{std::move(vm), question.mode.mode, std::move(plan)};
}

}  // namespace sealift::controller
