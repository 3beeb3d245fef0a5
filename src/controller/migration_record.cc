#include "controller/migration_record.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/status.h"
#include "controller/convert.h"

namespace sealift::controller {
namespace {

constexpr char kCipher[] = "AES-256-GCM";

}  // namespace

void SetProtection(policy::EncryptionMode mode, const policy::EncryptionDecision& decision,
                   store::MigrationRow& row) {
  row.mode = policy::ModeName(mode);
  row.encrypted = decision.outcome == policy::Outcome::kEncrypted;
  row.decision_reason = decision.reason;
  row.cipher = row.encrypted ? kCipher : "";
}

std::string ProtectionOf(const store::MigrationRow& row) {
  return row.encrypted ? "encrypted with " + row.cipher : "in the clear";
}

void WarnIfInTheClear(EventLog& events, const store::MigrationRow& row) {
  if (row.encrypted || row.mode != policy::ModeName(policy::EncryptionMode::kOpportunistic)) return;
  events.AddWarning(
      "migration.in_the_clear", "migration/" + row.id, kControllerActor,
      fmt::format("VM {} crosses the network unencrypted: {}", row.vm, row.decision_reason));
}

MigrationRecord::MigrationRecord(store::Store& store, const base::Clock& clock,
                                 store::MigrationRow row)
    : store_(store), clock_(clock), view_{std::move(row), {}, 0} {
  view_.progress = ProgressOf(view_.row);
}

MigrationView MigrationRecord::View() {
  const std::lock_guard lock(mutex_);
  return view_;
}

MigrationView MigrationRecord::WaitForChange(std::uint64_t seen, std::chrono::milliseconds timeout,
                                             std::stop_token stop) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, stop, timeout, [&] { return view_.version != seen; });
  return view_;
}

v1::MigrationPhase MigrationRecord::phase() {
  const std::lock_guard lock(mutex_);
  return view_.progress.phase();
}

bool MigrationRecord::ended() { return HasEnded(phase()); }

bool MigrationRecord::RequestCancel() {
  const std::lock_guard lock(mutex_);
  if (view_.progress.phase() != v1::MIGRATION_PHASE_PREPARING) return false;
  cancel_requested_ = true;
  return true;
}

bool MigrationRecord::cancel_requested() {
  const std::lock_guard lock(mutex_);
  return cancel_requested_;
}

void MigrationRecord::ShowQueued(std::size_t behind) {
  const std::lock_guard lock(mutex_);
  view_.behind = behind;
  Show(view_.row);
}

absl::Status MigrationRecord::Protect(policy::EncryptionMode mode,
                                      const policy::EncryptionDecision& decision) {
  const std::lock_guard lock(mutex_);
  store::MigrationRow row = view_.row;
  SetProtection(mode, decision, row);
  SEALIFT_RETURN_IF_ERROR(store_.UpdateMigration(row));
  Show(std::move(row));
  return absl::OkStatus();
}

absl::Status MigrationRecord::LeaveQueue() {
  const std::lock_guard lock(mutex_);
  store::MigrationRow row = view_.row;
  row.queued = false;
  SEALIFT_RETURN_IF_ERROR(store_.UpdateMigration(row));
  view_.behind = 0;
  Show(std::move(row));
  return absl::OkStatus();
}

absl::Status MigrationRecord::Delegate() {
  const std::lock_guard lock(mutex_);
  if (cancel_requested_) return absl::CancelledError("cancelled by a user before it started");
  store::MigrationRow row = view_.row;
  EnterPhase(row, v1::MIGRATION_PHASE_COPYING);
  SEALIFT_RETURN_IF_ERROR(store_.UpdateMigration(row));
  Show(std::move(row));
  return absl::OkStatus();
}

void MigrationRecord::Learn(const v1::AgentMigration& source) {
  const std::lock_guard lock(mutex_);
  const v1::MigrationPhase before = view_.progress.phase();
  const v1::MigrationPhase reported = source.progress().phase();
  store::MigrationRow row = view_.row;
  row.aead_backend = source.aead_backend();
  row.ram_total_bytes = source.progress().ram_total_bytes();
  row.ram_transferred_bytes = source.progress().ram_transferred_bytes();
  row.wire_bytes = source.progress().wire_bytes();
  row.downtime_ms = source.progress().downtime_ms();
  row.detail = source.progress().detail();
  // A phase that only a later version knows says nothing here.
  const bool advances =
      v1::MigrationPhase_IsValid(reported) && reported > before && !HasEnded(reported);
  if (advances) EnterPhase(row, reported);
  view_.progress = source.progress();
  Show(std::move(row));
  if (advances) TryToStore();
}

absl::Status MigrationRecord::LearnCommit() {
  const std::lock_guard lock(mutex_);
  store::MigrationRow row = view_.row;
  if (view_.progress.phase() < v1::MIGRATION_PHASE_COMMITTED) {
    EnterPhase(row, v1::MIGRATION_PHASE_COMMITTED);
    Show(row);
  }
  return store_.UpdateMigration(row);
}

void MigrationRecord::Say(const std::string& detail) {
  const std::lock_guard lock(mutex_);
  store::MigrationRow row = view_.row;
  row.detail = detail;
  Show(std::move(row));
}

absl::Status MigrationRecord::Finish(std::uint64_t epoch_before) {
  const std::lock_guard lock(mutex_);
  store::MigrationRow row = view_.row;
  EnterPhase(row, v1::MIGRATION_PHASE_COMPLETED);
  row.detail.clear();
  SEALIFT_RETURN_IF_ERROR(store_.FinishMove(row, epoch_before));
  Show(std::move(row));
  return absl::OkStatus();
}

absl::Status MigrationRecord::End(v1::MigrationPhase phase, const std::string& detail) {
  const std::lock_guard lock(mutex_);
  store::MigrationRow row = EndedRow(phase, detail);
  SEALIFT_RETURN_IF_ERROR(store_.UpdateMigration(row));
  ShowEnd(std::move(row));
  return absl::OkStatus();
}

absl::Status MigrationRecord::Void(v1::MigrationPhase phase, const std::string& detail,
                                   std::uint64_t promised_epoch) {
  const std::lock_guard lock(mutex_);
  store::MigrationRow row = EndedRow(phase, detail);
  SEALIFT_RETURN_IF_ERROR(store_.VoidMove(row, promised_epoch));
  ShowEnd(std::move(row));
  return absl::OkStatus();
}

store::MigrationRow MigrationRecord::EndedRow(v1::MigrationPhase phase,
                                              const std::string& detail) const {
  store::MigrationRow row = view_.row;
  EnterPhase(row, phase);
  row.detail = detail;
  row.queued = false;
  return row;
}

void MigrationRecord::ShowEnd(store::MigrationRow row) {
  view_.behind = 0;
  Show(std::move(row));
}

void MigrationRecord::EnterPhase(store::MigrationRow& row, v1::MigrationPhase phase) const {
  row.phase = PhaseName(phase);
  const bool moved =
      phase == v1::MIGRATION_PHASE_COMMITTED || phase == v1::MIGRATION_PHASE_COMPLETED;
  row.running_on = moved ? row.destination : row.source;
  if (HasEnded(phase)) row.ended = base::UnixMillis(clock_.Now());
}

void MigrationRecord::Show(store::MigrationRow row) {
  view_.row = std::move(row);
  view_.progress.set_phase(ParsePhase(view_.row.phase));
  view_.progress.set_detail(view_.row.detail);
  ++view_.version;
  changed_.notify_all();
}

// The phases between delegation and end are for users; what decides is with the agents.
void MigrationRecord::TryToStore() {
  const absl::Status stored = store_.UpdateMigration(view_.row);
  if (stored.ok()) return;
  spdlog::warn("store migration {}: {}", view_.row.id, base::MessageOf(stored));
}

}  // namespace sealift::controller
