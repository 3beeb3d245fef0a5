#include "controller/vm_sync.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/status.h"
#include "controller/convert.h"

namespace sealift::controller {
namespace {

bool Differs(const store::VmRow& vm, const v1::AgentVm* reported) {
  if (reported == nullptr || reported->epoch() < vm.epoch) return true;
  const auto mode = policy::ParseMode(vm.encryption);
  return mode && reported->encryption() != ToProto(*mode);
}

}  // namespace

absl::Status PushVm(AgentConnection& agent, const store::VmRow& vm) {
  SEALIFT_ASSIGN_OR_RETURN(const policy::EncryptionMode mode, StoredMode(vm.encryption));
  v1::PutVmRequest request;
  request.set_definition_yaml(vm.definition);
  request.set_epoch(vm.epoch);
  request.set_encryption(ToProto(mode));
  request.set_policy_version(vm.policy_version);
  return agent.Call(&AgentConnection::Stub::PutVm, request).status();
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
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::VmRow> vms, store_.ListVms());
  absl::Status outcome;
  for (const store::VmRow& vm : vms) {
    if (vm.host != agent.host() || !Differs(vm, FindAgentVm(status, vm.name))) continue;
    SEALIFT_ASSIGN_OR_RETURN(const auto migration, store_.FindRunningMigration(vm.name));
    if (migration) {
      CompareAgain(agent.host());
      continue;
    }
    outcome.Update(base::Annotate(PushVm(agent, vm), fmt::format("VM {}", vm.name)));
  }
  return outcome;
}

}  // namespace sealift::controller
