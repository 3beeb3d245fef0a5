#include "controller/edge.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/status.h"

namespace sealift::controller {
namespace {

absl::Status Refuse(const rpc::Peer& peer, std::string_view remedy) {
  absl::Status refusal = absl::PermissionDeniedError(
      fmt::format("the certificate of {} is revoked: {}", peer.identity.ToUri(), remedy));
  spdlog::warn("peer refused: {}", base::MessageOf(refusal));
  return refusal;
}

}  // namespace

rpc::Admit RefuseRevoked(store::Store& store) {
  return [&store](const rpc::Peer& peer) -> absl::Status {
    SEALIFT_ASSIGN_OR_RETURN(const bool revoked, store.IsRevoked(peer.certificate_serial));
    if (!revoked) return absl::OkStatus();
    return Refuse(peer, "let the host join again with sealift host add NAME --renew-token");
  };
}

rpc::Admit AdmitUsers(store::Store& store) {
  return [&store](const rpc::Peer& peer) { return CallerOf(store, peer).status(); };
}

absl::StatusOr<Caller> CallerOf(store::Store& store, const rpc::Peer& peer) {
  SEALIFT_ASSIGN_OR_RETURN(const auto user, store.FindUser(peer.certificate_serial));
  const bool same =
      user && user->name == peer.identity.name && user->role == pki::RoleName(peer.identity.role);
  if (!same) return Refuse(peer, "ask an administrator for a new context");
  const auto role = policy::ParseUserRole(user->role);
  auto rights = policy::ParseRights(user->rights);
  if (!role || !rights.ok()) {
    return absl::InternalError(fmt::format(
        "the store holds a role or rights of user {} that this version does not know", user->name));
  }
  rights->merge(policy::RightsOf(*role));
  return Caller{peer.identity.ToUri(), *std::move(rights)};
}

void LogRefusal(const std::string& caller, std::string_view method, const absl::Status& status) {
  spdlog::warn("{} by {} was not done: {}", method, caller, base::MessageOf(status));
}

}  // namespace sealift::controller
