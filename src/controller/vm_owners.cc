#include "controller/vm_owners.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/bytes.h"
#include "base/log.h"
#include "base/status.h"
#include "controller/convert.h"
#include "controller/lookup.h"
#include "hypervisor/vm_definition.h"

namespace sealift::controller {
namespace {

// An agent decides itself what becomes of a VM that it has begun to move.
absl::Status CheckNotMoving(const std::string& host, const v1::AgentStatus& status,
                            const std::string& vm) {
  const v1::AgentMigration* held = FindUnended(status, vm);
  if (held == nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("host {} is in the middle of migration {} of VM {}", host,
                  base::ToHex(base::AsBytes(held->id())), vm));
}

// IsPartOf says that what a host has is for whoever follows a migration to judge.
bool IsPartOf(const store::MigrationRow& migration, const store::VmRow& row,
              const std::string& host, const v1::AgentVm& reported) {
  if (reported.epoch() > row.epoch) {
    return migration.destination == host && reported.epoch() == row.epoch + 1;
  }
  return migration.source == host || migration.destination == host;
}

// A mode is never lowered by a restore: the store's and the host's are both somebody's word.
absl::StatusOr<std::string> StricterMode(const std::string& stored, v1::EncryptionMode held) {
  SEALIFT_ASSIGN_OR_RETURN(const policy::EncryptionMode ours, StoredMode(stored));
  return std::string(policy::ModeName(std::max(ours, FromProto(held).value_or(ours))));
}

// What the store is to say of a VM that a host has; `row` is what it says now.
absl::StatusOr<store::VmRow> Merge(store::VmRow row, const std::string& host,
                                   const v1::AgentVmRecord& held) {
  const bool mode_is_newer = held.policy_version() > row.policy_version;
  if (mode_is_newer || held.epoch() > row.epoch) {
    SEALIFT_ASSIGN_OR_RETURN(const hypervisor::VmDefinition definition,
                             hypervisor::ParseVmDefinition(held.definition_yaml()));
    if (definition.name != row.name) {
      return absl::InvalidArgumentError(
          fmt::format("host {} gives the definition of a VM {} as that of {}", host,
                      definition.name, row.name));
    }
    row.definition = hypervisor::FormatVmDefinition(definition);
    row.uuid = definition.uuid;
  }
  if (mode_is_newer) {
    SEALIFT_ASSIGN_OR_RETURN(row.encryption, StricterMode(row.encryption, held.encryption()));
    row.policy_version = held.policy_version() + 1;
  }
  row.host = host;
  row.epoch = std::max(row.epoch, held.epoch());
  row.unconfirmed = false;
  return row;
}

// In a restored store the agents are right about VMs of which it does not know better by now.
bool IsToAdopt(const store::HostRow& host, const store::VmRow& row) {
  return host.unheard || row.unconfirmed;
}

}  // namespace

VmOwners::VmOwners(store::Store& store, HostRows& rows, AgentDirectory& agents, VmClaims& claims,
                   EventLog& events, const base::Clock& clock, Changed changed)
    : store_(store),
      rows_(rows),
      agents_(agents),
      claims_(claims),
      events_(events),
      clock_(clock),
      changed_(std::move(changed)) {}

// ---- Reports

absl::Status VmOwners::OnReport(AgentConnection& agent, const v1::AgentStatus& status) {
  // In a store that was never restored what a host reports moves nothing (OwnershipWatch tells),
  // and ends something only where the host was confirmed dead.
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow host, store_.GetHost(agent.host()));
  SEALIFT_ASSIGN_OR_RETURN(const auto restore, store_.LastRestore());
  if (!restore && !host.written_off) return absl::OkStatus();
  absl::Status outcome;
  for (const v1::AgentVm& vm : status.vms()) outcome.Update(Compare(agent, status, vm));
  if (outcome.ok()) outcome = CheckMigrations(agent.host(), status);
  if (outcome.ok()) outcome = Hear(agent.host());
  Report(agent.host(), outcome);
  return outcome;
}

absl::Status VmOwners::Compare(AgentConnection& agent, const v1::AgentStatus& status,
                               const v1::AgentVm& reported) {
  const std::string& host = agent.host();
  SEALIFT_ASSIGN_OR_RETURN(const bool as_stored, IsAsStored(host, reported));
  if (as_stored) return absl::OkStatus();
  SEALIFT_RETURN_IF_ERROR(CheckNotMoving(host, status, reported.name()));
  // Most of these reports were overtaken by the end of a migration.
  const auto look_again = [&]() -> absl::StatusOr<std::optional<v1::AgentVm>> {
    const HostView view = agents_.Refresh(host);
    if (view.reach != HostReach::kReady) return absl::UnavailableError(view.reason);
    const v1::AgentVm* vm = FindAgentVm(*view.status, reported.name());
    if (vm == nullptr) return std::optional<v1::AgentVm>();
    SEALIFT_RETURN_IF_ERROR(CheckNotMoving(host, *view.status, reported.name()));
    SEALIFT_ASSIGN_OR_RETURN(const bool settled, IsAsStored(host, *vm));
    return settled ? std::optional<v1::AgentVm>() : *vm;
  };
  SEALIFT_ASSIGN_OR_RETURN(auto vm, look_again());
  if (!vm) return absl::OkStatus();
  SEALIFT_ASSIGN_OR_RETURN(
      const auto claim,
      claims_.Take(reported.name(), fmt::format("being compared with what host {} has", host)));
  SEALIFT_ASSIGN_OR_RETURN(vm, look_again());
  return vm ? Judge(agent, *vm) : absl::OkStatus();
}

absl::StatusOr<bool> VmOwners::IsAsStored(const std::string& host, const v1::AgentVm& reported) {
  const absl::StatusOr<store::VmRow> row = store_.GetVm(reported.name());
  if (absl::IsNotFound(row.status())) return IsUnknownAsStored(reported);
  SEALIFT_RETURN_IF_ERROR(row.status());
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow from, store_.GetHost(host));
  const bool to_adopt = IsToAdopt(from, *row);
  if (reported.epoch() > row->epoch) return !to_adopt;
  if (row->host == host) {
    return !row->unconfirmed && (!to_adopt || reported.policy_version() <= row->policy_version);
  }
  // An older copy, but of what? Whoever has the VM will say so. Of the same epoch nobody can be
  // told to end his: OwnershipWatch.
  return row->unconfirmed || reported.epoch() == row->epoch;
}

absl::StatusOr<bool> VmOwners::IsUnknownAsStored(const v1::AgentVm& reported) {
  SEALIFT_ASSIGN_OR_RETURN(const std::uint64_t past, store_.PastEpoch(reported.name()));
  if (reported.epoch() <= past) return false;
  SEALIFT_ASSIGN_OR_RETURN(const auto restore, store_.LastRestore());
  return !restore;
}

// The migration is looked at first: when it ends in between, the row is the new one.
absl::Status VmOwners::Judge(AgentConnection& agent, const v1::AgentVm& reported) {
  const std::string& host = agent.host();
  SEALIFT_ASSIGN_OR_RETURN(const auto migration, store_.FindRunningMigration(reported.name()));
  const absl::StatusOr<store::VmRow> row = store_.GetVm(reported.name());
  if (absl::IsNotFound(row.status())) return JudgeUnknown(agent, reported);
  SEALIFT_RETURN_IF_ERROR(row.status());
  if (migration && IsPartOf(*migration, *row, host, reported)) return absl::OkStatus();
  if (reported.epoch() > row->epoch || row->host == host) {
    SEALIFT_ASSIGN_OR_RETURN(const store::HostRow from, store_.GetHost(host));
    return IsToAdopt(from, *row) ? Adopt(agent, *row, reported) : absl::OkStatus();
  }
  if (row->unconfirmed || reported.epoch() == row->epoch) return absl::OkStatus();
  return GiveUp(agent, reported, row->epoch,
                fmt::format("host {} owns it, under epoch {}", row->host, row->epoch));
}

absl::Status VmOwners::JudgeUnknown(AgentConnection& agent, const v1::AgentVm& reported) {
  SEALIFT_ASSIGN_OR_RETURN(const std::uint64_t past, store_.PastEpoch(reported.name()));
  if (reported.epoch() <= past) {
    return GiveUp(agent, reported, past, fmt::format("it was deleted under epoch {}", past));
  }
  v1::AgentVmRequest request;
  request.set_name(reported.name());
  SEALIFT_ASSIGN_OR_RETURN(const v1::AgentVmRecord held,
                           agent.Call(&AgentConnection::Stub::GetVm, request));
  store::VmRow row;
  row.name = reported.name();
  row.epoch = 0;
  row.policy_version = 0;
  row.encryption = policy::ModeName(policy::EncryptionMode::kDisabled);
  row.created = base::UnixMillis(clock_.Now());
  SEALIFT_ASSIGN_OR_RETURN(row, Merge(std::move(row), agent.host(), held));
  SEALIFT_RETURN_IF_ERROR(store_.AdoptVm(std::nullopt, row));
  changed_(agent.host());
  events_.AddWarning(
      "vm.adopted", "vm/" + row.name, kControllerActor,
      fmt::format("host {} has it under epoch {}, and the store did not know it: now "
                  "it does",
                  row.host, row.epoch));
  return absl::OkStatus();
}

absl::Status VmOwners::Adopt(AgentConnection& agent, const store::VmRow& row,
                             const v1::AgentVm& reported) {
  v1::AgentVmRequest request;
  request.set_name(row.name);
  SEALIFT_ASSIGN_OR_RETURN(const v1::AgentVmRecord held,
                           agent.Call(&AgentConnection::Stub::GetVm, request));
  SEALIFT_ASSIGN_OR_RETURN(const store::VmRow after, Merge(row, agent.host(), held));
  SEALIFT_RETURN_IF_ERROR(store_.AdoptVm(row, after));
  changed_(agent.host());
  const std::string subject = "vm/" + row.name;
  if (reported.epoch() > row.epoch) {
    events_.AddWarning("vm.owner_restored", subject, kControllerActor,
                       fmt::format("host {} has it under epoch {}; the store knew of host {} and "
                                   "epoch {}, and follows",
                                   agent.host(), after.epoch, row.host, row.epoch));
  }
  if (after.encryption != row.encryption) {
    events_.AddWarning("vm.encryption_changed", subject, kControllerActor,
                       fmt::format("from {} to {}, as host {} had it", row.encryption,
                                   after.encryption, agent.host()));
  }
  return absl::OkStatus();
}

absl::Status VmOwners::GiveUp(AgentConnection& agent, const v1::AgentVm& reported,
                              std::uint64_t owned, const std::string& why) {
  if (MayHaveProcess(reported.state())) {
    v1::AgentStopVmRequest stop;
    stop.set_name(reported.name());
    stop.set_force(true);
    SEALIFT_RETURN_IF_ERROR(agent.Call(&AgentConnection::Stub::StopVm, stop).status());
    WarnOnce(agent.host(), reported, owned, why);
  }
  v1::AgentVmRequest forget;
  forget.set_name(reported.name());
  return agent.Call(&AgentConnection::Stub::ForgetVm, forget).status();
}

// A host that only says that it has ended it is not an event with every report.
void VmOwners::WarnOnce(const std::string& host, const v1::AgentVm& reported, std::uint64_t owned,
                        const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (!told_.insert(fmt::format("{} {} {}", host, reported.name(), owned)).second) return;
  }
  events_.AddWarning("vm.stale_copy", "vm/" + reported.name(), kControllerActor,
                     fmt::format("host {} still had it, under epoch {}, but {}: the copy on {} was "
                                 "ended",
                                 host, reported.epoch(), why, host));
}

// ---- Restores

// A migration that the store does not know may end with a VM at its destination.
absl::Status VmOwners::CheckMigrations(const std::string& host, const v1::AgentStatus& status) {
  for (const v1::AgentMigration& held : status.migrations()) {
    if (HasEnded(held.progress().phase())) continue;
    const std::string id = base::ToHex(base::AsBytes(held.id()));
    const absl::Status known = store_.GetMigration(id).status();
    if (absl::IsNotFound(known)) return CheckNotMoving(host, status, held.vm());
    SEALIFT_RETURN_IF_ERROR(known);
  }
  return absl::OkStatus();
}

void VmOwners::Report(const std::string& host, const absl::Status& status) {
  const std::string text = status.ok() ? "" : base::MessageOf(status);
  {
    const std::lock_guard lock(mutex_);
    if (undecided_[host] == text) return;
    undecided_[host] = text;
  }
  if (status.ok()) return;
  // Of these it is known that the next report, or a later one, is better.
  const bool passes = absl::IsFailedPrecondition(status) || absl::IsUnavailable(status);
  spdlog::log(passes ? spdlog::level::debug : spdlog::level::warn,
              "compare the VMs of host {} with the store: {}", host, text);
}

absl::Status VmOwners::Hear(const std::string& host) {
  const std::lock_guard lock(settling_);
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow row, store_.GetHost(host));
  if (!row.unheard) return absl::OkStatus();
  SEALIFT_RETURN_IF_ERROR(rows_.Update(host, [](store::HostRow& heard) { heard.unheard = false; }));
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::HostRow> hosts, store_.ListHosts());
  const bool waiting = std::ranges::any_of(
      hosts, [](const store::HostRow& each) { return each.unheard && each.dead_since == 0; });
  return waiting ? absl::OkStatus() : Settle(hosts);
}

absl::Status VmOwners::CheckSettled() {
  const std::lock_guard settling(settling_);
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::HostRow> hosts, store_.ListHosts());
  std::vector<std::string> waiting;
  bool dead = false;
  for (const store::HostRow& host : hosts) {
    if (!host.unheard) continue;
    dead = dead || host.dead_since != 0;
    if (host.dead_since != 0) continue;
    const std::lock_guard lock(mutex_);
    const std::string& why = undecided_[host.name];
    waiting.push_back(why.empty() ? host.name : fmt::format("{} ({})", host.name, why));
  }
  if (waiting.empty()) return dead ? Settle(hosts) : absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "the controller was restored from a backup and has not heard all of these hosts since, which "
      "may have any VM: {}. Start sealift-agentd there, or, if one is down for certain, say so "
      "with "
      "sealift host confirm-dead",
      fmt::join(waiting, ", ")));
}

// Needs settling_.
absl::Status VmOwners::Settle(const std::vector<store::HostRow>& hosts) {
  const bool dead = std::ranges::any_of(
      hosts, [](const store::HostRow& host) { return host.unheard && host.dead_since != 0; });
  if (dead) SEALIFT_RETURN_IF_ERROR(store_.WriteOffUnheard());
  for (const store::HostRow& host : hosts) changed_(host.name);
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::VmRow> vms, store_.ListVms());
  for (const store::VmRow& vm : vms) {
    if (!vm.unconfirmed) continue;
    events_.AddWarning("vm.missing", "vm/" + vm.name, kControllerActor,
                       fmt::format("the restored store says that host {} has it, but no host does: "
                                   "it was deleted, or is on a host that the store does not know",
                                   vm.host));
  }
  events_.Add("controller.settled", "controller", kControllerActor,
              "every host has been heard since the restore, or is dead: VMs start again");
  return absl::OkStatus();
}

absl::Status VmOwners::CheckNowhereElse(const std::string& vm, const std::string& host) {
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::HostRow> hosts, store_.ListHosts());
  for (const store::HostRow& other : hosts) {
    if (other.name == host) continue;
    const auto runs_it = [&](const HostView& view) {
      if (view.reach != HostReach::kReady) return false;
      const v1::AgentVm* reported = FindAgentVm(*view.status, vm);
      return reported != nullptr && (reported->state() == v1::VM_STATE_RUNNING ||
                                     reported->state() == v1::VM_STATE_PAUSED);
    };
    if (!runs_it(agents_.View(other.name)) || !runs_it(agents_.Refresh(other.name))) continue;
    return absl::FailedPreconditionError(fmt::format(
        "host {} runs a VM {}: look at sealift events, and end that one first", other.name, vm));
  }
  return absl::OkStatus();
}

}  // namespace sealift::controller
