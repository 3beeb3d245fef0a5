// What operators do with VMs.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "controller/agents.h"
#include "controller/event_log.h"
#include "controller/vm_claims.h"
#include "controller/vm_owners.h"
#include "controller/vm_sync.h"
#include "hypervisor/vm_definition.h"
#include "keys/random.h"
#include "policy/encryption.h"
#include "sealift/v1/controller.pb.h"
#include "store/store.h"

namespace sealift::controller {

// AfterCreation says whether a new VM is started.
enum class AfterCreation { kLeaveStopped, kStart };
// StopManner says how a guest is ended.
enum class StopManner { kPowerButton, kForce };
// Whereabouts says what a user knows of a VM that no host was found to have since a restore.
enum class Whereabouts { kUnknown, kRunsNowhere };

// VmOperations is thread-safe; everything handed in outlives it. One operation at a time on each
// VM; a VM that is being migrated is refused. `actor` is who asked, for the event log. What was
// done already is not done again, and answered as if it were done now: a repeated call is harmless.
// Errors:
// NOT_FOUND for an unknown VM or host, FAILED_PRECONDITION, INVALID_ARGUMENT and ALREADY_EXISTS
// with cause and remedy, UNAVAILABLE when the agent does not answer.
class VmOperations {
 public:
  VmOperations(store::Store& store, AgentDirectory& agents, VmClaims& claims, VmOwners& owners,
               EventLog& events, keys::RandomSource& random, const base::Clock& clock);

  // Create reads a definition and makes the VM on `host` (empty: on the only host that is ready).
  [[nodiscard]] absl::StatusOr<v1::Vm> Create(const std::string& definition_yaml,
                                              const std::string& host, AfterCreation after,
                                              const std::string& actor);
  // Start boots a VM on its host, or, if that is confirmed dead, on `host`, which becomes its
  // owner. What starts after a crash starts under a new epoch. After a restore nothing starts
  // before every host has been heard, and what no host has only on the word of a user.
  [[nodiscard]] absl::StatusOr<v1::Vm> Start(const std::string& name, const std::string& host,
                                             Whereabouts whereabouts, const std::string& actor);
  // Stop waits up to `timeout` for a guest whose power button was pressed: DEADLINE_EXCEEDED when
  // it goes on running.
  [[nodiscard]] absl::StatusOr<v1::Vm> Stop(const std::string& name, StopManner manner,
                                            std::chrono::seconds timeout, const std::string& actor);
  // Delete forgets a stopped VM. Its disks stay.
  [[nodiscard]] absl::Status Delete(const std::string& name, const std::string& actor);

  // Get also says how a move to each other host would go now.
  [[nodiscard]] absl::StatusOr<v1::Vm> Get(const std::string& name);
  // List gives all VMs, or those of one host, or those a selector of labels chooses.
  [[nodiscard]] absl::StatusOr<std::vector<v1::Vm>> List(const std::string& host,
                                                         const std::string& selector);

 private:
  // FindCreated is the VM that an earlier call with the same definition and host has made, if any.
  [[nodiscard]] absl::StatusOr<std::optional<store::VmRow>> FindCreated(
      hypervisor::VmDefinition definition, const std::string& host);
  [[nodiscard]] absl::StatusOr<store::VmRow> NewRow(hypervisor::VmDefinition definition,
                                                    const std::string& host);
  // The mode of a VM to be made: as it says, else the default. FAILED_PRECONDITION below a floor.
  [[nodiscard]] absl::StatusOr<std::string> NewMode(const hypervisor::VmDefinition& definition,
                                                    const std::string& host);
  [[nodiscard]] absl::Status CheckUnique(const hypervisor::VmDefinition& definition);
  [[nodiscard]] absl::StatusOr<std::string> ChooseHost(const std::string& asked);
  // Place makes the VM in the store, which completes `row`, and at its host.
  [[nodiscard]] absl::Status Place(store::VmRow& row);
  // StateAtHost asks the VM's host; UNKNOWN when it does not answer or does not know the VM.
  [[nodiscard]] v1::VmState StateAtHost(const store::VmRow& row);
  [[nodiscard]] absl::Status StartAt(const store::VmRow& row, const std::string& actor);
  // Prepare gives the VM to `host`, where it is to start, as far as that is allowed.
  [[nodiscard]] absl::Status Prepare(store::VmRow& row, const std::string& host,
                                     Whereabouts whereabouts, const std::string& actor);
  // Checks that a VM may start on another host than the one that owns it.
  [[nodiscard]] absl::Status CheckTakeOver(const store::VmRow& row);
  [[nodiscard]] absl::Status CheckFits(const store::VmRow& row, const std::string& host);
  // Renew makes `host` the owner under a new epoch.
  [[nodiscard]] absl::Status Renew(store::VmRow& row, const std::string& host);
  [[nodiscard]] absl::Status CheckStopped(const store::VmRow& row);
  // FindIdle is FindVm, refused while the VM is being migrated.
  [[nodiscard]] absl::StatusOr<store::VmRow> FindIdle(const std::string& name);
  [[nodiscard]] absl::StatusOr<v1::Vm> Describe(const store::VmRow& row);
  [[nodiscard]] absl::StatusOr<v1::Vm> Describe(const store::VmRow& row, const ModePolicy& modes,
                                                const HostView& view);

  store::Store& store_;
  AgentDirectory& agents_;
  VmClaims& claims_;
  VmOwners& owners_;
  EventLog& events_;
  keys::RandomSource& random_;
  const base::Clock& clock_;
};

}  // namespace sealift::controller
