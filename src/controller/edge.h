// What every method of the operator services has in common: who calls, what they may do, and what
// becomes of a refusal.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "policy/rights.h"
#include "rpc/credentials.h"
#include "store/store.h"

namespace sealift::controller {

// RefuseRevoked is the last word on the certificate of an agent: PERMISSION_DENIED for a revoked
// one, the store's error when that cannot tell. The store outlives it.
[[nodiscard]] rpc::Admit RefuseRevoked(store::Store& store);

// AdmitUsers is the last word on the certificate of a user: PERMISSION_DENIED unless the store
// holds it as one of that user. The store outlives it.
[[nodiscard]] rpc::Admit AdmitUsers(store::Store& store);

// Caller is the user who makes a call.
struct Caller {
  std::string uri;
  policy::Rights rights;
};

// CallerOf is the user of a peer's certificate, with the rights in force now. Errors as AdmitUsers.
[[nodiscard]] absl::StatusOr<Caller> CallerOf(store::Store& store, const rpc::Peer& peer);

// LogRefusal writes who was refused what, and why, to the log.
void LogRefusal(const std::string& caller, std::string_view method, const absl::Status& status);

// Answer runs the body of a method for a caller who has the right to it. An error is logged and
// becomes the call's status.
template <typename Body>
grpc::Status Answer(store::Store& store, const grpc::ServerContext& context,
                    std::string_view method, policy::Right right, Body&& body) {
  const auto peer = rpc::PeerOf(context);
  if (!peer.ok()) return rpc::ToGrpc(peer.status());
  const auto caller = CallerOf(store, *peer);
  absl::Status status = caller.status();
  if (status.ok()) status = policy::CheckRight(caller->rights, right);
  if (status.ok()) status = std::forward<Body>(body)(*caller);
  if (!status.ok()) LogRefusal(peer->identity.ToUri(), method, status);
  return rpc::ToGrpc(status);
}

}  // namespace sealift::controller
