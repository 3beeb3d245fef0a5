#include "agent/convert.h"

#include "base/bytes.h"
#include "base/utf8.h"

namespace sealift::agent {
namespace {

v1::VmState ToProto(VmStatus status) {
  switch (status) {
    case VmStatus::kStopped:
      return v1::VM_STATE_STOPPED;
    case VmStatus::kRunning:
      return v1::VM_STATE_RUNNING;
    case VmStatus::kPaused:
      return v1::VM_STATE_PAUSED;
    case VmStatus::kCrashed:
      return v1::VM_STATE_CRASHED;
    case VmStatus::kMigrating:
      return v1::VM_STATE_MIGRATING;
    case VmStatus::kUnknown:
      return v1::VM_STATE_UNKNOWN;
  }
  return v1::VM_STATE_UNSPECIFIED;
}

v1::EncryptionMode ToProto(policy::EncryptionMode mode) {
  switch (mode) {
    case policy::EncryptionMode::kDisabled:
      return v1::ENCRYPTION_MODE_DISABLED;
    case policy::EncryptionMode::kOpportunistic:
      return v1::ENCRYPTION_MODE_OPPORTUNISTIC;
    case policy::EncryptionMode::kRequired:
      return v1::ENCRYPTION_MODE_REQUIRED;
  }
  return v1::ENCRYPTION_MODE_UNSPECIFIED;
}

v1::MigrationPhase ToProto(migration::PhaseName phase) {
  using migration::PhaseName;
  switch (phase) {
    case PhaseName::kPreparing:
      return v1::MIGRATION_PHASE_PREPARING;
    case PhaseName::kCopying:
      return v1::MIGRATION_PHASE_COPYING;
    case PhaseName::kSwitching:
      return v1::MIGRATION_PHASE_SWITCHING;
    case PhaseName::kCommitted:
      return v1::MIGRATION_PHASE_COMMITTED;
    case PhaseName::kCompleted:
      return v1::MIGRATION_PHASE_COMPLETED;
    case PhaseName::kFailed:
      return v1::MIGRATION_PHASE_FAILED;
    case PhaseName::kCancelled:
      return v1::MIGRATION_PHASE_CANCELLED;
  }
  return v1::MIGRATION_PHASE_UNSPECIFIED;
}

// Much of what is told comes from QEMU and from movers, which foreign bytes may have taken over.
std::string Text(const std::string& text) {
  constexpr std::size_t kMaxText = 2000;
  return base::MakeUtf8(text, kMaxText);
}

v1::MigrationProgress ToProto(const migration::Snapshot& snapshot) {
  v1::MigrationProgress progress;
  progress.set_phase(ToProto(snapshot.phase));
  progress.set_ram_total_bytes(snapshot.ram_total_bytes);
  progress.set_ram_transferred_bytes(snapshot.ram_transferred_bytes);
  progress.set_ram_remaining_bytes(snapshot.ram_remaining_bytes);
  progress.set_dirty_bytes_per_second(snapshot.dirty_bytes_per_second);
  progress.set_wire_bytes(snapshot.wire_bytes);
  progress.set_bytes_per_second(snapshot.bytes_per_second);
  progress.set_elapsed_ms(static_cast<std::uint64_t>(snapshot.elapsed.count()));
  progress.set_downtime_ms(static_cast<std::uint64_t>(snapshot.downtime.count()));
  progress.set_iterations(snapshot.iterations);
  progress.set_detail(Text(snapshot.detail));
  return progress;
}

}  // namespace

v1::AgentVm ToProto(const VmView& vm) {
  v1::AgentVm message;
  message.set_name(vm.name);
  message.set_uuid(vm.uuid);
  message.set_epoch(vm.epoch);
  message.set_encryption(ToProto(vm.mode));
  message.set_policy_version(vm.policy_version);
  message.set_state(ToProto(vm.status));
  message.set_state_reason(Text(vm.reason));
  message.set_direct(vm.direct);
  message.set_direct_reason(Text(vm.direct_reason));
  message.set_autostart_due(vm.autostart_due);
  return message;
}

v1::AgentVmRecord ToProto(const VmRecord& vm) {
  v1::AgentVmRecord message;
  message.set_definition_yaml(hypervisor::FormatVmDefinition(vm.definition));
  message.set_epoch(vm.epoch);
  message.set_encryption(ToProto(vm.mode));
  message.set_policy_version(vm.policy_version);
  return message;
}

v1::AgentMigration ToProto(const MigrationView& migration) {
  v1::AgentMigration message;
  if (const absl::StatusOr<base::Bytes> id = base::FromHex(migration.id); id.ok()) {
    message.set_id(std::string(base::AsText(*id)));
  }
  message.set_vm(migration.vm);
  message.set_role(migration.role == MigrationRole::kSource ? v1::AGENT_MIGRATION_ROLE_SOURCE
                                                            : v1::AGENT_MIGRATION_ROLE_DESTINATION);
  *message.mutable_progress() = ToProto(migration.snapshot);
  message.set_aead_backend(Text(migration.aead_backend));
  message.set_started(migration.started);
  message.set_receipt(migration.snapshot.receipt);
  return message;
}

}  // namespace sealift::agent
