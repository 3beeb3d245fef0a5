// One migration, from its plan to its end.
//
//   preparing ──▶ copying ──▶ switching ──▶ committed ──▶ completed
//       │            │            │
//       └────────────┴────────────┴──▶ failed, cancelled
//
// preparing   The controller decides: whether it is encrypted, when its turn has come; movers are
//             set up, the key is made, sealed to both and wiped. Any error aborts.
// copying     Written durably before the source is told to start. From here on the source agent
//             decides, and the controller follows what it reports, however long it takes to answer:
//             it never guesses where the VM runs.
// committed   Irrevocable. When the source cannot tell the destination, the controller does
// (TellDecision).
//
// Neither host is believed about the other. That the source has committed is for the source to say,
// or for a destination that shows the receipt which only the source can have given it. That the
// guest has arrived is for the destination to say. Where the two contradict each other, an event
// says so and the VM is left alone until a person has ruled one of them out.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
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

// CleanUpMigration makes one agent drop what it holds of a migration that has ended in the store as
// `end`: cancelled there unless it completed, then forgotten. An agent that is not done yet is
// asked again with its next report.
void CleanUpMigration(AgentConnection& agent, const std::string& wire_id, v1::MigrationPhase end);

// MigrationTask: one thread calls Run; Cancel and the record's methods are for any thread.
class MigrationTask {
 public:
  // `row` is in the store already; `vm` is the VM that it moves, with its epoch from before the
  // move. It takes its place in the queue here: tasks are made in the order in which they came.
  MigrationTask(const MigrationParts& parts, store::MigrationRow row, store::VmRow vm,
                std::string wire_id);

  // Entry: planned just now, or left by an earlier controller, queued or begun.
  enum class Entry { kPlanned, kQueued, kBegun };
  // Run carries the migration out when its turn comes. A plan holds if that is at once, else it is
  // decided again. It returns when the migration has ended, or soon after a stop was requested:
  // then that goes on at the agents, and here when it is taken up again.
  void Run(Entry entry, const std::stop_token& stop);

  // Cancel asks for the end of the migration; OK means that it was asked in time, not that it has
  // ended. FAILED_PRECONDITION, saying where the VM runs, when it is too late. UNAVAILABLE when the
  // source does not answer. Where the source has lost its record, the guest is given up.
  [[nodiscard]] absl::Status Cancel();

  [[nodiscard]] MigrationRecord& record() { return record_; }

 private:
  // Started says whether the source is known to have been told to start.
  enum class Started { kUnknown, kYes };

  void TakeUp(const std::stop_token& stop);
  // Whether it had to wait.
  [[nodiscard]] absl::StatusOr<bool> AwaitTurn(const std::stop_token& stop);
  [[nodiscard]] absl::Status DecideAgain();
  // From its turn to the agents.
  [[nodiscard]] absl::Status Begin(bool decide_again);
  void LeaveQueue();
  [[nodiscard]] absl::Status Start();
  [[nodiscard]] absl::Status CheckModeUnchanged();
  [[nodiscard]] absl::Status TellStart(const std::string& host, const std::string& sealed_key,
                                       const std::vector<std::string>& data_addresses);
  void Follow(const std::stop_token& stop);
  [[nodiscard]] absl::Status WatchSource();
  void Judge(const absl::Status& watched);
  void EndAtDestination();
  void HandleSilence(const absl::Status& cause);
  void EndWithoutSource(v1::MigrationPhase phase, const std::string& why);
  // A host that nobody needs to wait for.
  [[nodiscard]] bool IsDead(const std::string& host);
  [[nodiscard]] bool IsOrphan(const v1::AgentMigration& source) const;
  void CancelOrphan();
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
  void EndAtSource(v1::MigrationPhase phase, const std::string& detail);
  void Abort(const absl::Status& cause, const std::stop_token& stop);
  void CleanUp(v1::MigrationPhase end);
  [[nodiscard]] absl::Status TooLate();

  const MigrationParts& parts_;
  const std::string source_;
  const std::string destination_;
  const std::string wire_id_;
  const std::string receipt_;
  MigrationRecord record_;

  std::atomic<bool> given_up_ = false;  // by a user, when the source had no record of it

  // Of the task's thread only.
  store::VmRow vm_;                             // as it was when the migration began
  std::unique_ptr<MigrationQueue::Turn> turn_;  // until the migration has ended
  Started started_ = Started::kUnknown;
  std::optional<v1::AgentMigration> heard_;  // the last view of the source in the present watch
  std::optional<base::Duration> committed_since_;
  std::string start_error_;  // why it may not have been told to
  std::string failure_;      // why we had the source cancel it
  std::set<std::string> disputes_;
};

}  // namespace sealift::controller
