// What is known of one migration while it runs: its stored row, and the progress shown to users.
// The row is written when the phase changes, not with every number.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "controller/event_log.h"
#include "policy/encryption.h"
#include "sealift/v1/agent.pb.h"
#include "store/store.h"

namespace sealift::controller {

// MigrationView is a migration as users see it. A value.
struct MigrationView {
  store::MigrationRow row;
  v1::MigrationProgress progress;
  std::uint64_t version = 0;  // another after every change
  std::size_t behind = 0;     // it waits for so many others to end
};

// SetProtection writes a decision into a row; ProtectionOf says it: "in the clear", or "encrypted
// with" a cipher.
void SetProtection(policy::EncryptionMode mode, const policy::EncryptionDecision& decision,
                   store::MigrationRow& row);
[[nodiscard]] std::string ProtectionOf(const store::MigrationRow& row);
// WarnIfInTheClear adds an event about a migration that would be encrypted if both hosts could.
void WarnIfInTheClear(EventLog& events, const store::MigrationRow& row);

// MigrationRecord is thread-safe. Store and clock outlive it. Its phase never goes back.
class MigrationRecord {
 public:
  // `row` is in the store already.
  MigrationRecord(store::Store& store, const base::Clock& clock, store::MigrationRow row);

  [[nodiscard]] MigrationView View();
  // WaitForChange blocks until the view's version is not `seen`, `timeout` has passed or a stop was
  // requested.
  [[nodiscard]] MigrationView WaitForChange(std::uint64_t seen, std::chrono::milliseconds timeout,
                                            std::stop_token stop);
  [[nodiscard]] v1::MigrationPhase phase();
  [[nodiscard]] bool ended();

  // RequestCancel notes the wish of a user before the delegation and returns whether that was in
  // time.
  [[nodiscard]] bool RequestCancel();
  [[nodiscard]] bool cancel_requested();
  // ShowQueued shows for how many others the migration waits. Protect writes durably what was
  // decided again for one that has waited, LeaveQueue that it begins.
  void ShowQueued(std::size_t behind);
  [[nodiscard]] absl::Status Protect(policy::EncryptionMode mode,
                                     const policy::EncryptionDecision& decision);
  [[nodiscard]] absl::Status LeaveQueue();
  // Delegate writes durably that the source agent decides from now on. CANCELLED when a user wished
  // so before.
  [[nodiscard]] absl::Status Delegate();

  // Learn takes over what the source reports: its numbers, and its phase unless that is an end.
  void Learn(const v1::AgentMigration& source);
  // LearnCommit takes over that the destination owns the guest. An error: it is not on disk yet.
  [[nodiscard]] absl::Status LearnCommit();
  // Say shows what is being waited for.
  void Say(const std::string& detail);

  // Finish ends the migration as completed and moves the VM to the destination, in one transaction.
  // End ends it as failed or cancelled, Void does so when the destination may have the guest
  // nevertheless: the epoch that it was promised is void. On an error nothing has changed: try
  // again.
  [[nodiscard]] absl::Status Finish(std::uint64_t epoch_before);
  [[nodiscard]] absl::Status End(v1::MigrationPhase phase, const std::string& detail);
  [[nodiscard]] absl::Status Void(v1::MigrationPhase phase, const std::string& detail,
                                  std::uint64_t promised_epoch);

 private:
  // All need mutex_.
  [[nodiscard]] store::MigrationRow EndedRow(v1::MigrationPhase phase,
                                             const std::string& detail) const;
  void ShowEnd(store::MigrationRow row);
  void EnterPhase(store::MigrationRow& row, v1::MigrationPhase phase) const;
  void Show(store::MigrationRow row);
  void TryToStore();

  store::Store& store_;
  const base::Clock& clock_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  MigrationView view_;             // guarded by mutex_
  bool cancel_requested_ = false;  // guarded by mutex_
};

}  // namespace sealift::controller
