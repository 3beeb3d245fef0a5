// Who has which VM: what the agents hold, compared with what the store says.
//
// Agents never hold an epoch that the store has not given out, so what they hold is either what the
// store says, or older: a copy on a host that was taken for dead, which is ended. It is newer only
// when the store is an old copy of itself, restored from a backup. Then the agents are right. VMs
// have moved, were made, deleted and started elsewhere since, so nothing starts until every host
// has been heard, or is confirmed dead.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "controller/agents.h"
#include "controller/event_log.h"
#include "controller/host_rows.h"
#include "controller/vm_claims.h"
#include "store/store.h"

namespace sealift::controller {

// VmOwners is thread-safe; everything handed in outlives it.
class VmOwners {
 public:
  // Changed is called with a host whose VMs the store says something new of.
  using Changed = std::function<void(const std::string& host)>;

  VmOwners(store::Store& store, HostRows& rows, AgentDirectory& agents, VmClaims& claims,
           EventLog& events, const base::Clock& clock, Changed changed);

  // OnReport is an observer of the agent directory. It is OK when every VM that the host has is
  // where the store says, by now; else the next report is another try.
  [[nodiscard]] absl::Status OnReport(AgentConnection& agent, const v1::AgentStatus& status);

  // CheckSettled is FAILED_PRECONDITION, with the remedy, while a host has not been heard since a
  // restore: it may have any VM.
  [[nodiscard]] absl::Status CheckSettled();
  // CheckNowhereElse is FAILED_PRECONDITION when another host than `host` says that it runs the VM.
  [[nodiscard]] absl::Status CheckNowhereElse(const std::string& vm, const std::string& host);

 private:
  [[nodiscard]] absl::Status Compare(AgentConnection& agent, const v1::AgentStatus& status,
                                     const v1::AgentVm& reported);
  // Judge needs a claim to the VM, and a report from after it.
  [[nodiscard]] absl::Status Judge(AgentConnection& agent, const v1::AgentVm& reported);
  [[nodiscard]] absl::Status JudgeUnknown(AgentConnection& agent, const v1::AgentVm& reported);
  [[nodiscard]] absl::Status JudgeNewer(AgentConnection& agent, const store::VmRow& row,
                                        const v1::AgentVm& reported);
  // Adopt takes over what the host has of a VM.
  [[nodiscard]] absl::Status Adopt(AgentConnection& agent, const store::VmRow& row,
                                   const v1::AgentVm& reported);
  [[nodiscard]] absl::Status GiveUp(AgentConnection& agent, const v1::AgentVm& reported,
                                    const std::string& why);
  // IsAsStored says that there is nothing to judge.
  [[nodiscard]] absl::StatusOr<bool> IsAsStored(const std::string& host,
                                                const v1::AgentVm& reported);
  [[nodiscard]] absl::Status CheckMigrations(const std::string& host,
                                             const v1::AgentStatus& status);
  void WarnOnce(const std::string& host, const v1::AgentVm& reported, const store::VmRow& row,
                const std::string& text);

  // Hear notes that everything a host has is known; Settle ends the wait when it was the last.
  [[nodiscard]] absl::Status Hear(const std::string& host);
  [[nodiscard]] absl::Status Settle(const std::vector<store::HostRow>& hosts);
  void Report(const std::string& host, const absl::Status& status);

  store::Store& store_;
  HostRows& rows_;
  AgentDirectory& agents_;
  VmClaims& claims_;
  EventLog& events_;
  const base::Clock& clock_;
  const Changed changed_;

  std::mutex settling_;  // held from looking at the hosts to what follows from it
  std::mutex mutex_;
  std::map<std::string, std::string> undecided_;  // why, by host; guarded by mutex_
  std::set<std::string> told_;                    // warnings; guarded by mutex_
};

}  // namespace sealift::controller
