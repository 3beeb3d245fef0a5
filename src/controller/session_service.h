// SessionService of the API: who am I talking to, who am I, and a fresh certificate.
#pragma once

#include "controller/event_log.h"
#include "pki/certificate.h"
#include "sealift/v1/controller.grpc.pb.h"

namespace sealift::controller {

// SessionServiceImpl: authority and log outlive it.
class SessionServiceImpl final : public v1::SessionService::Service {
 public:
  SessionServiceImpl(pki::CertificateAuthority& authority, EventLog& events)
      : authority_(authority), events_(events) {}

  grpc::Status GetInfo(grpc::ServerContext* context, const v1::GetInfoRequest* request,
                       v1::GetInfoResponse* response) override;
  grpc::Status RenewCertificate(grpc::ServerContext* context,
                                const v1::RenewCertificateRequest* request,
                                v1::RenewCertificateResponse* response) override;

 private:
  pki::CertificateAuthority& authority_;
  EventLog& events_;
};

}  // namespace sealift::controller
