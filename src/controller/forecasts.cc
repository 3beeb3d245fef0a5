#include "controller/forecasts.h"

#include <fmt/format.h>

#include "base/status.h"

namespace sealift::controller {
namespace {

// A host that is gone between two looks at the store has no forecasts.
absl::StatusOr<std::vector<v1::MoveForecast>> Forecast(
    const store::VmRow& vm, const hypervisor::VmDefinition& definition, const ModePolicy& modes,
    const std::map<std::string, HostFacts>& hosts) {
  std::vector<v1::MoveForecast> forecasts;
  const auto source = hosts.find(vm.host);
  if (source == hosts.end()) return forecasts;
  for (const auto& [name, facts] : hosts) {
    if (name == vm.host) continue;
    SEALIFT_ASSIGN_OR_RETURN(const MigrationQuestion question,
                             MakeQuestion(vm, definition, modes, source->second, facts));
    forecasts.push_back(ForecastMove(question));
  }
  return forecasts;
}

}  // namespace

absl::StatusOr<MigrationQuestion> MakeQuestion(const store::VmRow& vm,
                                               const hypervisor::VmDefinition& definition,
                                               const ModePolicy& modes, const HostFacts& source,
                                               const HostFacts& destination) {
  MigrationQuestion question;
  question.vm = definition;
  SEALIFT_ASSIGN_OR_RETURN(question.mode, modes.EffectiveAt(vm, {source.name, destination.name}));
  question.source = source;
  question.destination = destination;
  return question;
}

absl::StatusOr<Forecasts> Forecasts::Make(store::Store& store, AgentDirectory& agents) {
  SEALIFT_ASSIGN_OR_RETURN(ModePolicy modes, ModePolicy::Load(store));
  Forecasts made(std::move(modes));
  SEALIFT_ASSIGN_OR_RETURN(made.vms_, store.ListVms());
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::HostRow> hosts, store.ListHosts());
  for (const store::HostRow& host : hosts) {
    const HostView view = agents.View(host.name);
    made.hosts_[host.name] = FactsOf(host, view);
    if (!view.status) continue;
    for (const v1::AgentVm& vm : view.status->vms()) made.states_[vm.name()] = vm.state();
  }
  return made;
}

absl::StatusOr<std::vector<v1::MoveForecast>> Forecasts::Of(const store::VmRow& vm) const {
  SEALIFT_ASSIGN_OR_RETURN(const auto definition, hypervisor::ParseVmDefinition(vm.definition));
  return Forecast(vm, definition, modes_, hosts_);
}

absl::StatusOr<std::vector<v1::DrainStep>> Forecasts::Drain(const std::string& host) const {
  std::map<std::string, HostFacts> hosts = hosts_;  // memory is used up step by step
  std::vector<v1::DrainStep> steps;
  for (const store::VmRow& vm : vms_) {
    if (vm.host != host) continue;
    SEALIFT_ASSIGN_OR_RETURN(v1::DrainStep step, Place(vm, hosts));
    steps.push_back(std::move(step));
  }
  return steps;
}

absl::StatusOr<v1::DrainStep> Forecasts::Place(const store::VmRow& vm,
                                               std::map<std::string, HostFacts>& hosts) const {
  v1::DrainStep step;
  step.set_vm(vm.name);
  step.set_outcome(v1::MOVE_OUTCOME_REFUSED);
  const auto state = states_.find(vm.name);
  if (state == states_.end() || state->second != v1::VM_STATE_RUNNING) {
    step.set_reason(fmt::format("VM {} is not running: it stays on host {}", vm.name, vm.host));
    return step;
  }
  SEALIFT_ASSIGN_OR_RETURN(const auto definition, hypervisor::ParseVmDefinition(vm.definition));
  SEALIFT_ASSIGN_OR_RETURN(const auto forecasts, Forecast(vm, definition, modes_, hosts));
  if (forecasts.empty()) step.set_reason("there is no other host");
  std::uint64_t most_memory = 0;
  for (const v1::MoveForecast& forecast : forecasts) {
    const std::uint64_t memory = hosts.at(forecast.host()).capabilities.memory_available_bytes();
    const bool better = forecast.outcome() != step.outcome() ? forecast.outcome() < step.outcome()
                                                             : memory > most_memory;
    if (forecast.outcome() == v1::MOVE_OUTCOME_REFUSED) {
      if (step.to().empty()) {
        step.set_reason(step.reason() + (step.reason().empty() ? "" : "; ") + forecast.reason());
      }
    } else if (better) {
      step.set_to(forecast.host());
      step.set_outcome(forecast.outcome());
      step.set_reason(forecast.reason());
      most_memory = memory;
    }
  }
  if (step.to().empty()) return step;
  v1::HostCapabilities& chosen = hosts.at(step.to()).capabilities;
  chosen.set_memory_available_bytes(chosen.memory_available_bytes() - definition.memory_bytes);
  return step;
}

}  // namespace sealift::controller
