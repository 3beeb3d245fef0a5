#include "controller/edge.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/status.h"

namespace sealift::controller {

rpc::Admit RefuseRevoked(store::Store& store) {
  return [&store](const rpc::Peer& peer) -> absl::Status {
    const auto revoked = store.IsRevoked(peer.certificate_serial);
    if (revoked.ok() && !*revoked) return absl::OkStatus();
    const std::string caller = peer.identity.ToUri();
    LogRefusal(
        caller, "connect",
        revoked.ok() ? absl::PermissionDeniedError("certificate revoked") : revoked.status());
    return absl::PermissionDeniedError(fmt::format(
        "the certificate of {} is revoked: ask an administrator for a new one", caller));
  };
}

void LogRefusal(const std::string& caller, std::string_view method, const absl::Status& status) {
  spdlog::warn("{} refused to {}: {}", method, caller, base::MessageOf(status));
}

}  // namespace sealift::controller
