// All migrations: starting them, following them, taking them up again.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "controller/host_link.h"
#include "controller/migration_task.h"
#include "controller/mode_policy.h"
#include "controller/planner.h"
#include "controller/vm_claims.h"
#include "controller/vm_owners.h"
#include "policy/rights.h"
#include "store/store.h"

namespace sealift::controller {

// MigrationRequest is what a user asked for.
struct MigrationRequest {
  std::string vm;
  std::string to;
  std::uint32_t streams = 0;  // 0: the default
  v1::Engine engine = v1::ENGINE_UNSPECIFIED;
  v1::NoConvergence on_no_convergence = v1::NO_CONVERGENCE_UNSPECIFIED;
  std::string request_id;    // empty: none
  std::string requested_by;  // identity
  policy::Rights rights;     // of whoever asks
};

// MigrationRunner runs one thread per migration. Thread-safe; everything handed in outlives it.
class MigrationRunner {
 public:
  MigrationRunner(MigrationParts parts, VmClaims& claims, VmOwners& owners);
  ~MigrationRunner() { Stop(); }

  // Resume takes up every migration that has not ended in the store. Once, before the first Start.
  [[nodiscard]] absl::Status Resume();
  // RequestStop tells the threads to end; they do once their calls to agents are cancelled too.
  // Stop also waits for them. The migrations go on at the agents.
  void RequestStop();
  void Stop();

  // Start checks, records and begins a migration. A request id seen before gives the migration it
  // began. Refusals are those of PlanMigration and of the destination's agent, NOT_FOUND for an
  // unknown VM or host, PERMISSION_DENIED for an encrypted VM without the right to it; nothing
  // has been touched then.
  [[nodiscard]] absl::StatusOr<MigrationView> Start(const MigrationRequest& request);
  [[nodiscard]] absl::StatusOr<MigrationView> Get(const std::string& id);
  [[nodiscard]] absl::StatusOr<std::vector<MigrationView>> List(
      const store::MigrationFilter& filter);
  // WaitForChange returns once the view has another version than `seen`, the migration has ended,
  // `timeout` has passed or a stop was requested.
  [[nodiscard]] absl::StatusOr<MigrationView> WaitForChange(const std::string& id,
                                                            std::uint64_t seen,
                                                            std::chrono::milliseconds timeout,
                                                            std::stop_token stop);
  // Cancel: see MigrationTask::Cancel. `actor` is recorded.
  [[nodiscard]] absl::Status Cancel(const std::string& id, const std::string& actor);

  // OnReport is an observer of the agent directory: it removes what an agent still holds of
  // migrations that have ended, and sees to those that a restored store does not know.
  void OnReport(AgentConnection& agent, const v1::AgentStatus& status);

 private:
  struct Planned {
    store::VmRow vm;
    policy::EncryptionMode mode;  // in force
    MigrationPlan plan;
  };
  [[nodiscard]] absl::StatusOr<std::optional<MigrationView>> FindRepeated(
      const MigrationRequest& request);
  [[nodiscard]] absl::StatusOr<Planned> Plan(const MigrationRequest& request);
  [[nodiscard]] absl::StatusOr<MigrationQuestion> Ask(const MigrationRequest& request,
                                                      const store::VmRow& vm);
  // TellMode makes sure that the source has the mode of the store before anything else is done.
  [[nodiscard]] absl::Status TellMode(const store::VmRow& vm, const HostView& source,
                                      const ModePolicy& modes);
  [[nodiscard]] absl::StatusOr<store::MigrationRow> Record(const MigrationRequest& request,
                                                           const Planned& planned);
  void Announce(const store::MigrationRow& row);

  enum class Entry { kNew, kResumed };
  [[nodiscard]] absl::StatusOr<std::shared_ptr<MigrationTask>> Launch(store::MigrationRow row,
                                                                      store::VmRow vm, Entry entry);
  std::shared_ptr<MigrationTask> Find(const std::string& id);

  const MigrationParts parts_;
  VmClaims& claims_;
  VmOwners& owners_;

  struct Running {
    std::shared_ptr<MigrationTask> task;
    std::shared_ptr<std::atomic<bool>> returned;  // the thread can be joined without waiting
    std::jthread thread;
  };
  std::mutex mutex_;
  std::map<std::string, Running>
      running_;  // by id, until the Launch after its end; guarded by mutex_
};

}  // namespace sealift::controller
