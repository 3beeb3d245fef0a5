// Tells agents what the store says about the VMs they own.
#pragma once

#include <mutex>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "controller/agent_connection.h"
#include "controller/event_log.h"
#include "controller/host_link.h"
#include "controller/mode_policy.h"
#include "controller/vm_owners.h"
#include "store/store.h"

namespace sealift::controller {

// PushVm hands a VM's definition, epoch and the mode in force to the agent of its owner.
// FAILED_PRECONDITION when that is not known for certain since a restore.
[[nodiscard]] absl::Status PushVm(AgentConnection& agent, const store::VmRow& vm,
                                  const ModePolicy& modes);

// ModeIsPending says that a report, if there is one, does not show the mode of the store yet.
[[nodiscard]] bool ModeIsPending(const store::VmRow& vm, const v1::AgentVm* reported);

// VmSync compares an agent's report with the store whenever the agent comes (back) into contact,
// and pushes what differs. It also starts what is to start after a reboot of its host: nobody but
// the controller knows whether the VM is still that host's. A VM that is being migrated is left
// alone until that has ended, and so is one of which a restored store does not know who has it.
// Thread-safe; what is handed in outlives it.
class VmSync {
 public:
  VmSync(store::Store& store, VmOwners& owners, EventLog& events)
      : store_(store), owners_(owners), events_(events) {}

  // OnReport is an observer of the agent directory.
  void OnReport(AgentConnection& agent, const v1::AgentStatus& status, Contact contact);
  // CompareAgain makes the next report of a host be compared, after a push to it has failed.
  void CompareAgain(const std::string& host);

 private:
  [[nodiscard]] absl::Status Reconcile(AgentConnection& agent, const v1::AgentStatus& status);

  // Autostart starts a VM whose host was rebooted and asks for it, under a new epoch.
  [[nodiscard]] absl::Status Autostart(AgentConnection& agent, store::VmRow vm,
                                       const ModePolicy& modes);

  store::Store& store_;
  VmOwners& owners_;
  EventLog& events_;
  std::mutex mutex_;
  std::set<std::string> to_compare_;  // hosts; guarded by mutex_
};

}  // namespace sealift::controller
