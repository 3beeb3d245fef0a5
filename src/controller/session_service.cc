#include "controller/session_service.h"

#include "base/status.h"
#include "controller/edge.h"
#include "rpc/protocol.h"

namespace sealift::controller {

grpc::Status SessionServiceImpl::GetInfo(grpc::ServerContext* context, const v1::GetInfoRequest*,
                                         v1::GetInfoResponse* response) {
  return Answer(*context, "get info", [&](const std::string& caller) {
    response->set_controller_version(rpc::kVersion);
    response->set_api_version(rpc::kApiVersion);
    response->set_identity(caller);
    return absl::OkStatus();
  });
}

// Whatever the request asks for, the certificate names the caller.
grpc::Status SessionServiceImpl::RenewCertificate(grpc::ServerContext* context,
                                                  const v1::RenewCertificateRequest* request,
                                                  v1::RenewCertificateResponse* response) {
  return Answer(*context, "renew certificate", [&](const std::string& caller) -> absl::Status {
    SEALIFT_ASSIGN_OR_RETURN(const pki::Identity identity, pki::ParseIdentity(caller));
    SEALIFT_ASSIGN_OR_RETURN(
        *response->mutable_certificate_chain_pem(),
        authority_.Issue(request->certificate_request_pem(), identity, pki::kCertificateLifetime));
    events_.Add("user.certificate_renewed", "user/" + identity.name, caller, "by its owner");
    return absl::OkStatus();
  });
}

}  // namespace sealift::controller
