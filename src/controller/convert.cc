#include "controller/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "base/clock.h"

namespace sealift::controller {
namespace {

template <typename Value>
struct Named {
  Value value;
  std::string_view name;
};

constexpr std::array kPhases{
    Named<v1::MigrationPhase>{v1::MIGRATION_PHASE_PREPARING, "preparing"},
    Named<v1::MigrationPhase>{v1::MIGRATION_PHASE_COPYING, "copying"},
    Named<v1::MigrationPhase>{v1::MIGRATION_PHASE_SWITCHING, "switching"},
    Named<v1::MigrationPhase>{v1::MIGRATION_PHASE_COMMITTED, "committed"},
    Named<v1::MigrationPhase>{v1::MIGRATION_PHASE_COMPLETED, "completed"},
    Named<v1::MigrationPhase>{v1::MIGRATION_PHASE_FAILED, "failed"},
    Named<v1::MigrationPhase>{v1::MIGRATION_PHASE_CANCELLED, "cancelled"},
};
constexpr std::array kEngines{
    Named<v1::Engine>{v1::ENGINE_STREAM, "stream"},
    Named<v1::Engine>{v1::ENGINE_DIRECT, "direct"},
};

constexpr std::array kNoConvergences{
    Named<v1::NoConvergence>{v1::NO_CONVERGENCE_THROTTLE, "throttle"},
    Named<v1::NoConvergence>{v1::NO_CONVERGENCE_FAIL, "fail"},
};

template <typename Table, typename Value>
std::string NameIn(const Table& table, Value value) {
  for (const auto& entry : table) {
    if (entry.value == value) return std::string(entry.name);
  }
  return "";
}

template <typename Table>
auto ValueIn(const Table& table, std::string_view name) {
  for (const auto& entry : table) {
    if (entry.name == name) return entry.value;
  }
  return decltype(table.front().value){};
}

v1::HostState StateOf(HostReach reach) {
  switch (reach) {
    case HostReach::kNotJoined:
      return v1::HOST_STATE_JOINING;
    case HostReach::kUnreachable:
      return v1::HOST_STATE_UNREACHABLE;
    case HostReach::kReady:
      return v1::HOST_STATE_READY;
  }
  return v1::HOST_STATE_UNSPECIFIED;
}

}  // namespace

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

std::optional<policy::EncryptionMode> FromProto(v1::EncryptionMode mode) {
  switch (mode) {
    case v1::ENCRYPTION_MODE_DISABLED:
      return policy::EncryptionMode::kDisabled;
    case v1::ENCRYPTION_MODE_OPPORTUNISTIC:
      return policy::EncryptionMode::kOpportunistic;
    case v1::ENCRYPTION_MODE_REQUIRED:
      return policy::EncryptionMode::kRequired;
    default:
      return std::nullopt;
  }
}

std::optional<policy::UserRole> FromProto(v1::UserRole role) {
  switch (role) {
    case v1::USER_ROLE_VIEWER:
      return policy::UserRole::kViewer;
    case v1::USER_ROLE_OPERATOR:
      return policy::UserRole::kOperator;
    case v1::USER_ROLE_ADMIN:
      return policy::UserRole::kAdmin;
    default:
      return std::nullopt;
  }
}

v1::User ToProto(const store::UserRow& row) {
  v1::User user;
  user.set_name(row.name);
  user.set_created_ms(row.created);
  policy::Rights rights = policy::ParseRights(row.rights).value_or(policy::Rights());
  if (const auto role = policy::ParseUserRole(row.role)) {
    user.set_role(static_cast<v1::UserRole>(*role));
    rights.merge(policy::RightsOf(*role));
  }
  for (const policy::Right right : rights) user.add_rights(std::string(policy::RightName(right)));
  return user;
}

v1::Policy ToProto(const store::PolicyRow& row) {
  v1::Policy policy;
  policy.set_group(row.group);
  if (const auto floor = policy::ParseMode(row.floor)) policy.set_floor(ToProto(*floor));
  if (const auto mode = policy::ParseMode(row.default_mode)) {
    policy.set_default_mode(ToProto(*mode));
  }
  return policy;
}

absl::StatusOr<policy::EncryptionMode> StoredMode(const std::string& name) {
  const std::optional<policy::EncryptionMode> mode = policy::ParseMode(name);
  if (mode) return *mode;
  return absl::InternalError(fmt::format(
      "the store holds the encryption mode '{}', which this version does not know", name));
}

std::string PhaseName(v1::MigrationPhase phase) { return NameIn(kPhases, phase); }
v1::MigrationPhase ParsePhase(std::string_view name) { return ValueIn(kPhases, name); }

bool HasEnded(v1::MigrationPhase phase) {
  return phase == v1::MIGRATION_PHASE_COMPLETED || phase == v1::MIGRATION_PHASE_FAILED ||
         phase == v1::MIGRATION_PHASE_CANCELLED;
}

std::string EngineName(v1::Engine engine) { return NameIn(kEngines, engine); }
v1::Engine ParseEngine(std::string_view name) { return ValueIn(kEngines, name); }

std::string NoConvergenceName(v1::NoConvergence what) { return NameIn(kNoConvergences, what); }
v1::NoConvergence ParseNoConvergence(std::string_view name) {
  return ValueIn(kNoConvergences, name);
}

v1::MigrationProgress ProgressOf(const store::MigrationRow& row) {
  v1::MigrationProgress progress;
  progress.set_phase(ParsePhase(row.phase));
  progress.set_ram_total_bytes(row.ram_total_bytes);
  progress.set_ram_transferred_bytes(row.ram_transferred_bytes);
  progress.set_wire_bytes(row.wire_bytes);
  progress.set_downtime_ms(row.downtime_ms);
  progress.set_detail(row.detail);
  if (row.ended > row.started) {
    progress.set_elapsed_ms(static_cast<std::uint64_t>(row.ended - row.started));
  }
  return progress;
}

v1::Migration ToProto(const store::MigrationRow& row, const v1::MigrationProgress& progress) {
  v1::Migration migration;
  migration.set_id(row.id);
  migration.set_vm(row.vm);
  migration.set_from(row.source);
  migration.set_to(row.destination);
  migration.set_requested_by(row.requested_by);
  if (const auto mode = policy::ParseMode(row.mode)) migration.set_mode(ToProto(*mode));
  migration.set_encrypted(row.encrypted);
  migration.set_decision_reason(row.decision_reason);
  migration.set_cipher(row.cipher);
  migration.set_aead_backend(row.aead_backend);
  migration.set_engine(ParseEngine(row.engine));
  migration.set_engine_reason(row.engine_reason);
  migration.set_streams(row.streams);
  *migration.mutable_progress() = progress;
  migration.set_started_ms(row.started);
  migration.set_ended_ms(row.ended);
  migration.set_running_on(row.running_on);
  return migration;
}

v1::Event ToProto(const store::EventRow& row) {
  v1::Event event;
  event.set_number(row.number);
  event.set_time_ms(row.time);
  event.set_type(row.type);
  event.set_subject(row.subject);
  event.set_actor(row.actor);
  event.set_text(row.text);
  return event;
}

v1::Host ToProto(const store::HostRow& row, const HostView& view, std::uint32_t vms) {
  v1::Host host;
  host.set_name(row.name);
  host.set_address(row.address);
  const bool dead = row.dead_since != 0 && view.reach != HostReach::kReady;
  host.set_state(dead ? v1::HOST_STATE_DEAD : StateOf(view.reach));
  host.set_dead_since_ms(row.dead_since);
  host.set_state_reason(view.reason);
  if (row.unheard) {
    host.set_state_reason(
        fmt::format("not heard since the controller was restored from a backup{}{}",
                    view.reason.empty() ? "" : ": ", view.reason));
  }
  host.set_certificate_not_after_ms(row.certificate_not_after);
  host.set_last_seen_ms(std::max(row.last_seen, view.last_seen_ms));
  host.set_vms(vms);
  host.set_group(row.group);
  host.set_draining(row.draining);
  if (view.status) {
    *host.mutable_capabilities() = view.status->capabilities();
    host.set_can_encrypt(CapabilityOf(row.name, view.status->capabilities()).capable);
  }
  return host;
}

v1::MigrationSpec ToProto(const keys::MigrationSpec& spec, policy::EncryptionMode mode) {
  v1::MigrationSpec out;
  out.set_id(std::string(base::AsText(spec.id)));
  out.set_vm(spec.vm);
  out.set_source(spec.source);
  out.set_destination(spec.destination);
  out.set_plain(spec.protection == keys::Protection::kPlain);
  out.set_engine(spec.engine == keys::Engine::kDirect ? v1::ENGINE_DIRECT : v1::ENGINE_STREAM);
  out.set_streams(spec.streams);
  out.set_mode(ToProto(mode));
  return out;
}

bool MayHaveProcess(v1::VmState state) {
  return state != v1::VM_STATE_STOPPED && state != v1::VM_STATE_CRASHED;
}

const v1::AgentVm* FindAgentVm(const v1::AgentStatus& status, const std::string& vm) {
  for (const v1::AgentVm& candidate : status.vms()) {
    if (candidate.name() == vm) return &candidate;
  }
  return nullptr;
}

const v1::AgentMigration* FindUnended(const v1::AgentStatus& status, const std::string& vm) {
  for (const v1::AgentMigration& held : status.migrations()) {
    if (held.vm() == vm && !HasEnded(held.progress().phase())) return &held;
  }
  return nullptr;
}

}  // namespace sealift::controller
