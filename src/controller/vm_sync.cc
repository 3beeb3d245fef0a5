#include "controller/vm_sync.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/status.h"
#include "controller/convert.h"
#include "controller/lookup.h"

namespace sealift::controller {
namespace {

// The mode is compared too: a VM that has come from elsewhere brings the one it travelled with.
bool Differs(const store::VmRow& vm, policy::EncryptionMode mode, const v1::AgentVm* reported) {
  return ModeIsPending(vm, reported) || reported->epoch() < vm.epoch ||
         reported->encryption() != ToProto(mode);
}

}  // namespace

absl::Status PushVm(AgentConnection& agent, const store::VmRow& vm, const ModePolicy& modes) {
  if (vm.unconfirmed) return NobodyHas(vm);
  SEALIFT_ASSIGN_OR_RETURN(const policy::EffectiveMode mode, modes.EffectiveAt(vm, {vm.host}));
  v1::PutVmRequest request;
  request.set_definition_yaml(vm.definition);
  request.set_epoch(vm.epoch);
  request.set_encryption(ToProto(mode.mode));
  request.set_policy_version(vm.policy_version);
  return agent.Call(&AgentConnection::Stub::PutVm, request).status();
}

bool ModeIsPending(const store::VmRow& vm, const v1::AgentVm* reported) {
  return reported == nullptr || reported->policy_version() < vm.policy_version;
}

void VmSync::OnReport(AgentConnection& agent, const v1::AgentStatus& status, Contact contact) {
  {
    const std::lock_guard lock(mutex_);
    if (to_compare_.erase(agent.host()) == 0 && contact == Contact::kRepeated) return;
  }
  const absl::Status done = Reconcile(agent, status);
  if (done.ok()) return;
  spdlog::warn("bring the VMs of host {} up to date: {}", agent.host(), base::MessageOf(done));
  CompareAgain(agent.host());
}

void VmSync::CompareAgain(const std::string& host) {
  const std::lock_guard lock(mutex_);
  to_compare_.insert(host);
}

absl::Status VmSync::Reconcile(AgentConnection& agent, const v1::AgentStatus& status) {
  if (!owners_.CheckSettled().ok()) {
    CompareAgain(agent.host());
    return absl::OkStatus();
  }
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::VmRow> vms, store_.ListVms());
  SEALIFT_ASSIGN_OR_RETURN(const ModePolicy modes, ModePolicy::Load(store_));
  absl::Status outcome;
  for (const store::VmRow& vm : vms) {
    if (vm.host != agent.host() || vm.unconfirmed) continue;
    SEALIFT_ASSIGN_OR_RETURN(const policy::EffectiveMode mode, modes.EffectiveAt(vm, {vm.host}));
    const v1::AgentVm* reported = FindAgentVm(status, vm.name);
    const bool autostart =
        reported != nullptr && reported->autostart_due() && reported->epoch() == vm.epoch;
    if (!autostart && !Differs(vm, mode.mode, reported)) continue;
    SEALIFT_ASSIGN_OR_RETURN(const auto migration, store_.FindRunningMigration(vm.name));
    // One that has ended in the store goes on at a host that was taken for dead meanwhile.
    if (migration || FindUnended(status, vm.name) != nullptr) {
      CompareAgain(agent.host());
      continue;
    }
    // What was pushed before this took its time: it may have moved since, or be gone.
    const absl::StatusOr<store::VmRow> now = store_.GetVm(vm.name);
    if (!now.ok() || now->host != agent.host()) continue;
    outcome.Update(
        base::Annotate(autostart ? Autostart(agent, vm, modes) : PushVm(agent, *now, modes),
                       fmt::format("VM {}", vm.name)));
  }
  return outcome;
}

// One that fails is not tried again before the next contact: the host's state will not change by
// itself.
absl::Status VmSync::Autostart(AgentConnection& agent, store::VmRow vm, const ModePolicy& modes) {
  SEALIFT_RETURN_IF_ERROR(owners_.CheckNowhereElse(vm.name, vm.host));
  SEALIFT_RETURN_IF_ERROR(store_.MoveVm(vm.name, vm.epoch, vm.host));
  SEALIFT_ASSIGN_OR_RETURN(vm, store_.GetVm(vm.name));
  SEALIFT_RETURN_IF_ERROR(PushVm(agent, vm, modes));
  v1::AgentVmRequest request;
  request.set_name(vm.name);
  const absl::Status started = agent.Call(&AgentConnection::Stub::StartVm, request).status();
  if (started.ok()) {
    events_.Add("vm.started", "vm/" + vm.name, kControllerActor,
                fmt::format("on host {}, which was rebooted", vm.host));
  } else {
    events_.AddWarning("vm.autostart_failed", "vm/" + vm.name, kControllerActor,
                       base::MessageOf(started));
  }
  return absl::OkStatus();
}

}  // namespace sealift::controller
