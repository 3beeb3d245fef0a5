#include "controller/requests.h"

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/label.h"
#include "base/socket.h"
#include "base/status.h"
#include "controller/convert.h"
#include "hypervisor/vm_definition.h"
#include "keys/migration_spec.h"
#include "pki/identity.h"
#include "pki/join_token.h"
#include "rpc/protocol.h"

namespace sealift::controller {
namespace {

using hypervisor::VmDefinition;
using std::chrono::seconds;

constexpr std::size_t kMaxRequestId = 128;
constexpr seconds kStopTimeout{60};
constexpr seconds kLongestStopTimeout = std::chrono::hours(1);
constexpr seconds kTokenLifetime = std::chrono::hours(1);
constexpr seconds kLongestTokenLifetime = std::chrono::hours(7 * 24);

absl::Status UnknownMode() {
  return absl::InvalidArgumentError(
      "unknown encryption mode: give disabled, opportunistic or required");
}

absl::Status ChangeLabels(const v1::VmChange& change, VmDefinition& definition) {
  for (const std::string& key : change.remove_labels()) definition.labels.erase(key);
  for (const auto& [key, value] : change.set_labels()) {
    SEALIFT_RETURN_IF_ERROR(base::CheckLabel(key, value));
    definition.labels[key] = value;
  }
  if (definition.labels.size() <= base::kMaxLabels) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("{} labels are too many: at most {}",
                                                definition.labels.size(), base::kMaxLabels));
}

absl::Status ChangeMode(const v1::VmChange& change, const std::vector<policy::Floor>& floors,
                        const VmDefinition& definition, store::VmRow& row) {
  if (definition.encrypted) row.encryption = policy::ModeName(policy::EncryptionMode::kRequired);
  if (change.encryption() == v1::ENCRYPTION_MODE_UNSPECIFIED) return absl::OkStatus();
  const std::optional<policy::EncryptionMode> mode = FromProto(change.encryption());
  if (!mode) return UnknownMode();
  if (definition.encrypted && *mode != policy::EncryptionMode::kRequired) {
    return absl::FailedPreconditionError(
        fmt::format("VM {} is encrypted, so its mode is required and cannot be changed", row.name));
  }
  SEALIFT_RETURN_IF_ERROR(policy::CheckFloors(*mode, floors));
  row.encryption = policy::ModeName(*mode);
  return absl::OkStatus();
}

// The stored name of a mode, empty for none.
absl::StatusOr<std::string> NameOf(v1::EncryptionMode mode) {
  if (mode == v1::ENCRYPTION_MODE_UNSPECIFIED) return std::string();
  if (const auto known = FromProto(mode)) return std::string(policy::ModeName(*known));
  return UnknownMode();
}

}  // namespace

MigrationRequest Read(const v1::StartMigrationRequest& request) {
  return {.vm = request.vm(),
          .to = request.to(),
          .streams = request.streams(),
          .engine = request.engine(),
          .on_no_convergence = request.on_no_convergence(),
          .request_id = request.request_id(),
          .requested_by = {},
          .rights = {}};
}

absl::Status CheckRequest(const MigrationRequest& request) {
  if (!v1::Engine_IsValid(request.engine)) {
    return absl::InvalidArgumentError("engine: not one that this controller knows");
  }
  if (!v1::NoConvergence_IsValid(request.on_no_convergence)) {
    return absl::InvalidArgumentError("on_no_convergence: not one that this controller knows");
  }
  if (request.vm.empty()) return absl::InvalidArgumentError("name the VM to migrate");
  if (request.to.empty()) return absl::InvalidArgumentError("name the host to migrate to");
  if (request.request_id.size() <= kMaxRequestId) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("a request id has at most {} bytes", kMaxRequestId));
}

absl::StatusOr<std::string> WireId(const std::string& id) {
  SEALIFT_ASSIGN_OR_RETURN(const base::Bytes bytes, base::FromHex(id));
  if (bytes.size() == keys::MigrationId().size()) return std::string(base::AsText(bytes));
  return absl::InvalidArgumentError(
      fmt::format("'{}' is not the id of a migration: give its 32 hexadecimal digits", id));
}

absl::Status CheckRequest(const v1::SetVmsRequest& request) {
  const int ways = (request.changes().empty() ? 0 : 1) + (request.all() ? 1 : 0) +
                   (request.selector().empty() ? 0 : 1);
  if (ways == 1 && request.has_change() == request.changes().empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("say which VMs: by their names, all, or by a selector");
}

absl::StatusOr<store::VmRow> Changed(const v1::VmChange& change,
                                     const std::vector<policy::Floor>& floors, store::VmRow row) {
  const bool only_mode =
      change.set_labels().empty() && change.remove_labels().empty() && !change.has_encrypted();
  SEALIFT_ASSIGN_OR_RETURN(VmDefinition definition, hypervisor::ParseVmDefinition(row.definition));
  SEALIFT_RETURN_IF_ERROR(ChangeLabels(change, definition));
  if (change.has_encrypted()) definition.encrypted = change.encrypted();
  SEALIFT_RETURN_IF_ERROR(ChangeMode(change, floors, definition, row));
  if (!only_mode) row.definition = hypervisor::FormatVmDefinition(definition);
  return row;
}

absl::StatusOr<seconds> TimeoutOf(const v1::StopVmRequest& request) {
  if (request.timeout_s() == 0) return kStopTimeout;
  const seconds asked(request.timeout_s());
  if (asked <= kLongestStopTimeout) return asked;
  return absl::InvalidArgumentError(fmt::format("wait at most {} s for VM {} to stop",
                                                kLongestStopTimeout.count(), request.name()));
}

absl::StatusOr<seconds> LifetimeOf(const v1::AddHostRequest& request) {
  if (request.token_lifetime_s() == 0) return kTokenLifetime;
  const seconds asked(request.token_lifetime_s());
  if (asked <= kLongestTokenLifetime) return asked;
  return absl::InvalidArgumentError(fmt::format(
      "a join token lives at most {} hours: it lets anybody who reads it join as host {}",
      std::chrono::duration_cast<std::chrono::hours>(kLongestTokenLifetime).count(),
      request.name()));
}

absl::StatusOr<std::string> AddressOf(const v1::AddHostRequest& request) {
  if (request.address().empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "say where the agent of host {} listens: --address HOST[:PORT]", request.name()));
  }
  SEALIFT_ASSIGN_OR_RETURN(const base::HostPort address,
                           base::ParseHostPort(request.address(), rpc::kAgentPort));
  return address.ToString();
}

absl::StatusOr<store::UserRow> Read(const v1::AddUserRequest& request) {
  SEALIFT_RETURN_IF_ERROR(pki::CheckName("user", request.name()));
  const std::optional<policy::UserRole> role = FromProto(request.role());
  if (!role) return absl::InvalidArgumentError("give the role viewer, operator or admin");
  policy::Rights rights;
  for (const std::string& name : request.rights()) {
    const std::optional<policy::Right> right = policy::ParseRight(name);
    if (!right) {
      return absl::InvalidArgumentError(
          fmt::format("'{}' is not a right: {}", name,
                      policy::FormatRights(policy::RightsOf(policy::UserRole::kAdmin))));
    }
    rights.insert(*right);
  }
  return store::UserRow{request.name(), std::string(policy::RoleName(*role)),
                        policy::FormatRights(rights), 0,
                        pki::Sha256Hex(base::AsBytes(request.certificate_request_pem()))};
}

absl::StatusOr<store::PolicyRow> Changed(const v1::SetPolicyRequest& request,
                                         store::PolicyRow before) {
  if (!request.group().empty()) SEALIFT_RETURN_IF_ERROR(pki::CheckName("group", request.group()));
  store::PolicyRow after = std::move(before);
  if (request.has_floor()) {
    SEALIFT_ASSIGN_OR_RETURN(after.floor, NameOf(request.floor()));
  }
  if (request.has_default_mode()) {
    SEALIFT_ASSIGN_OR_RETURN(after.default_mode, NameOf(request.default_mode()));
  }
  return after;
}

}  // namespace sealift::controller
