// Changing modes, labels and flags of many VMs in one call.
#pragma once

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
  [[nodiscard]] absl::Status Write(const Batch& batch, const std::string& actor);
  // TellAgent does not wait for the next report, and says whether the agent has heard.
  [[nodiscard]] bool TellAgent(const std::string& vm, const ModePolicy& modes);

  store::Store& store_;
  AgentDirectory& agents_;
  VmSync& sync_;
  EventLog& events_;
};

}  // namespace sealift::controller
