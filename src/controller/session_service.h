// SessionService of the API: who am I talking to, who am I, and a fresh certificate.
#pragma once

#include "controller/users.h"
#include "sealift/v1/controller.grpc.pb.h"
#include "store/store.h"

namespace sealift::controller {

// SessionServiceImpl: everything handed in outlives it.
class SessionServiceImpl final : public v1::SessionService::Service {
 public:
  SessionServiceImpl(Users& users, store::Store& store) : users_(users), store_(store) {}

  grpc::Status GetInfo(grpc::ServerContext* context, const v1::GetInfoRequest* request,
                       v1::GetInfoResponse* response) override;
  grpc::Status RenewCertificate(grpc::ServerContext* context,
                                const v1::RenewCertificateRequest* request,
                                v1::RenewCertificateResponse* response) override;

 private:
  Users& users_;
  store::Store& store_;
};

}  // namespace sealift::controller
