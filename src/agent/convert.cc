#include "agent/convert.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/status.h"

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
  progress.set_detail(snapshot.detail);
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
  message.set_state_reason(vm.reason);
  message.set_direct(vm.direct);
  message.set_direct_reason(vm.direct_reason);
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
  message.set_aead_backend(migration.aead_backend);
  return message;
}

absl::StatusOr<policy::EncryptionMode> FromProto(v1::EncryptionMode mode) {
  switch (mode) {
    case v1::ENCRYPTION_MODE_DISABLED:
      return policy::EncryptionMode::kDisabled;
    case v1::ENCRYPTION_MODE_OPPORTUNISTIC:
      return policy::EncryptionMode::kOpportunistic;
    case v1::ENCRYPTION_MODE_REQUIRED:
      return policy::EncryptionMode::kRequired;
    default:
      return absl::InvalidArgumentError("encryption: not a mode this agent knows");
  }
}

absl::StatusOr<MigrationOrder> FromProto(const v1::MigrationSpec& spec) {
  MigrationOrder order;
  if (spec.id().size() != order.spec.id.size()) {
    return absl::InvalidArgumentError("spec.id: must have 16 bytes");
  }
  std::ranges::copy(base::AsBytes(spec.id()), order.spec.id.begin());
  if (spec.engine() != v1::ENGINE_STREAM && spec.engine() != v1::ENGINE_DIRECT) {
    return absl::InvalidArgumentError("spec.engine: not an engine this agent knows");
  }
  if (spec.streams() > 0xFFFF) return absl::InvalidArgumentError("spec.streams: too many");
  order.spec.vm = spec.vm();
  order.spec.source = spec.source();
  order.spec.destination = spec.destination();
  order.spec.protection = spec.plain() ? keys::Protection::kPlain : keys::Protection::kSealed;
  order.spec.engine =
      spec.engine() == v1::ENGINE_STREAM ? keys::Engine::kStream : keys::Engine::kDirect;
  order.spec.streams = static_cast<std::uint16_t>(spec.streams());
  SEALIFT_RETURN_IF_ERROR(keys::ValidateSpec(order.spec));
  SEALIFT_ASSIGN_OR_RETURN(order.mode, FromProto(spec.mode()));
  return order;
}

absl::StatusOr<std::string> MigrationIdText(const std::string& id) {
  if (id.size() != keys::MigrationId{}.size()) {
    return absl::InvalidArgumentError("id: must have 16 bytes");
  }
  return base::ToHex(base::AsBytes(id));
}

}  // namespace sealift::agent
