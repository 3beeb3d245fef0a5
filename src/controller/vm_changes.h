// Changing modes, labels and flags of many VMs in one call.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "controller/agents.h"
#include "controller/event_log.h"
#include "controller/mode_policy.h"
#include "controller/vm_sync.h"
#include "sealift/v1/controller.pb.h"
#include "store/store.h"

namespace sealift::controller {

// VmChanges is thread-safe; everything handed in outlives it. What is changed is durable at once
// and told to the agents soon; until an agent has heard, the VM is shown as pending and does not
// migrate.
class VmChanges {
 public:
  VmChanges(store::Store& store, AgentDirectory& agents, VmSync& sync, EventLog& events)
      : store_(store), agents_(agents), sync_(sync), events_(events) {}

  // Apply gives one result per VM. INVALID_ARGUMENT for a request that does not say which VMs or
  // what is to be changed; `actor` is who asked, for the event log.
  [[nodiscard]] absl::StatusOr<v1::SetVmsResponse> Apply(const v1::SetVmsRequest& request,
                                                         const std::string& actor);

 private:
  struct Batch;
  // Judge gives one result per VM, and what there is to write. Needs mutex_, as does Write.
  [[nodiscard]] absl::StatusOr<Batch> Judge(const v1::SetVmsRequest& request,
                                            const ModePolicy& modes, v1::SetVmsResponse& response);
  [[nodiscard]] absl::Status Write(const Batch& batch, const std::string& actor);
  // TellAgent does not wait for the next report, and says whether the agent has heard. Of a VM that
  // is moving nobody is told before it is there: the source would take a VM that has left for new.
  [[nodiscard]] bool TellAgent(const std::string& vm, const ModePolicy& modes);

  store::Store& store_;
  AgentDirectory& agents_;
  VmSync& sync_;
  EventLog& events_;
  std::mutex mutex_;  // held from reading rows to writing them
};

}  // namespace sealift::controller
