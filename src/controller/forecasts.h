// What would happen if VMs moved now.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "controller/agents.h"
#include "controller/mode_policy.h"
#include "controller/planner.h"
#include "hypervisor/vm_definition.h"
#include "sealift/v1/controller.pb.h"
#include "store/store.h"

namespace sealift::controller {

// MakeQuestion gathers what the planner asks of a VM and two hosts. `definition` is the VM's.
[[nodiscard]] absl::StatusOr<MigrationQuestion> MakeQuestion(
    const store::VmRow& vm, const hypervisor::VmDefinition& definition, const ModePolicy& modes,
    const HostFacts& source, const HostFacts& destination);

// Forecasts looks at all hosts of one moment, from the last reports of their agents. A value.
class Forecasts {
 public:
  [[nodiscard]] static absl::StatusOr<Forecasts> Make(store::Store& store, AgentDirectory& agents);

  // Of gives one forecast for each host but the VM's own.
  [[nodiscard]] absl::StatusOr<std::vector<v1::MoveForecast>> Of(const store::VmRow& vm) const;
  // Drain says where each VM of a host may go: where it travels encrypted before where it does not,
  // then where the most memory is left. A VM that does not run stays.
  [[nodiscard]] absl::StatusOr<std::vector<v1::DrainStep>> Drain(const std::string& host) const;

  [[nodiscard]] const std::vector<store::VmRow>& vms() const { return vms_; }
  [[nodiscard]] const ModePolicy& modes() const { return modes_; }

 private:
  explicit Forecasts(ModePolicy modes) : modes_(std::move(modes)) {}
  [[nodiscard]] absl::StatusOr<v1::DrainStep> Place(const store::VmRow& vm,
                                                    std::map<std::string, HostFacts>& hosts) const;

  ModePolicy modes_;
  std::map<std::string, HostFacts> hosts_;
  std::map<std::string, v1::VmState> states_;  // of the VMs that their hosts report
  std::vector<store::VmRow> vms_;
};

}  // namespace sealift::controller
