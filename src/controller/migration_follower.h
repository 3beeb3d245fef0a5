// What becomes of a migration once the source agent may have been told to start it: it decides, and
// the controller follows what it reports, however long it takes to answer, and never guesses where
// the VM runs.
//
// Neither host is believed about the other. That the source has committed is for the source to say,
// or for a destination that shows the receipt which only the source can have given it. That the
// guest has arrived is for the destination to say. When the source cannot tell the destination of
// its commit, the controller does (TellDecision). Where the two contradict each other, an event
// says so and the VM is left alone until a person has ruled one of them out.
#pragma once

#include <atomic>
#include <optional>
#include <set>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "controller/agents.h"
#include "controller/event_log.h"
#include "controller/migration_queue.h"
#include "controller/migration_record.h"
#include "controller/vm_sync.h"
#include "keys/random.h"
#include "store/store.h"

namespace sealift::controller {

// MigrationParts is what every migration works with. All of it outlives the tasks.
struct MigrationParts {
  store::Store& store;
  AgentDirectory& agents;
  EventLog& events;
  keys::RandomSource& random;
  const base::Clock& clock;
  std::string trust_domain;
  MigrationQueue& queue;
  VmSync& sync;
};

// MigrationRoute is what does not change of a migration.
struct MigrationRoute {
  std::string source;  // host
  std::string destination;
  std::string wire_id;  // by which the agents know it
  std::string receipt;  // for the source alone
};

// CancelAt asks an agent to cancel a migration, and returns what that makes of it.
[[nodiscard]] absl::StatusOr<v1::AgentMigration> CancelAt(AgentConnection& agent,
                                                          const std::string& wire_id);

// CleanUpMigration makes one agent drop what it holds of a migration that has ended in the store as
// `end`: cancelled there unless it completed, then forgotten. An agent that is not done yet is
// asked again with its next report.
void CleanUpMigration(AgentConnection& agent, const std::string& wire_id, v1::MigrationPhase end);

// MigrationFollower: one thread calls Follow or Abort; GiveUp is for any thread.
class MigrationFollower {
 public:
  // All of it outlives the follower. `vm` is the VM with its epoch from before the move.
  MigrationFollower(const MigrationParts& parts, const MigrationRoute& route,
                    MigrationRecord& record, const store::VmRow& vm);

  // Follow returns when the migration has ended, or soon after a stop was requested. `started` is
  // OK if the source is known to have been told to start, else why it may not have been.
  void Follow(const std::stop_token& stop, const absl::Status& started);

  // Abort ends a migration that was not delegated: there is nobody to ask, the guest has not been
  // touched. It tries until that is in the store, or a stop is requested.
  void Abort(const absl::Status& cause, const std::stop_token& stop);

  // GiveUp has a migration end of which the source has no record, without it.
  void GiveUp() { given_up_ = true; }

 private:
  [[nodiscard]] absl::Status WatchSource();
  void Judge(const absl::Status& watched);
  void EndAtDestination();
  void HandleSilence(const absl::Status& cause);
  void EndWithoutSource(v1::MigrationPhase phase, const std::string& why);
  // A host that nobody needs to wait for.
  [[nodiscard]] bool IsDead(const std::string& host);
  [[nodiscard]] bool IsOrphan(const v1::AgentMigration& source) const;
  void EndWithDestination();
  void CancelAtSource(const std::string& why);
  void HandleForgotten();
  // IsFromBackup says that it began before the backup was made from which the store was restored.
  [[nodiscard]] bool IsFromBackup();
  [[nodiscard]] bool EndIfLongOver();
  void AskDestination();
  void HelpDestination();
  void Obey(const v1::AgentMigration& destination);
  [[nodiscard]] bool HasArrived();
  void HandleDenial();
  void DisputeCommit();
  // Shows that the hosts contradict each other; an event, once for each of the ways.
  void Dispute(const std::string& how);

  void Complete();
  // What becomes of the epoch that the destination was promised: it may have taken the guest
  // under it unheard.
  enum class Promise { kUnused, kVoid };
  void EndAtSource(v1::MigrationPhase phase, const std::string& detail,
                   Promise promise = Promise::kUnused);
  void CleanUp(v1::MigrationPhase end);

  const MigrationParts& parts_;
  const MigrationRoute& route_;
  MigrationRecord& record_;
  const store::VmRow& vm_;

  std::atomic<bool> given_up_ = false;

  absl::Status started_;
  std::optional<v1::AgentMigration> heard_;  // the last view of the source in the present watch
  std::optional<base::Duration> committed_since_;
  std::string failure_;  // why we had the source cancel it
  std::set<std::string> disputes_;
};

}  // namespace sealift::controller
