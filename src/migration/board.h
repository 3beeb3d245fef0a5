// The notice board of one migration on one host: its state machine posts, watchers look and wait,
// and requests from outside wait there for the state machine.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>

#include "absl/status/status.h"
#include "base/clock.h"
#include "migration/phase.h"

namespace sealift::migration {

// Decision of a migration.
enum class Decision { kCommit, kAbort };

// Board is thread-safe.
class Board {
 public:
  explicit Board(const base::Clock& clock);

  // -- For the state machine.

  // Post changes the snapshot under the lock and wakes all who wait.
  void Post(const std::function<void(Snapshot&)>& change);
  // cancel is requested once a cancel was: whoever waits with it is woken then.
  [[nodiscard]] std::stop_token cancel() const { return cancel_.get_token(); }
  // CloseCancellation is called before a step that only a decision may undo: CANCELLED when a
  // cancel came before, and every one that comes later is refused.
  [[nodiscard]] absl::Status CloseCancellation();
  // WaitForDecision returns what somebody told, or nothing after `timeout`.
  [[nodiscard]] std::optional<Decision> WaitForDecision(base::Duration timeout);

  // -- For watchers.

  [[nodiscard]] Snapshot Look() const;
  // WaitForChange blocks until something was posted after `version`, or `timeout` has passed;
  // returns the version now.
  [[nodiscard]] std::uint64_t WaitForChange(std::uint64_t version, base::Duration timeout) const;

  // RequestCancel asks the state machine to abort. FAILED_PRECONDITION when it is too late.
  [[nodiscard]] absl::Status RequestCancel();
  // Tell hands over a decision learned elsewhere: to a destination, the source's; to a committed
  // source, that the destination has resumed. The first one counts.
  void Tell(Decision decision);

 private:
  const base::Clock& clock_;
  const base::Duration started_;
  std::stop_source cancel_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  // Guarded by mutex_:
  Snapshot snapshot_;
  std::uint64_t version_ = 0;
  bool cancellation_closed_ = false;
  std::optional<Decision> told_;
  base::Duration measured_at_;
  std::uint64_t measured_wire_bytes_ = 0;
};

}  // namespace sealift::migration
