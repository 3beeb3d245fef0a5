#include "controller/migration_task.h"

#include <fmt/format.h>

#include "base/status.h"
#include "controller/convert.h"
#include "controller/migration_planning.h"
#include "controller/migration_preparation.h"

namespace sealift::controller {

MigrationTask::MigrationTask(const MigrationParts& parts, store::MigrationRow row, store::VmRow vm,
                             std::string wire_id)
    : parts_(parts),
      route_{row.source, row.destination, std::move(wire_id), row.receipt},
      record_(parts.store, parts.clock, std::move(row)),
      vm_(std::move(vm)),
      follower_(parts_, route_, record_, vm_),
      turn_(record_.View().row.queued ? parts.queue.Join(route_.source, route_.destination)
                                      : parts.queue.Resume(route_.source, route_.destination)) {}

void MigrationTask::Run(Entry entry, const std::stop_token& stop) {
  if (entry == Entry::kBegun) return TakeUp(stop);
  const absl::StatusOr<bool> waited = AwaitTurn(stop);
  if (stop.stop_requested()) return;
  const absl::Status started =
      waited.ok() ? Begin(*waited || entry == Entry::kQueued) : waited.status();
  if (record_.phase() == v1::MIGRATION_PHASE_PREPARING) {
    follower_.Abort(started, stop);
  } else {
    follower_.Follow(stop, started);
  }
  LeaveQueue();
}

// The key of a migration that was not delegated is gone with the controller that made it, and the
// source was told nothing.
void MigrationTask::TakeUp(const std::stop_token& stop) {
  const absl::Status restarted =
      absl::AbortedError("the controller was restarted before the migration had begun");
  if (record_.phase() == v1::MIGRATION_PHASE_PREPARING) {
    follower_.Abort(restarted, stop);
  } else {
    follower_.Follow(stop, restarted);
  }
  LeaveQueue();
}

// Not when the controller is being stopped: nobody else is to begin then.
void MigrationTask::LeaveQueue() {
  if (record_.ended()) turn_.reset();
}

absl::StatusOr<bool> MigrationTask::AwaitTurn(const std::stop_token& stop) {
  bool waited = false;
  std::optional<std::size_t> behind;
  const auto given_up = [this] { return record_.cancel_requested(); };
  while (behind != 0) {
    behind = turn_->Wait(behind, stop, given_up);
    if (stop.stop_requested()) return absl::UnavailableError("the controller is being stopped");
    if (given_up()) return absl::CancelledError("cancelled by a user while it was queued");
    waited = waited || *behind != 0;
    record_.ShowQueued(*behind);
  }
  return waited;
}

absl::Status MigrationTask::Begin(bool decide_again) {
  if (decide_again) SEALIFT_RETURN_IF_ERROR(DecideAgain());
  SEALIFT_RETURN_IF_ERROR(record_.LeaveQueue());
  return Start();
}

// What was decided when the migration was asked for may no longer hold: modes, floors and hosts
// change while it is queued. Engine and streams stay.
absl::Status MigrationTask::DecideAgain() {
  const store::MigrationRow before = record_.View().row;
  SEALIFT_ASSIGN_OR_RETURN(PlannedMigration planned,
                           PlanNow(parts_.store, parts_.agents,
                                   {vm_.name, route_.destination, ParseEngine(before.engine),
                                    before.streams, before.id}));
  SEALIFT_RETURN_IF_ERROR(record_.Protect(planned.mode, planned.plan.encryption));
  vm_ = std::move(planned.vm);
  const store::MigrationRow row = record_.View().row;
  if (row.mode == before.mode && row.encrypted == before.encrypted) return absl::OkStatus();
  parts_.events.Add(
      "migration.decided_again", "migration/" + row.id, kControllerActor,
      fmt::format("VM {} moves {}: {}", row.vm, ProtectionOf(row), row.decision_reason));
  WarnIfInTheClear(parts_.events, row);
  return absl::OkStatus();
}

absl::Status MigrationTask::Start() {
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow destination,
                           parts_.store.GetHost(route_.destination));
  SEALIFT_ASSIGN_OR_RETURN(const MigrationStart start,
                           PrepareMigration(parts_.agents, parts_.random, record_.View().row, vm_,
                                            destination.address, parts_.trust_domain));
  SEALIFT_RETURN_IF_ERROR(CheckModeUnchanged());
  SEALIFT_RETURN_IF_ERROR(record_.Delegate());
  SEALIFT_RETURN_IF_ERROR(TellStart(route_.destination, start.key_for_destination, {}));
  return TellStart(route_.source, start.key_for_source, start.data_addresses);
}

// Nothing of the guest has left the source yet.
absl::Status MigrationTask::CheckModeUnchanged() {
  SEALIFT_ASSIGN_OR_RETURN(const store::VmRow vm, parts_.store.GetVm(vm_.name));
  SEALIFT_ASSIGN_OR_RETURN(const ModePolicy modes, ModePolicy::Load(parts_.store));
  SEALIFT_ASSIGN_OR_RETURN(const policy::EffectiveMode mode,
                           modes.EffectiveAt(vm, {route_.source, route_.destination}));
  if (policy::ModeName(mode.mode) == record_.View().row.mode) return absl::OkStatus();
  return absl::AbortedError(
      fmt::format("the mode of VM {} became {} while its migration was prepared: start it again",
                  vm_.name, policy::ModeName(mode.mode)));
}

absl::Status MigrationTask::TellStart(const std::string& host, const std::string& sealed_key,
                                      const std::vector<std::string>& data_addresses) {
  SEALIFT_ASSIGN_OR_RETURN(const auto agent, parts_.agents.Connection(host));
  v1::StartAgentMigrationRequest request;
  request.set_id(route_.wire_id);
  request.set_sealed_key(sealed_key);
  request.mutable_data_addresses()->Add(data_addresses.begin(), data_addresses.end());
  if (host == route_.source) request.set_receipt(route_.receipt);
  return agent->Call(&AgentConnection::Stub::StartMigration, request).status();
}

absl::Status MigrationTask::Cancel() {
  if (record_.RequestCancel()) {
    parts_.queue.Wake();
    return absl::OkStatus();
  }
  if (record_.phase() >= v1::MIGRATION_PHASE_COMMITTED) return TooLate();
  SEALIFT_ASSIGN_OR_RETURN(const auto source, parts_.agents.Connection(route_.source));
  const auto view = CancelAt(*source, route_.wire_id);
  if (absl::IsNotFound(view.status())) {
    if (record_.ended()) return TooLate();
    follower_.GiveUp();
    return absl::OkStatus();
  }
  if (absl::IsFailedPrecondition(view.status())) {
    return absl::FailedPreconditionError(fmt::format(
        "it is too late to cancel migration {}: VM {} is being handed over from host "
        "{} to host {}",
        record_.View().row.id, record_.View().row.vm, route_.source, route_.destination));
  }
  SEALIFT_RETURN_IF_ERROR(view.status());
  record_.Learn(*view);
  if (view->progress().phase() == v1::MIGRATION_PHASE_COMPLETED) {
    SEALIFT_RETURN_IF_ERROR(record_.LearnCommit());
  }
  const v1::MigrationPhase phase = record_.phase();
  const bool moved =
      phase == v1::MIGRATION_PHASE_COMMITTED || phase == v1::MIGRATION_PHASE_COMPLETED;
  return moved ? TooLate() : absl::OkStatus();
}

absl::Status MigrationTask::TooLate() {
  const store::MigrationRow row = record_.View().row;
  return absl::FailedPreconditionError(
      fmt::format("migration {} is {}, too late to cancel it: VM {} runs on host {}", row.id,
                  row.phase, row.vm, row.running_on));
}

}  // namespace sealift::controller
