#include "controller/edge.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/status.h"

namespace sealift::controller {

rpc::Admit RefuseRevoked(store::Store& store) {
  return [&store](const rpc::Peer& peer) -> absl::Status {
    SEALIFT_ASSIGN_OR_RETURN(const bool revoked, store.IsRevoked(peer.certificate_serial));
    if (!revoked) return absl::OkStatus();
    const absl::Status refusal = absl::PermissionDeniedError(
        fmt::format("the certificate of {} is revoked: {}", peer.identity.ToUri(),
                    peer.identity.role == pki::Role::kHost
                        ? "let the host join again with sealift host add NAME --renew-token"
                        : "ask an administrator for a new one"));
    spdlog::warn("peer refused: {}", base::MessageOf(refusal));
    return refusal;
  };
}

void LogRefusal(const std::string& caller, std::string_view method, const absl::Status& status) {
  spdlog::warn("{} by {} was not done: {}", method, caller, base::MessageOf(status));
}

}  // namespace sealift::controller
