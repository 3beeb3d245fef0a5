// Tells agents what the store says about the VMs they own.
#pragma once

#include <mutex>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "controller/agent_connection.h"
#include "controller/host_link.h"
#include "controller/mode_policy.h"
#include "store/store.h"

namespace sealift::controller {

// PushVm hands a VM's definition, epoch and the mode in force to the agent of its owner.
[[nodiscard]] absl::Status PushVm(AgentConnection& agent, const store::VmRow& vm,
                                  const ModePolicy& modes);

// ModeIsPending says that a report, if there is one, does not show the mode of the store yet.
[[nodiscard]] bool ModeIsPending(const store::VmRow& vm, const v1::AgentVm* reported);

// VmSync compares an agent's report with the store whenever the agent comes (back) into contact,
// and pushes what differs. A VM that is being migrated is left alone until that has ended.
// Thread-safe; the store outlives it.
class VmSync {
 public:
  explicit VmSync(store::Store& store) : store_(store) {}

  // OnReport is an observer of the agent directory.
  void OnReport(AgentConnection& agent, const v1::AgentStatus& status, Contact contact);
  // CompareAgain makes the next report of a host be compared, after a push to it has failed.
  void CompareAgain(const std::string& host);

 private:
  [[nodiscard]] absl::Status Reconcile(AgentConnection& agent, const v1::AgentStatus& status);

  store::Store& store_;
  std::mutex mutex_;
  std::set<std::string> to_compare_;  // hosts; guarded by mutex_
};

}  // namespace sealift::controller
