#include "controller/session_service.h"

#include "base/status.h"
#include "controller/edge.h"
#include "rpc/protocol.h"

namespace sealift::controller {

using policy::Right;

grpc::Status SessionServiceImpl::GetInfo(grpc::ServerContext* context, const v1::GetInfoRequest*,
                                         v1::GetInfoResponse* response) {
  return Answer(
      store_, *context, "get info", Right::kRead, [&](const Caller& caller) -> absl::Status {
        SEALIFT_ASSIGN_OR_RETURN(const store::MigrationCounts counts, store_.CountMigrations());
        response->set_controller_version(rpc::kVersion);
        response->set_api_version(rpc::kApiVersion);
        response->set_identity(caller.uri);
        for (const Right right : caller.rights) {
          response->add_rights(std::string(policy::RightName(right)));
        }
        response->set_migrations(counts.all);
        response->set_migrations_in_the_clear(counts.in_the_clear);
        return absl::OkStatus();
      });
}

// Whatever the request asks for, the certificate names the caller.
grpc::Status SessionServiceImpl::RenewCertificate(grpc::ServerContext* context,
                                                  const v1::RenewCertificateRequest* request,
                                                  v1::RenewCertificateResponse* response) {
  return Answer(store_, *context, "renew certificate", Right::kRead,
                [&](const Caller& caller) -> absl::Status {
                  SEALIFT_ASSIGN_OR_RETURN(const pki::Identity user,
                                           pki::ParseIdentity(caller.uri));
                  SEALIFT_ASSIGN_OR_RETURN(*response->mutable_certificate_chain_pem(),
                                           users_.Renew(user, request->certificate_request_pem()));
                  return absl::OkStatus();
                });
}

}  // namespace sealift::controller
