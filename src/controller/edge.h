// What every method of the operator services has in common: who calls, and what becomes of a
// refusal.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "rpc/credentials.h"
#include "store/store.h"

namespace sealift::controller {

// RefuseRevoked is the last word on a peer, caller or agent: PERMISSION_DENIED for a revoked
// certificate, the store's error when that cannot tell. The store outlives it.
[[nodiscard]] rpc::Admit RefuseRevoked(store::Store& store);

// LogRefusal writes who was refused what, and why, to the log.
void LogRefusal(const std::string& caller, std::string_view method, const absl::Status& status);

// Answer runs the body of a method with the identity of its caller. An error is logged and becomes
// the call's status.
template <typename Body>
grpc::Status Answer(const grpc::ServerContext& context, std::string_view method, Body&& body) {
  const auto peer = rpc::PeerOf(context);
  if (!peer.ok()) return rpc::ToGrpc(peer.status());
  const std::string caller = peer->identity.ToUri();
  const absl::Status status = std::forward<Body>(body)(caller);
  if (!status.ok()) LogRefusal(caller, method, status);
  return rpc::ToGrpc(status);
}

}  // namespace sealift::controller
