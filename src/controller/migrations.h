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
#include "controller/migration_planning.h"
#include "controller/migration_task.h"
#include "controller/requests.h"
#include "controller/vm_claims.h"
#include "controller/vm_owners.h"
#include "store/store.h"

namespace sealift::controller {

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
  // Cancel: see MigrationTask::Cancel. `actor` is recorded. OK for one that is cancelled already.
  [[nodiscard]] absl::Status Cancel(const std::string& id, const std::string& actor);

  // OnReport is an observer of the agent directory: it removes what an agent still holds of
  // migrations that have ended, and sees to those that the store does not know (SeeToStray).
  void OnReport(AgentConnection& agent, const v1::AgentStatus& status);

 private:
  [[nodiscard]] absl::StatusOr<std::optional<MigrationView>> FindRepeated(
      const MigrationRequest& request);
  [[nodiscard]] absl::StatusOr<PlannedMigration> Plan(const MigrationRequest& request);
  [[nodiscard]] absl::StatusOr<store::MigrationRow> Record(const MigrationRequest& request,
                                                           const PlannedMigration& planned);
  void Announce(const store::MigrationRow& row);
  // EndOf is how a migration that an agent still holds has ended, if it has. Of one that the store
  // does not know, in whatever state that is, SeeToStray decides.
  [[nodiscard]] std::optional<v1::MigrationPhase> EndOf(AgentConnection& agent,
                                                        const v1::AgentMigration& held);

  using Entry = MigrationTask::Entry;
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
