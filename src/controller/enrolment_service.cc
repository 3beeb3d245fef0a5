#include "controller/enrolment_service.h"

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/status.h"
#include "pki/join_token.h"
#include "rpc/credentials.h"

namespace sealift::controller {
namespace {

// The address without the port of a gRPC peer: "ipv4:192.0.2.1:4711", "ipv6:%5B::1%5D:4711".
std::string AddressOf(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

absl::Status RefuseToken() {
  return absl::PermissionDeniedError(
      "the controller does not accept this join token: it was used already, has expired, was "
      "replaced or is for another host; "
      "make a new one with sealift host add NAME --renew-token");
}

}  // namespace

EnrolmentServiceImpl::EnrolmentServiceImpl(store::Store& store, HostCertificates& certificates,
                                           AgentDirectory& agents, EventLog& events,
                                           const base::Clock& clock, Rates rates)
    : store_(store),
      certificates_(certificates),
      agents_(agents),
      events_(events),
      clock_(clock),
      limit_(clock, rates) {}

grpc::Status EnrolmentServiceImpl::Enrol(grpc::ServerContext* context,
                                         const v1::EnrolRequest* request,
                                         v1::EnrolResponse* response) {
  const std::string peer = AddressOf(context->peer());
  if (!limit_.Allow(peer)) {
    return rpc::ToGrpc(absl::ResourceExhaustedError(
        "too many attempts to join: wait a few seconds and try again"));
  }
  const absl::Status status = EnrolHost(*request, peer, *response);
  if (!status.ok()) {
    spdlog::warn("enrolment from {} refused: {}", peer, base::MessageOf(status));
  }
  return rpc::ToGrpc(status);
}

absl::Status EnrolmentServiceImpl::EnrolHost(const v1::EnrolRequest& request,
                                             const std::string& peer, v1::EnrolResponse& response) {
  const std::string hash = pki::Sha256Hex(base::AsBytes(request.token_secret()));
  const absl::Status taken =
      store_.TakeJoinToken(request.host(), hash, base::UnixMillis(clock_.Now()));
  if (absl::IsNotFound(taken)) return RefuseToken();
  SEALIFT_RETURN_IF_ERROR(taken);
  SEALIFT_ASSIGN_OR_RETURN(
      *response.mutable_certificate_chain_pem(),
      certificates_.IssueToJoiner(request.host(), request.certificate_request_pem()));
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow row, store_.GetHost(request.host()));
  events_.Add("host.joined", "host/" + request.host(), kControllerActor,
              fmt::format("from {}, certificate valid until {}", peer,
                          base::FormatUtc(base::FromUnixMillis(row.certificate_not_after))));
  agents_.Link(row);
  return absl::OkStatus();
}

}  // namespace sealift::controller
