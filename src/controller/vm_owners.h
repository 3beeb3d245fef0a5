// Who has which VM: what the agents hold, compared with what the store says.
//
// Agents never hold an epoch that the store has not given out, so what they hold is either what the
// store says, or older: a copy on a host that was taken for dead, which is ended. It is newer only
// when the store is an old copy of itself, or when a host lies. Which of the two it is nobody can
// tell from what that host says, so it is for an administrator to say, by `sealift-controllerd
// restore`. Who decides:
//
// - never restored         Nobody but a host that was confirmed dead is told to end anything, and
//                          no host gets a VM by what it reports: OwnershipWatch tells a person.
// - restored, not settled  VmOwners: the agents are right. VMs have moved, were made, deleted and
//                          started elsewhere since, so nothing starts until every host has been
//                          heard, or is confirmed dead.
// - settled since          VmOwners, of what is older than the store, of VMs that no host was found
//                          to have, and of those that the store does not know. What is newer than
//                          the store: OwnershipWatch.
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
  // Adopt takes over what the host has of a VM.
  [[nodiscard]] absl::Status Adopt(AgentConnection& agent, const store::VmRow& row,
                                   const v1::AgentVm& reported);
  // GiveUp ends what the host has under an epoch below the one that is `owned`.
  [[nodiscard]] absl::Status GiveUp(AgentConnection& agent, const v1::AgentVm& reported,
                                    std::uint64_t owned, const std::string& why);
  void WarnOnce(const std::string& host, const v1::AgentVm& reported, std::uint64_t owned,
                const std::string& why);
  // IsAsStored says that there is nothing to judge here.
  [[nodiscard]] absl::StatusOr<bool> IsAsStored(const std::string& host,
                                                const v1::AgentVm& reported);
  [[nodiscard]] absl::StatusOr<bool> IsUnknownAsStored(const v1::AgentVm& reported);
  [[nodiscard]] absl::Status CheckMigrations(const std::string& host,
                                             const v1::AgentStatus& status);

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
  std::set<std::string> told_;                    // stale copies; guarded by mutex_
};

}  // namespace sealift::controller
