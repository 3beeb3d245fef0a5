// Hosts that are taken for dead, and what becomes of it when one comes back.
//
// A host that does not answer may still run its guests. It is taken for dead only on the word of an
// operator or of the fence command; from then on its VMs may start elsewhere, under a new epoch.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "controller/agents.h"
#include "controller/event_log.h"
#include "controller/host_rows.h"
#include "controller/settings.h"
#include "store/store.h"

namespace sealift::controller {

// HostDeaths is thread-safe; everything handed in outlives it.
class HostDeaths {
 public:
  HostDeaths(store::Store& store, HostRows& rows, AgentDirectory& agents, EventLog& events,
             const base::Clock& clock, Fencing fencing);

  // Confirm takes a host for dead. FAILED_PRECONDITION while its agent answers, and while anything
  // at its address still takes connections: a host that is only stuck may run its guests.
  [[nodiscard]] absl::Status Confirm(const std::string& host, const std::string& actor);
  // Fence runs the fence command, and takes the host for dead if it succeeds. FAILED_PRECONDITION
  // without a command; ABORTED with the end of its output when it fails.
  [[nodiscard]] absl::Status Fence(const std::string& host, const std::string& actor);

  // OnAnswer is told of every report before it is compared: a host that was taken for dead is alive
  // again, and what is still its own starts nowhere else. A report that was asked for before it was
  // taken for dead does not count.
  void OnAnswer(const std::string& host);
  // OnCompared is told what has come of comparing a report (VmOwners::OnReport). A host that was
  // taken for dead is written off until it has given up what is another's by now.
  void OnCompared(const std::string& host, const absl::Status& compared);

 private:
  [[nodiscard]] absl::Status Take(const std::string& host, const std::string& actor,
                                  const std::string& why);

  store::Store& store_;
  HostRows& rows_;
  AgentDirectory& agents_;
  EventLog& events_;
  const base::Clock& clock_;
  const Fencing fencing_;
};

}  // namespace sealift::controller
