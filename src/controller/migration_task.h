// One migration, from its plan to its end.
//
//   preparing ──▶ copying ──▶ switching ──▶ committed ──▶ completed
//       │            │            │
//       └────────────┴────────────┴──▶ failed, cancelled
//
// preparing   The controller decides: whether it is encrypted, when its turn has come; movers are
//             set up, the key is made, sealed to both and wiped. Any error aborts.
// copying     Written durably before the source is told to start. From here on the source agent
//             decides: MigrationFollower.
// committed   Irrevocable.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "controller/migration_follower.h"
#include "controller/migration_queue.h"
#include "controller/migration_record.h"
#include "store/store.h"

namespace sealift::controller {

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
  [[nodiscard]] absl::Status TooLate();

  const MigrationParts& parts_;
  const MigrationRoute route_;
  MigrationRecord record_;
  store::VmRow vm_;  // as it was when the migration began; of the task's thread only
  MigrationFollower follower_;
  std::unique_ptr<MigrationQueue::Turn> turn_;  // until the migration has ended
};

}  // namespace sealift::controller
