#include "controller/vms.h"

#include <fmt/format.h>

#include <array>
#include <map>
#include <optional>

#include "base/bytes.h"
#include "base/log.h"
#include "base/status.h"
#include "controller/convert.h"
#include "controller/forecasts.h"
#include "controller/lookup.h"
#include "policy/selector.h"

namespace sealift::controller {
namespace {

constexpr std::chrono::seconds kStopMargin{10};
constexpr std::string_view kDeleted = "vm.deleted";

bool IsUp(v1::VmState state) {
  return state == v1::VM_STATE_RUNNING || state == v1::VM_STATE_PAUSED;
}

// A random UUID: RFC 4122 §4.4.
absl::StatusOr<std::string> MakeUuid(keys::RandomSource& random) {
  std::array<std::byte, 16> bytes;
  SEALIFT_RETURN_IF_ERROR(random.Fill(bytes));
  bytes[6] = (bytes[6] & std::byte{0x0f}) | std::byte{0x40};
  bytes[8] = (bytes[8] & std::byte{0x3f}) | std::byte{0x80};
  const std::string hex = base::ToHex(bytes);
  return fmt::format("{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4),
                     hex.substr(16, 4), hex.substr(20));
}

v1::AgentVmRequest Named(const std::string& name) {
  v1::AgentVmRequest request;
  request.set_name(name);
  return request;
}

void FillState(const store::VmRow& row, const store::HostRow& host, const HostView& view,
               v1::Vm& vm) {
  vm.set_state(v1::VM_STATE_UNKNOWN);
  vm.set_encryption_pending(true);
  if (row.unconfirmed) {
    return vm.set_state_reason(
        "no host was found to have it since the controller was restored from a backup");
  }
  if (view.reach != HostReach::kReady && host.dead_since != 0) {
    vm.set_state(v1::VM_STATE_CRASHED);
    return vm.set_state_reason(
        fmt::format("host {} is dead: start it on another one with sealift vm start {} --host HOST",
                    row.host, row.name));
  }
  if (view.reach != HostReach::kReady) {
    return vm.set_state_reason(fmt::format("host {} does not answer: {}", row.host, view.reason));
  }
  const v1::AgentVm* reported = FindAgentVm(*view.status, row.name);
  vm.set_encryption_pending(ModeIsPending(row, reported));
  if (reported == nullptr) {
    return vm.set_state_reason(fmt::format("host {} does not know it yet", row.host));
  }
  vm.set_state(reported->state());
  vm.set_state_reason(reported->state_reason());
}

void FillDefinition(const hypervisor::VmDefinition& definition, v1::Vm& vm) {
  vm.set_cpus(definition.cpus);
  vm.set_memory_bytes(definition.memory_bytes);
  vm.set_machine(definition.machine);
  vm.set_cpu_model(definition.cpu_model);
  vm.set_autostart(definition.autostart);
  vm.set_encrypted(definition.encrypted);
  vm.mutable_labels()->insert(definition.labels.begin(), definition.labels.end());
}

absl::Status FillModes(const store::VmRow& row, const ModePolicy& modes, v1::Vm& vm) {
  SEALIFT_ASSIGN_OR_RETURN(const policy::EncryptionMode set, StoredMode(row.encryption));
  SEALIFT_ASSIGN_OR_RETURN(const policy::EffectiveMode mode, modes.EffectiveAt(row, {row.host}));
  vm.set_encryption(ToProto(set));
  vm.set_effective_encryption(ToProto(mode.mode));
  vm.set_effective_reason(mode.reason);
  return absl::OkStatus();
}

}  // namespace

VmOperations::VmOperations(store::Store& store, AgentDirectory& agents, VmClaims& claims,
                           VmOwners& owners, EventLog& events, keys::RandomSource& random,
                           const base::Clock& clock)
    : store_(store),
      agents_(agents),
      claims_(claims),
      owners_(owners),
      events_(events),
      random_(random),
      clock_(clock) {}

absl::StatusOr<v1::Vm> VmOperations::Create(const std::string& definition_yaml,
                                            const std::string& host, AfterCreation after,
                                            const std::string& actor) {
  SEALIFT_ASSIGN_OR_RETURN(const hypervisor::VmDefinition definition,
                           hypervisor::ParseVmDefinition(definition_yaml));
  SEALIFT_ASSIGN_OR_RETURN(const auto claim, claims_.Take(definition.name, "being created"));
  SEALIFT_RETURN_IF_ERROR(owners_.CheckSettled());
  SEALIFT_ASSIGN_OR_RETURN(std::optional<store::VmRow> row, FindCreated(definition, host));
  if (!row) {
    SEALIFT_ASSIGN_OR_RETURN(row, NewRow(definition, host));
    SEALIFT_RETURN_IF_ERROR(owners_.CheckNowhereElse(row->name, row->host));
    SEALIFT_RETURN_IF_ERROR(Place(*row));
    events_.Add("vm.created", "vm/" + row->name, actor,
                fmt::format("on host {}, encryption {}", row->host, row->encryption));
  }
  const v1::VmState state = StateAtHost(*row);
  if (after == AfterCreation::kStart && !IsUp(state)) {
    absl::Status started = Prepare(*row, std::string(row->host), Whereabouts::kUnknown, actor);
    if (started.ok()) started = StartAt(*row, actor);
    SEALIFT_RETURN_IF_ERROR(
        base::Annotate(started, fmt::format("VM {} was created but did not start", row->name)));
  }
  return Describe(*row);
}

// Where the definition is silent, what the controller chose then counts as said.
absl::StatusOr<std::optional<store::VmRow>> VmOperations::FindCreated(
    hypervisor::VmDefinition definition, const std::string& host) {
  const absl::StatusOr<store::VmRow> row = store_.GetVm(definition.name);
  if (absl::IsNotFound(row.status())) return std::nullopt;
  SEALIFT_RETURN_IF_ERROR(row.status());
  SEALIFT_ASSIGN_OR_RETURN(hypervisor::VmDefinition made,
                           hypervisor::ParseVmDefinition(row->definition));
  if (definition.uuid.empty()) definition.uuid = made.uuid;
  made.encryption = definition.encryption.empty() ? "" : row->encryption;
  const bool same = definition == made && (host.empty() || host == row->host);
  return same ? std::optional(*row) : std::nullopt;
}

absl::StatusOr<store::VmRow> VmOperations::NewRow(hypervisor::VmDefinition definition,
                                                  const std::string& host) {
  SEALIFT_RETURN_IF_ERROR(CheckUnique(definition));
  if (definition.uuid.empty()) {
    SEALIFT_ASSIGN_OR_RETURN(definition.uuid, MakeUuid(random_));
  }
  store::VmRow row;
  row.name = definition.name;
  row.uuid = definition.uuid;
  SEALIFT_ASSIGN_OR_RETURN(row.host, ChooseHost(host));
  SEALIFT_ASSIGN_OR_RETURN(row.encryption, NewMode(definition, row.host));
  // The mode may change; it is kept in one place.
  definition.encryption.clear();
  row.definition = hypervisor::FormatVmDefinition(definition);
  row.created = base::UnixMillis(clock_.Now());
  return row;
}

absl::StatusOr<std::string> VmOperations::NewMode(const hypervisor::VmDefinition& definition,
                                                  const std::string& host) {
  if (definition.encrypted) {
    return std::string(policy::ModeName(policy::EncryptionMode::kRequired));
  }
  SEALIFT_ASSIGN_OR_RETURN(const ModePolicy modes, ModePolicy::Load(store_));
  if (definition.encryption.empty()) return std::string(policy::ModeName(modes.DefaultAt(host)));
  SEALIFT_ASSIGN_OR_RETURN(const policy::EncryptionMode mode, StoredMode(definition.encryption));
  SEALIFT_RETURN_IF_ERROR(policy::CheckFloors(mode, modes.FloorsAt({host})));
  return definition.encryption;
}

absl::Status VmOperations::CheckUnique(const hypervisor::VmDefinition& definition) {
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::VmRow> vms, store_.ListVms());
  for (const store::VmRow& vm : vms) {
    if (vm.name == definition.name) {
      return absl::AlreadyExistsError(fmt::format(
          "there is a VM named {} already, on host {}: choose another name", vm.name, vm.host));
    }
    if (vm.uuid == definition.uuid) {
      return absl::AlreadyExistsError(fmt::format(
          "VM {} has the uuid {} already: leave it out of the definition of {} to get a fresh one",
          vm.name, vm.uuid, definition.name));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> VmOperations::ChooseHost(const std::string& asked) {
  if (!asked.empty()) {
    SEALIFT_RETURN_IF_ERROR(FindHost(store_, asked).status());
    return asked;
  }
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::HostRow> hosts, store_.ListHosts());
  std::vector<std::string> ready;
  for (const store::HostRow& host : hosts) {
    if (agents_.View(host.name).reach == HostReach::kReady) ready.push_back(host.name);
  }
  if (ready.size() == 1) return ready.front();
  if (ready.empty()) {
    return absl::FailedPreconditionError(
        "no host is ready: add one with sealift host add, or see sealift host list");
  }
  return absl::InvalidArgumentError(
      fmt::format("say with --host which host it is to run on: {}", fmt::join(ready, ", ")));
}

// The row comes first, so that no host ever holds a VM that nobody knows; it goes again when the
// host does not take the VM.
absl::Status VmOperations::Place(store::VmRow& row) {
  SEALIFT_ASSIGN_OR_RETURN(const auto agent, agents_.Connection(row.host));
  v1::CheckVmRequest check;
  check.set_definition_yaml(row.definition);
  SEALIFT_RETURN_IF_ERROR(agent->Call(&AgentConnection::Stub::CheckVm, check).status());
  SEALIFT_ASSIGN_OR_RETURN(row, store_.CreateVm(row));
  SEALIFT_ASSIGN_OR_RETURN(const ModePolicy modes, ModePolicy::Load(store_));
  const absl::Status pushed = PushVm(*agent, row, modes);
  if (pushed.ok()) return absl::OkStatus();
  const absl::Status deleted = store_.DeleteVm(row.name);
  if (!deleted.ok())
    spdlog::error("undo the creation of VM {}: {}", row.name, base::MessageOf(deleted));
  const auto forgotten = agent->Call(&AgentConnection::Stub::ForgetVm, Named(row.name));
  if (!forgotten.ok())
    spdlog::warn("undo the creation of VM {} at host {}: {}", row.name, row.host,
                 base::MessageOf(forgotten.status()));
  return pushed;
}

absl::StatusOr<v1::Vm> VmOperations::Start(const std::string& name, const std::string& host,
                                           Whereabouts whereabouts, const std::string& actor) {
  SEALIFT_ASSIGN_OR_RETURN(const auto claim, claims_.Take(name, "being started"));
  SEALIFT_RETURN_IF_ERROR(owners_.CheckSettled());
  SEALIFT_ASSIGN_OR_RETURN(store::VmRow row, FindIdle(name));
  const std::string target = host.empty() ? row.host : host;
  if (!row.unconfirmed && target == row.host && IsUp(StateAtHost(row))) return Describe(row);
  SEALIFT_RETURN_IF_ERROR(Prepare(row, target, whereabouts, actor));
  SEALIFT_RETURN_IF_ERROR(StartAt(row, actor));
  return Describe(row);
}

v1::VmState VmOperations::StateAtHost(const store::VmRow& row) {
  const HostView view = agents_.Refresh(row.host);
  const v1::AgentVm* reported =
      view.reach == HostReach::kReady ? FindAgentVm(*view.status, row.name) : nullptr;
  return reported == nullptr ? v1::VM_STATE_UNKNOWN : reported->state();
}

absl::Status VmOperations::Prepare(store::VmRow& row, const std::string& host,
                                   Whereabouts whereabouts, const std::string& actor) {
  const std::string owner = row.host;
  if (row.unconfirmed && whereabouts != Whereabouts::kRunsNowhere) return NobodyHas(row);
  if (!row.unconfirmed && host != owner) SEALIFT_RETURN_IF_ERROR(CheckTakeOver(row));
  if (host != owner) SEALIFT_RETURN_IF_ERROR(CheckFits(row, host));
  SEALIFT_RETURN_IF_ERROR(owners_.CheckNowhereElse(row.name, host));
  if (row.unconfirmed) {
    SEALIFT_RETURN_IF_ERROR(Renew(row, host));
    events_.AddWarning("vm.runs_nowhere", "vm/" + row.name, actor,
                       fmt::format("no host has it since the restore: host {} gets it, under epoch "
                                   "{}",
                                   host, row.epoch));
    return absl::OkStatus();
  }
  if (host != owner) {
    SEALIFT_RETURN_IF_ERROR(Renew(row, host));
    events_.AddWarning(
        "vm.taken_over", "vm/" + row.name, actor,
        fmt::format("by host {} under epoch {}: host {} is dead", host, row.epoch, owner));
    return absl::OkStatus();
  }
  return StateAtHost(row) == v1::VM_STATE_CRASHED ? Renew(row, owner) : absl::OkStatus();
}

absl::Status VmOperations::CheckTakeOver(const store::VmRow& row) {
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow owner, FindHost(store_, row.host));
  if (owner.dead_since != 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("VM {} is host {}'s, and may still run there: migrate it, or, if that host is "
                  "down for certain, say so with sealift host confirm-dead {}",
                  row.name, row.host, row.host));
}

absl::Status VmOperations::CheckFits(const store::VmRow& row, const std::string& host) {
  SEALIFT_RETURN_IF_ERROR(FindHost(store_, host).status());
  SEALIFT_ASSIGN_OR_RETURN(const auto agent, agents_.Connection(host));
  v1::CheckVmRequest check;
  check.set_definition_yaml(row.definition);
  return agent->Call(&AgentConnection::Stub::CheckVm, check).status();
}

absl::Status VmOperations::Renew(store::VmRow& row, const std::string& host) {
  SEALIFT_RETURN_IF_ERROR(store_.MoveVm(row.name, row.epoch, host));
  SEALIFT_ASSIGN_OR_RETURN(row, store_.GetVm(row.name));
  return absl::OkStatus();
}

absl::Status VmOperations::StartAt(const store::VmRow& row, const std::string& actor) {
  SEALIFT_ASSIGN_OR_RETURN(const auto agent, agents_.Connection(row.host));
  // It may not know the VM, or its epoch, yet.
  SEALIFT_ASSIGN_OR_RETURN(const ModePolicy modes, ModePolicy::Load(store_));
  SEALIFT_RETURN_IF_ERROR(PushVm(*agent, row, modes));
  SEALIFT_RETURN_IF_ERROR(agent->Call(&AgentConnection::Stub::StartVm, Named(row.name)).status());
  agents_.Refresh(row.host);
  events_.Add("vm.started", "vm/" + row.name, actor, fmt::format("on host {}", row.host));
  return absl::OkStatus();
}

absl::StatusOr<v1::Vm> VmOperations::Stop(const std::string& name, StopManner manner,
                                          std::chrono::seconds timeout, const std::string& actor) {
  SEALIFT_ASSIGN_OR_RETURN(const auto claim, claims_.Take(name, "being stopped"));
  SEALIFT_ASSIGN_OR_RETURN(const store::VmRow row, FindIdle(name));
  if (StateAtHost(row) == v1::VM_STATE_STOPPED) return Describe(row);
  SEALIFT_ASSIGN_OR_RETURN(const auto agent, agents_.Connection(row.host));
  v1::AgentStopVmRequest request;
  request.set_name(name);
  request.set_force(manner == StopManner::kForce);
  request.set_timeout_s(static_cast<std::uint32_t>(timeout.count()));
  SEALIFT_RETURN_IF_ERROR(
      agent->Call(&AgentConnection::Stub::StopVm, request, timeout + kStopMargin).status());
  agents_.Refresh(row.host);
  events_.Add("vm.stopped", "vm/" + name, actor,
              manner == StopManner::kForce ? "ended by force" : "shut down");
  return Describe(row);
}

absl::Status VmOperations::Delete(const std::string& name, const std::string& actor) {
  SEALIFT_ASSIGN_OR_RETURN(const auto claim, claims_.Take(name, "being deleted"));
  const absl::StatusOr<store::VmRow> found = FindIdle(name);
  if (absl::IsNotFound(found.status()) && events_.LastIs(kDeleted, "vm/" + name)) {
    return absl::OkStatus();
  }
  SEALIFT_ASSIGN_OR_RETURN(const store::VmRow row, found);
  SEALIFT_RETURN_IF_ERROR(CheckStopped(row));
  SEALIFT_ASSIGN_OR_RETURN(const auto agent, agents_.Connection(row.host));
  const absl::Status forgotten =
      agent->Call(&AgentConnection::Stub::ForgetVm, Named(name)).status();
  if (!forgotten.ok() && !absl::IsNotFound(forgotten)) return forgotten;
  SEALIFT_RETURN_IF_ERROR(store_.DeleteVm(name));
  agents_.Refresh(row.host);
  events_.Add(kDeleted, "vm/" + name, actor, fmt::format("from host {}; its disks stay", row.host));
  return absl::OkStatus();
}

absl::Status VmOperations::CheckStopped(const store::VmRow& row) {
  const HostView view = agents_.Refresh(row.host);
  if (view.reach != HostReach::kReady) {
    return absl::FailedPreconditionError(
        fmt::format("host {} does not answer ({}), so nobody knows whether VM {} runs: start "
                    "sealift-agentd there first",
                    row.host, view.reason, row.name));
  }
  const v1::AgentVm* vm = FindAgentVm(*view.status, row.name);
  if (vm == nullptr || vm->state() == v1::VM_STATE_STOPPED || vm->state() == v1::VM_STATE_CRASHED) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(fmt::format(
      "VM {} is not stopped: stop it first with sealift vm stop {}", row.name, row.name));
}

absl::StatusOr<store::VmRow> VmOperations::FindIdle(const std::string& name) {
  SEALIFT_ASSIGN_OR_RETURN(store::VmRow row, FindVm(store_, name));
  SEALIFT_ASSIGN_OR_RETURN(const auto migration, store_.FindRunningMigration(name));
  if (!migration) return row;
  return absl::FailedPreconditionError(
      fmt::format("VM {} is being migrated to host {}: wait for migration {} or cancel it", name,
                  migration->destination, migration->id));
}

absl::StatusOr<v1::Vm> VmOperations::Get(const std::string& name) {
  SEALIFT_ASSIGN_OR_RETURN(const store::VmRow row, FindVm(store_, name));
  SEALIFT_ASSIGN_OR_RETURN(v1::Vm vm, Describe(row));
  SEALIFT_ASSIGN_OR_RETURN(const Forecasts forecasts, Forecasts::Make(store_, agents_));
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<v1::MoveForecast> moves, forecasts.Of(row));
  vm.mutable_moves()->Assign(moves.begin(), moves.end());
  return vm;
}

absl::StatusOr<std::vector<v1::Vm>> VmOperations::List(const std::string& host,
                                                       const std::string& selector_text) {
  if (!host.empty()) SEALIFT_RETURN_IF_ERROR(FindHost(store_, host).status());
  std::optional<policy::Selector> selector;
  if (!selector_text.empty()) {
    SEALIFT_ASSIGN_OR_RETURN(selector, policy::Selector::Parse(selector_text));
  }
  SEALIFT_ASSIGN_OR_RETURN(const ModePolicy modes, ModePolicy::Load(store_));
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::VmRow> rows, store_.ListVms());
  std::map<std::string, HostView> views;
  std::vector<v1::Vm> vms;
  for (const store::VmRow& row : rows) {
    if (!host.empty() && row.host != host) continue;
    auto view = views.find(row.host);
    if (view == views.end()) view = views.emplace(row.host, agents_.View(row.host)).first;
    SEALIFT_ASSIGN_OR_RETURN(v1::Vm vm, Describe(row, modes, view->second));
    const base::Labels labels(vm.labels().begin(), vm.labels().end());
    if (!selector || selector->Matches(labels)) vms.push_back(std::move(vm));
  }
  return vms;
}

absl::StatusOr<v1::Vm> VmOperations::Describe(const store::VmRow& row) {
  SEALIFT_ASSIGN_OR_RETURN(const ModePolicy modes, ModePolicy::Load(store_));
  return Describe(row, modes, agents_.View(row.host));
}

absl::StatusOr<v1::Vm> VmOperations::Describe(const store::VmRow& row, const ModePolicy& modes,
                                              const HostView& view) {
  v1::Vm vm;
  vm.set_name(row.name);
  vm.set_uuid(row.uuid);
  vm.set_host(row.host);
  vm.set_epoch(row.epoch);
  vm.set_created_ms(row.created);
  SEALIFT_ASSIGN_OR_RETURN(hypervisor::VmDefinition definition,
                           hypervisor::ParseVmDefinition(row.definition));
  FillDefinition(definition, vm);
  definition.encryption = row.encryption;
  vm.set_definition_yaml(hypervisor::FormatVmDefinition(definition));
  SEALIFT_RETURN_IF_ERROR(FillModes(row, modes, vm));
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow host, store_.GetHost(row.host));
  FillState(row, host, view, vm);
  SEALIFT_ASSIGN_OR_RETURN(const auto migration, store_.FindRunningMigration(row.name));
  if (migration) vm.set_migration_id(migration->id);
  return vm;
}

}  // namespace sealift::controller
